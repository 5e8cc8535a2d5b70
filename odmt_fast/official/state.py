"""State dicts: ours (fused, branches stacked) to the official keys and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

State = Mapping[str, Tensor]
# A further modality is its own prefix.
_PREFIXES = {"id": "id", "text": "t", "image": "v"}
_MODEL_KEYS = ("model_state_dict", "state_dict", "model")
_WRAPPERS = frozenset({"module", "_orig_mod"})  # DistributedDataParallel, torch.compile
Joined = tuple[str, ...]
"""Official keys whose values are concatenated along the first dimension."""

# Our block parameter -> the official ones it is the concatenation of.
_BLOCK = {
    "qkv": (
        "multi_head_attention.w_Q.weight",
        "multi_head_attention.w_K.weight",
        "multi_head_attention.w_V.weight",
    ),
    "out": ("multi_head_attention.fc.weight",),
    "attention_norm.weight": ("multi_head_attention.layer_norm.weight",),
    "attention_norm.bias": ("multi_head_attention.layer_norm.bias",),
    "up.weight": ("feed_forward.w_1.weight",),
    "up.bias": ("feed_forward.w_1.bias",),
    "down.weight": ("feed_forward.w_2.weight",),
    "down.bias": ("feed_forward.w_2.bias",),
    "norm.weight": ("feed_forward.layer_norm.weight",),
    "norm.bias": ("feed_forward.layer_norm.bias",),
}


def prefix(branch: str) -> str:
    """``t`` for "text": the official start of ``t_user_encoder`` and ``t_dnns``."""
    return _PREFIXES.get(branch, branch)


# Ours -> what the official IMT owns and never uses.
DEAD = {
    "unused.token_type_embeddings_weight": "IMT.token_type_embeddings.weight",
    "unused.layer_norm_weight": "IMT.layer_norm.weight",
    "unused.layer_norm_bias": "IMT.layer_norm.bias",
}


def _entries(
    branches: Sequence[str], imt_layers: int, user_layers: int
) -> Iterator[tuple[str, Joined | list[Joined]]]:
    """(our key, official keys): a tuple is concatenated, a list of tuples also stacked."""
    encoders = [f"{prefix(b)}_user_encoder.transformer_encoder" for b in branches]
    yield "items.id_embedding.weight", ("id_encoder.weight",)
    yield "users.positions", [(f"{e}.position_embedding.weight",) for e in encoders]
    for field in ("weight", "bias"):
        yield f"items.id_projection.{field}", (f"id_proj.{field}",)
        for name in branches[1:]:
            yield f"items.projections.{name}.{field}", (f"{name}_proj.{field}",)
        for number, theirs in ((0, 0), (1, 2)):
            heads: list[Joined] = [(f"{prefix(b)}_dnns.{theirs}.{field}",) for b in branches]
            yield f"items.heads.{number}.{field}", heads
        yield f"users.norm.{field}", [(f"{e}.layer_norm.{field}",) for e in encoders]
    for ours, parts in _BLOCK.items():
        for layer in range(imt_layers):
            block = f"IMT.transformer_blocks.{layer}"
            yield f"items.blocks.{layer}.{ours}", tuple(f"{block}.{part}" for part in parts)
        for layer in range(user_layers):
            yield (
                f"users.blocks.{layer}.{ours}",
                [
                    tuple(f"{e}.transformer_blocks.{layer}.{part}" for part in parts)
                    for e in encoders
                ],
            )
    for ours, theirs_dead in DEAD.items():
        yield ours, (theirs_dead,)


class Keys:
    """The translation for one architecture.

    Args:
        branches: "id" and the modalities.
        imt_layers: layers of the item Transformer.
        user_layers: layers of a user encoder.
    """

    def __init__(self, branches: Sequence[str], imt_layers: int, user_layers: int) -> None:
        self._entries = dict(_entries(branches, imt_layers, user_layers))

    def official(self) -> list[str]:
        """All official keys."""
        return [key for group in self._entries.values() for key in _flat(group)]

    def are_official(self, state: State) -> bool:
        """Whether a state dict has official keys rather than ours."""
        return not state.keys().isdisjoint(self.official())

    def to_official(self, state: State) -> dict[str, Tensor]:
        """Official keys and shapes; every value is a view of ours, with its gradient history.

        Parameters and gradients come without the dead keys.
        """
        result: dict[str, Tensor] = {}
        for ours, group in self._entries.items():
            if ours in DEAD and ours not in state:
                continue
            if isinstance(group, tuple):
                result.update(zip(group, state[ours].chunk(len(group)), strict=True))
            else:
                for value, keys in zip(state[ours].unbind(0), group, strict=True):
                    result.update(zip(keys, value.chunk(len(keys)), strict=True))
        return result

    def from_official(self, state: State) -> dict[str, Tensor]:
        """Our keys and shapes.

        Raises:
            RuntimeError: official keys are missing or unknown ones are there; all are named.
        """
        expected = set(self.official())
        missing, unknown = sorted(expected - state.keys()), sorted(state.keys() - expected)
        if missing or unknown:
            lines = [f"missing: {', '.join(missing)}"] if missing else []
            lines += [f"unexpected: {', '.join(unknown)}"] if unknown else []
            raise RuntimeError(
                f"the official state dict does not fit this model; {'; '.join(lines)}; build the "
                "model with the layers and modalities of the checkpoint, or take out what is no "
                "weight of it"
            )
        return {ours: _joined(group, state) for ours, group in self._entries.items()}

    def join_entries(self, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """What an optimizer keeps of each parameter, by our keys.

        Args:
            entries: official key -> field -> a tensor shaped like the parameter, or one number.

        Raises:
            ValueError: parts of one of our parameters lack an entry, or differ in a number.
        """
        result: dict[str, dict[str, Any]] = {}
        for ours, group in self._entries.items():
            parts = _flat(group)
            known = [key for key in parts if key in entries]
            if not known:
                continue
            if absent := sorted(set(parts) - set(known)):
                raise ValueError(
                    f"the optimizer has a state for {known[0]} and none for {', '.join(absent)}, "
                    "which are one parameter here; start with a fresh optimizer"
                )
            result[ours] = {
                field: _entry(field, group, {key: entries[key][field] for key in parts})
                for field in entries[parts[0]]
            }
        return result


def _flat(group: Joined | list[Joined]) -> list[str]:
    return list(group) if isinstance(group, tuple) else [key for keys in group for key in keys]


def _joined(group: Joined | list[Joined], state: State) -> Tensor:
    if isinstance(group, list):
        return torch.stack([_joined(keys, state) for keys in group])
    return state[group[0]] if len(group) == 1 else torch.cat([state[key] for key in group])


def _entry(field: str, group: Joined | list[Joined], values: Mapping[str, Any]) -> Any:
    first, *others = values.values()
    if isinstance(first, Tensor) and first.dim() > 0:
        joined = _joined(group, values)
        # The two optimizers update their states in place.
        return joined.clone() if joined is first else joined
    if any(other != first for other in others):
        raise ValueError(
            f"the optimizer's {field} differs between {', '.join(values)}, which are one parameter "
            "here; start with a fresh optimizer"
        )
    return first.clone() if isinstance(first, Tensor) else first


def model_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of the model in `checkpoint`, without the names of wrappers.

    Args:
        checkpoint: a state dict, or a dict that holds one as ``model_state_dict``, ``state_dict``
            or ``model``; ``module.`` and ``_orig_mod.`` may stand anywhere in its keys.

    Raises:
        ValueError: no state dict is found, or two keys differ by wrappers only.
    """
    found: Mapping[str, Any] = checkpoint
    for key in _MODEL_KEYS:
        if isinstance(found.get(key), Mapping):
            found = found[key]
            break
    foreign = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ValueError(
            f"no model is found in a checkpoint with {listed(found)}; pass a state dict, or one "
            f"under {', '.join(_MODEL_KEYS)}"
        )
    state: dict[str, Tensor] = {}
    for key, value in found.items():
        bare = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if bare in state:
            raise ValueError(f"the state dict has {bare} twice, once as {key}; keep one of the two")
        state[bare] = value
    return state


def listed(keys: Mapping[str, Any]) -> str:
    """The first keys of a checkpoint, for a message."""
    names = [str(key) for key in keys]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
