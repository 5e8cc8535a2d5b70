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
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from odmt_fast.training.errors import CheckpointError

LAST = Path("last", "checkpoint.safetensors")
BEST = Path("best", "model.safetensors")

_HEADER = "odmt_fast"
_WEIGHTS = "model/"


def save(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes `tensors` and the JSON values of `header` to `path`, atomically and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(_independent(tensors), part, metadata={_HEADER: json.dumps(header)})
    replace_durably(part, path)


def replace_durably(part: Path, path: Path) -> None:
    """Renames the finished file `part` to `path`, both its content and its name on disk."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU, in memory of their own) and the header of a checkpoint.

    Raises:
        CheckpointError: `path` is damaged or was not written by `save`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}; start again without it") from error
    if _HEADER not in metadata:
        raise CheckpointError(f"{path} is not a checkpoint of odmt_fast")
    return tensors, json.loads(metadata[_HEADER])


def load_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of a model, from wherever a run keeps one.

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
    return weights_of(load(file)[0])


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's state dict among the tensors of a checkpoint."""
    return _under(tensors, _WEIGHTS)


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


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU copies where needed: the format refuses tensors that share memory."""
    independent: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        independent[name] = tensor
    return independent
