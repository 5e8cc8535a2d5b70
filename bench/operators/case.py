"""A case of an operator bench: rivals in one computation, and the work it takes at least."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from bench.rates import Rates

Tensors = tuple[Tensor, ...]
T = TypeVar("T")

LARGEST_DISTANCE = 0.05
"""Relative distance to the reference from which on a 16-bit result is wrong; fp32 is far below."""


@dataclass(frozen=True)
class Setting:
    """Where and at which size the cases run.

    Attributes:
        device: "cuda" or "cpu".
        dtype: of activations.
        tiny: shapes that a CPU does in no time, to try the benches themselves.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    tiny: bool = False

    @property
    def cuda(self) -> bool:
        """Whether a GPU is measured."""
        return self.device == "cuda"

    @property
    def name(self) -> str:
        """Of the dtype, short."""
        return {torch.float32: "fp32", torch.bfloat16: "bf16"}[self.dtype]

    def size(self, *, tiny: T, cpu: T, cuda: T) -> T:
        """The size for where it runs; widths are the official ones on both devices."""
        return tiny if self.tiny else cuda if self.cuda else cpu

    def randn(self, *shape: int) -> Tensor:
        """Normal numbers of the dtype on the device."""
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def master(self, *shape: int) -> Tensor:
        """A weight in fp32, spread so that a map keeps the size of what it gets."""
        return torch.randn(*shape, device=self.device) * shape[-1] ** -0.5


@dataclass(frozen=True)
class Run:
    """An implementation with its tensors.

    Attributes:
        forward: computes the outputs.
        leaves: what gradients are taken for; none where there is no backward.
        upstream: gradients of the outputs.
        comparable: makes outputs and gradients comparable with those of the case's first
            implementation; None where another function is computed, or other noise drawn.
    """

    forward: Callable[[], Tensor | Tensors]
    leaves: Tensors = ()
    upstream: Tensors = ()
    comparable: Callable[[Tensors], Tensors] | None = tuple

    def step(self) -> Tensors:
        """Forward and backward: outputs, then gradients."""
        result = self.forward()
        outputs = (result,) if isinstance(result, Tensor) else tuple(result)
        if not self.leaves:
            return outputs
        gradients = torch.autograd.grad(outputs, self.leaves, self.upstream)
        return (*(out.detach() for out in outputs), *gradients)


class CannotRun(Exception):
    """Why an implementation does not run here."""


@dataclass(frozen=True)
class Variant:
    """An implementation before its tensors are made.

    Attributes:
        name: for the table; names that start with "ours" are the project's.
        make: makes it; raises `CannotRun`.
        note: what differs.
        slow_start: it compiles for so long that all others are timed before.
    """

    name: str
    make: Callable[[], Run]
    note: str = ""
    slow_start: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is the project's."""
        return self.name.startswith("ours")


@dataclass(frozen=True)
class Work:
    """What forward and backward have to do at least.

    Attributes:
        flop: none twice.
        moved_bytes: inputs and what is kept read once, outputs written once.
    """

    flop: float
    moved_bytes: float

    def floor(self, rates: Rates) -> tuple[float, str]:
        """Milliseconds at the device's rates, and the rate that bounds them."""
        by_matmul = 1e3 * self.flop / rates.matmul_flop if self.flop else 0.0
        by_copy = 1e3 * self.moved_bytes / rates.copy_bytes if self.moved_bytes else 0.0
        return max((by_matmul, "matmul"), (by_copy, "copy"))


@dataclass(frozen=True)
class Case(ABC):
    """Implementations of one computation at one size; tensors are made when they are asked for."""

    operator: ClassVar[str]
    setting: Setting

    @property
    @abstractmethod
    def label(self) -> str:
        """Shapes and settings, known without the tensors."""

    @property
    @abstractmethod
    def work(self) -> Work:
        """The floor."""

    @abstractmethod
    def variants(self) -> Iterator[Variant]:
        """The first is the one that the others are compared with."""

    @cached_property
    def expected(self) -> Tensors | None:
        """Results of the first implementation; None where it has not the memory."""
        try:
            run = next(self.variants()).make()
            return None if run.comparable is None else run.comparable(run.step())
        except torch.OutOfMemoryError:
            return None

    def distance(self, run: Run, results: Tensors) -> float | None:
        """The largest relative distance of a result, in 2-norms; infinite where one is not finite.

        None where results differ by design.
        """
        if run.comparable is None or self.expected is None:
            return None
        largest = 0.0
        for got, expected in zip(run.comparable(results), self.expected, strict=True):
            norm = float(torch.linalg.vector_norm(expected.float())) or 1.0
            away = float(torch.linalg.vector_norm((got - expected).float())) / norm
            largest = max(largest, away if away == away else float("inf"))
        return largest

    def compiled(
        self, name: str, make: Callable[[Callable[..., Any]], Run], function: Any
    ) -> list[Variant]:
        """`function` under torch.compile, where that is measured: on CUDA.

        The benches' own test takes the backend that generates no code.
        """
        if not (self.setting.cuda or self.setting.tiny):
            return []
        backend = "eager" if self.setting.tiny else "inductor"
        wrapped = torch.compile(function, dynamic=False, backend=backend)
        return [Variant(name, lambda: make(wrapped), slow_start=True)]


def leaf(*tensors: Tensor) -> Tensors:
    """Copies that want gradients."""
    return tuple(tensor.detach().clone().requires_grad_() for tensor in tensors)
