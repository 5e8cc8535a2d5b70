"""What an encoder is: options in, an identity that names its features, tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from odmt_fast.processes import launched, local_device

Modality = Literal["text", "image"]
Pooling = Literal["summary", "mean"]


class Picture(Protocol):
    """An image that is read when it is needed, as ``odmt_fast.data`` hands it out."""

    def load(self) -> Any:
        """The image as an RGB ``PIL.Image``."""

    def digest(self) -> str:
        """Digest of its stored bytes."""


@dataclass(frozen=True)
class EncoderOptions:
    """What is asked of an encoder besides its name; each ignores what it has no use for.

    Attributes:
        layer: index into the model's ``hidden_states`` (0 is the embedding layer of a transformer,
            negative counts from the end); None is ``last_hidden_state``. The official code reads
            12 (``model/feature_extractors.py``).
        max_tokens: text tokens kept of an item, special tokens included (official
            ``num_words_title``).
        lower_case: lower-case texts first, as officially (``utils/load_data.py::read_texts``).
        normalisation: "encoder" = the image processor that came with the weights; "official" =
            stretch to 224 x 224, mean and deviation 0.5 (``utils/dataset.py::LmdbEvalDataset``).
        width: token width of a built-in encoder; None is its own default.
        batch_size: texts or images encoded at once; it changes rounding at most.
        device: "cpu", "cuda", "cuda:N", or "auto" (cuda when there is one).
        pooling: "mean" or "summary" keeps one token of an item, the mean of all its tokens or the
            summary token; None keeps all, as officially. Training reads as many tokens as there
            are, so a pooled item costs a tenth or less.
        compute: "bf16" runs the matrix products in bfloat16 (autocast, norms stay fp32).
        threads: images read and decoded at the same time.
        offline: never ask the hub, only the local cache.
    """

    layer: int | None = None
    max_tokens: int = 30
    lower_case: bool = True
    normalisation: Literal["encoder", "official"] = "encoder"
    width: int | None = None
    batch_size: int = 64
    device: str = "auto"
    pooling: Pooling | None = None
    compute: Literal["fp32", "bf16"] = "fp32"
    threads: int = 4
    offline: bool = False

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_size", "threads", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        for name, allowed in (
            ("compute", ("fp32", "bf16")),
            ("normalisation", ("encoder", "official")),
            ("pooling", ("summary", "mean", None)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be {' or '.join(map(str, allowed))}"
                )

    @property
    def torch_device(self) -> torch.device:
        """`device` with "auto" resolved; of several processes each has a GPU of its own."""
        if self.device == "auto":
            found = "cuda" if torch.cuda.is_available() else "cpu"
        else:
            found = self.device
        device = torch.device(found)
        if device.type == "cuda" and device.index is None and launched().count > 1:
            return torch.device("cuda", local_device())
        return device


DEFAULTS = EncoderOptions()
"""Options nobody asked to change."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What two stores must share for their tokens to mean the same.

    Attributes:
        name: as the user gave it; for reading, not compared (a folder may have moved).
        layer: index into the hidden states, None = the last hidden state.
        weights: sha256 of the parameters (or of the fitted state, or of the algorithm's name).
        settings: whatever else decides the numbers, such as the preprocessing.
    """

    name: str
    layer: int | None
    weights: str
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values for an index."""
        return asdict(self)


Input = TypeVar("Input")


class Encoder(ABC, Generic[Input]):
    """Turns texts or pictures into token states, a summary token first.

    Attributes:
        dim: width of a token.
        max_length: an upper bound of the tokens of an item.
        identity: names the features; complete only after `fit`.
        group: inputs whose numbers are computed together and may depend on each other in the last
            bits; an extraction is only interrupted between groups.
    """

    dim: int
    max_length: int
    group: int = 1
    identity: EncoderIdentity

    def fit(self, inputs: Sequence[Input], state: Path) -> None:
        """Learns from the whole catalogue what it needs; most encoders need nothing.

        Args:
            inputs: every text or picture of the catalogue that is not missing.
            state: what `save` kept of an earlier fit; read instead of fitting when it is there.
        """
        return None

    def save(self, state: Path) -> None:
        """Keeps what `fit` learnt; most encoders learn nothing and write nothing."""
        return None

    @abstractmethod
    def encode(self, inputs: Sequence[Input]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index into `inputs`, float32 [L, dim] on the CPU, L >= 1), each once, any order.

        The same inputs give the same numbers, whatever was encoded before. The inputs less those
        that were yielded first in some whole `group`s (in their order, without gaps) yield what
        would have come next.
        """
