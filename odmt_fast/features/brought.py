"""Encoders that somebody brings as code: ``--encoder module:factory`` or ``FILE.py:factory``.

docs/features.md shows some. `CustomEncoder` is all that is asked of one.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from odmt_fast.features.encoder import (
    DEFAULTS,
    Encoder,
    EncoderIdentity,
    EncoderOptions,
)
from odmt_fast.features.pictures import read_batches

_NAME = re.compile(r"(?P<module>.+):(?P<factory>[A-Za-z_]\w*)")


class CustomEncoder(Protocol):
    """What ``factory(device)`` returns; `device` is a torch.device, that of ``--device``.

    Attributes:
        name: of the encoder, with its version where it has one.
        digest: of everything that decides its numbers: `odmt_fast.features.weights_digest`
            (the module, *the settings). Features of another digest are refused.
        width: of a token.
        max_tokens: an upper bound of the tokens of an item.
    """

    name: str
    digest: str
    width: int
    max_tokens: int

    def encode(self, inputs: list[Any]) -> Sequence[Any]:
        """Token states [L, width] (tensors or arrays, L >= 1) of each text (str) or RGB PIL image.

        The same input gives the same numbers. The first token sums up the item.
        """


def is_code(name: str) -> bool:
    """Whether `name` is ``module:factory``, and not a folder that is called so."""
    return _NAME.fullmatch(name) is not None and not Path(name).exists()


class BroughtEncoder(Encoder[Any]):
    """A `CustomEncoder`, fed in batches and checked.

    Args:
        name: ``module:factory`` of an importable module, or ``FILE.py:factory``.
        modality: "text" or "image".
        options: batch_size, device, and threads that read pictures.

    Raises:
        ValueError: it cannot be loaded, or lacks what a `CustomEncoder` has.
    """

    def __init__(self, name: str, modality: str, options: EncoderOptions = DEFAULTS) -> None:
        self._name, self._modality, self._options = name, modality, options
        self.group = options.batch_size
        factory = _factory(name)
        try:
            self._custom: CustomEncoder = factory(options.torch_device)
        except Exception as error:
            raise ValueError(f"encoder={name!r} cannot be made: {_said(error)}") from error
        for attribute, kind in (
            ("name", str),
            ("digest", str),
            ("width", int),
            ("max_tokens", int),
        ):
            value = getattr(self._custom, attribute, None)
            if not isinstance(value, kind) or value in ("", 0):
                raise ValueError(
                    f"encoder={name!r} made a {type(self._custom).__name__} whose {attribute} is "
                    f"{value!r}; give it the {kind.__name__} that docs/features.md asks for"
                )
        if not callable(getattr(self._custom, "encode", None)):
            raise ValueError(
                f"encoder={name!r} made a {type(self._custom).__name__} without encode(inputs); "
                "docs/features.md shows one"
            )
        self.dim, self.max_length = self._custom.width, self._custom.max_tokens
        self.identity = EncoderIdentity(
            name=name,
            layer=None,
            weights=hashlib.sha256(self._custom.digest.encode()).hexdigest(),
            settings={"name": self._custom.name},
        )

    def encode(self, inputs: Sequence[Any]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [L, width]) in order."""
        for first, batch in self._batches(inputs):
            yield from enumerate(self._states(batch), start=first)

    def _batches(self, inputs: Sequence[Any]) -> Iterator[tuple[int, list[Any]]]:
        step = self._options.batch_size
        if self._modality == "image":
            yield from read_batches(
                inputs, lambda picture: picture, batch_size=step, threads=self._options.threads
            )
            return
        for first in range(0, len(inputs), step):
            yield first, list(inputs[first : first + step])

    def _states(self, batch: list[Any]) -> list[Tensor]:
        try:
            with torch.no_grad():
                found = [torch.as_tensor(x).float().cpu() for x in self._custom.encode(batch)]
        except Exception as error:
            raise ValueError(f"encoder={self._name!r} failed: {_said(error)}") from error
        if len(found) != len(batch):
            raise ValueError(
                f"encoder={self._name!r} returned tokens of {len(found)} inputs for {len(batch)}"
            )
        for states in found:
            if states.dim() != 2 or not (
                1 <= states.shape[0] <= self.max_length and states.shape[1] == self.dim
            ):
                raise ValueError(
                    f"encoder={self._name!r} returned tokens of shape {tuple(states.shape)}; with "
                    f"width={self.dim} and max_tokens={self.max_length} they must be "
                    f"[1..{self.max_length}, {self.dim}]"
                )
        return found


def _factory(name: str) -> Callable[[torch.device], CustomEncoder]:
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise ValueError(f"encoder={name!r} must read module:factory or FILE.py:factory")
    place = parts["module"]
    try:
        module = _of_file(name, place) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{place}.".startswith(f"{error.name}."):
            file = place.replace(".", "/")
            raise ValueError(
                f"encoder={name!r}: no module {error.name!r} is installed; "
                f"install it, or name its file: --encoder ./{file}.py:{parts['factory']}"
            ) from error
        raise ValueError(f"encoder={name!r} needs the module {error.name!r}; install it") from error
    except Exception as error:
        raise ValueError(f"encoder={name!r} cannot be loaded: {_said(error)}") from error
    factory: Any = getattr(module, parts["factory"], None)
    if not callable(factory):
        raise ValueError(f"encoder={name!r}: {place} has no function {parts['factory']!r}")
    made: Callable[[torch.device], CustomEncoder] = factory
    return made


def _of_file(name: str, place: str) -> ModuleType:
    """The module in a file, which stays off `sys.path`."""
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    title = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(title, path)
    assert spec is not None and spec.loader is not None, name
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[title]
        raise
    return module


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
