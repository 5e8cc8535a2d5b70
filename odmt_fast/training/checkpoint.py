"""Checkpoints: one safetensors file each, replaced as a whole or not at all, nothing pickled.

``checkpoints/last/checkpoint.safetensors`` holds a whole run: ``model/<key>`` (the state dict),
``optimizer/<parameter>/<state>``, ``loss/pending`` (steps not logged yet), and in the header
everything that is no tensor, as JSON; what is random is a function of the configuration and the
position (`odmt_fast.randomness`). One file, because two could not be replaced together: a process
killed at any moment leaves the old one or the new one.
``checkpoints/best/model.safetensors`` holds the weights of the best epoch.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from odmt_fast.storage import DamagedFileError, load_tensors, save_tensors
from odmt_fast.training.errors import CheckpointError

LAST = Path("last", "checkpoint.safetensors")
BEST = Path("best", "model.safetensors")

_WEIGHTS = "model/"


def save(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes `tensors` and the JSON values of `header` to `path`, atomically and durably."""
    save_tensors(path, tensors, header)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU, in memory of their own) and the header of a checkpoint.

    A file of odmt_fast 0.1 carries no digest: it is read unchecked, with a warning.

    Raises:
        CheckpointError: `path` is damaged or was not written by `save`.
    """
    try:
        return load_tensors(path)
    except DamagedFileError as error:
        if (undigested := _load_0_1(path)) is not None:
            warnings.warn(
                f"{path} was written by odmt_fast 0.1 without a digest and is read unchecked",
                stacklevel=2,
            )
            return undigested
        remedy = "put back a copy of it, or train with --fresh to make it anew"
        if path.name == BEST.name:
            remedy += "; --checkpoint last takes the weights of the last epoch instead"
        raise CheckpointError(f"{error}; {remedy}") from error


def _load_0_1(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """A checkpoint whose header stands in the metadata as it is; None if `path` is none."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["odmt_fast"])
            if not header.keys() >= {"progress", "identity"} and not header.keys() >= {
                "epoch",
                "score",
            }:
                return None
            return {name: file.get_tensor(name).clone() for name in file.keys()}, header  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, AttributeError):
        return None


def peek(path: Path) -> dict[str, Any]:
    """The header of a checkpoint without its tensors, unverified; empty where there is none.

    For what must be known before `load`, which refuses a damaged file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(json.loads((file.metadata() or {})["odmt_fast"])["header"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return {}
    return header if isinstance(header, dict) else {}


def load_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a model, from wherever a run keeps one; see `load_model`."""
    return load_model(path)[0]


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict of a model and the header beside it, from wherever a run keeps one.

    Args:
        path: a run directory (its best epoch), one of its checkpoint directories
            (``checkpoints/best``, ``checkpoints/last``), or a file in one of these.

    Raises:
        FileNotFoundError: there is no checkpoint.
        CheckpointError: the file is damaged or something else.
    """
    candidates = (path, path / BEST.name, path / LAST.name, path / "checkpoints" / BEST)
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"{path} holds no checkpoint; give a run directory, its checkpoints/best or "
            "checkpoints/last, or a .safetensors file"
        )
    tensors, header = load(file)
    weights = weights_of(tensors)
    if not weights:
        raise CheckpointError(f"{file} holds no weights of a model; give a checkpoint of a run")
    return weights, header


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's state dict among the tensors of a checkpoint.

    Earlier versions trained models with the dead parameters of the official one; they are left out.
    """
    state = _under(tensors, _WEIGHTS)
    return {key: value for key, value in state.items() if not key.startswith("unused.")}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of `model` under its names in a checkpoint."""
    return {_WEIGHTS + key: value for key, value in model.state_dict().items()}


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of the optimiser by parameter name; its settings come from the configuration."""
    return {
        f"optimizer/{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Gives every parameter of `optimizer` the state it has among `tensors`."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        index: values
        for index, parameter in enumerate(parameters)
        if (values := _under(tensors, f"optimizer/{names[parameter]}/"))
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name of the first floating tensor with a NaN or an infinity; None when all are finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            return name
    return None
