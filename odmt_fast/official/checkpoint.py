"""Checkpoints as people keep them: whole, wrapped by DDP or torch.compile, with an optimizer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from odmt_fast.official.facade import ODMT
from odmt_fast.official.reference import Parameters
from odmt_fast.official.state import listed
from odmt_fast.storage import write_atomically

_OPTIMIZER_KEYS = ("optimizer", "optimizer_state_dict")


def optimizer_state(
    model: ODMT,
    optimizer: torch.optim.Optimizer,
    checkpoint: Mapping[str, Any],
    parameter_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The state of an official optimizer (Adam, AdamW, ...) for `optimizer` over our parameters.

    >>> optimizer.load_state_dict(optimizer_state(model, optimizer, checkpoint))

    Args:
        model: of the same architecture; nothing is changed.
        optimizer: over the parameters of `model`, to be loaded.
        checkpoint: the official optimizer's ``state_dict()``, or a checkpoint that holds it as
            ``optimizer`` or ``optimizer_state_dict``.
        parameter_names: official names in the order of the official optimizer; None is the order
            of the official model's ``parameters()``.

    Returns:
        A state dict for ``optimizer.load_state_dict``, with the options (learning rate, betas, ...)
        of the official one.

    Raises:
        ValueError: it is no optimizer state, its parameters are not those of the model, or its
            groups have different options, which fused parameters cannot follow.
    """
    theirs = _optimizer_in(checkpoint)
    names = list(parameter_names or _official_order(model))
    options = _options(theirs["param_groups"])
    indices = [index for group in theirs["param_groups"] for index in group["params"]]
    if len(indices) != len(names):
        raise ValueError(
            f"the optimizer has {len(indices)} parameters, the model {len(names)}; pass "
            "parameter_names, the official names in the optimizer's order, without frozen ones"
        )
    by_name = {
        name: theirs["state"][index]
        for name, index in zip(names, indices, strict=True)
        if index in theirs["state"]
    }
    shapes = {
        name: value.shape
        for name, value in model.official_keys().to_official(dict(model.named_parameters())).items()
    }
    for name, entry in by_name.items():
        for field, value in entry.items():
            if _per_element(value) and value.shape != shapes.get(name):
                raise ValueError(
                    f"the optimizer's {field} at the place of {name} is {tuple(value.shape)}, "
                    f"the parameter {tuple(shapes.get(name, ()))}; pass parameter_names in the "
                    "optimizer's order"
                )
    states = model.official_keys().join_entries(by_name)
    ours = {parameter: name for name, parameter in model.named_parameters()}
    translated = optimizer.state_dict()
    translated["state"] = {}
    for group, saved in zip(optimizer.param_groups, translated["param_groups"], strict=True):
        saved.update({name: value for name, value in options.items() if name in saved})
        for parameter, index in zip(group["params"], saved["params"], strict=True):
            if (ours_name := ours.get(parameter, "")) in states:
                translated["state"][index] = states[ours_name]
    return translated


def save(
    path: str | os.PathLike[str],
    model: ODMT,
    **others: Any,
) -> None:
    """Writes ``{"model_state_dict": ...}`` with official keys, for the official code to load.

    Args:
        path: of the file, written whole or not at all.
        model: its weights are moved to the CPU.
        others: further entries of the checkpoint, such as ``epoch=30``.
    """
    state = {key: value.cpu() for key, value in model.state_dict(official=True).items()}
    write_atomically(
        Path(path), lambda part: torch.save({"model_state_dict": state, **others}, part)
    )


def _optimizer_in(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    for found in (checkpoint, *(checkpoint.get(key) for key in _OPTIMIZER_KEYS)):
        if isinstance(found, Mapping) and {"state", "param_groups"} <= found.keys():
            return found
    raise ValueError(
        f"no optimizer is found in a checkpoint with {listed(checkpoint)}; pass the optimizer's "
        f"state_dict(), or one under {' or '.join(_OPTIMIZER_KEYS)}"
    )


def _official_order(model: ODMT) -> list[str]:
    """Official names in the order of the official ``parameters()``; no value is drawn."""
    dims = {name: tokens.dim for name, tokens in model.features.items()}
    with torch.device("meta"):
        made = Parameters(model.config, model.item_num, dims)
    return [name for name, _ in made.named_parameters()]


def _options(groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all groups agree on; how the update is computed is the target's own choice."""
    own = {"params", "foreach", "fused", "capturable", "differentiable"}
    first, *others = [{k: v for k, v in group.items() if k not in own} for group in groups]
    for group in others:
        different = [name for name in first if first[name] != group.get(name)]
        if different:
            raise ValueError(
                f"the optimizer's groups differ in {', '.join(different)}; only one set of options "
                "can be kept for fused parameters, so set them equal before translating"
            )
    return first


def _per_element(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0
