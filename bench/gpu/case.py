"""A case of an operator bench: variants of one computation, timed against each other."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.gpu.rates import Rates
from bench.gpu.stopwatch import Stopwatch, Times

Tensors = tuple[Tensor, ...]

LARGEST_DISTANCE = 0.05
"""Relative distance to the reference from which on a 16-bit result is wrong."""


@dataclass(frozen=True)
class Setting:
    """Where and at which size a section runs.

    Attributes:
        device: of all tensors.
        tiny: shapes that a CPU does in no time, to try the harness; else the official ones.
        deadline: `time.monotonic` after which no further rival is prepared.
    """

    device: torch.device
    tiny: bool = False
    deadline: float = float("inf")

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` under torch.compile; without code generation where only the harness runs."""
        return torch.compile(
            function, dynamic=False, backend="eager" if self.tiny else "inductor", fullgraph=False
        )


@dataclass(frozen=True)
class Variant:
    """One implementation.

    Attributes:
        name: for the table; names that start with "ours" are the project's.
        forward: computes the outputs.
        leaves: what gradients are taken for.
        upstream: gradients of the outputs.
        comparable: makes outputs and gradients comparable with those of the case's reference; None
            where the function computed is another one, which `note` explains.
        note: what differs.
        slow_start: its first run compiles for so long that what came before is timed first.
    """

    name: str
    forward: Callable[[], Tensor | Tensors]
    leaves: Tensors
    upstream: Tensors
    comparable: Callable[[Tensors], Tensors] | None = tuple
    note: str = ""
    slow_start: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is the project's."""
        return self.name.startswith("ours")

    def outputs(self) -> Tensors:
        """The forward, always a tuple."""
        out = self.forward()
        return (out,) if isinstance(out, Tensor) else tuple(out)

    def gradients(self, outputs: Tensors) -> Tensors:
        """The backward."""
        return torch.autograd.grad(outputs, self.leaves, self.upstream)


@dataclass(frozen=True)
class Missing:
    """A variant that cannot run here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Work:
    """What has to be done at least.

    Attributes:
        flop: (forward, backward), none twice.
        moved_bytes: (forward, backward), inputs and what is kept read once, outputs written once.
    """

    flop: tuple[float, float]
    moved_bytes: tuple[float, float]

    def floor(self, rates: Rates) -> dict[str, Any]:
        """Milliseconds of each direction at the device's rates, and which rate bounds the sum."""
        by_matmul = [1e3 * flop / rates.matmul_flop for flop in self.flop]
        by_copy = [1e3 * moved / rates.copy_bytes for moved in self.moved_bytes]
        forward, backward = (max(pair) for pair in zip(by_matmul, by_copy, strict=True))
        return {
            "forward": forward,
            "backward": backward,
            "both": forward + backward,
            "bound": "matmul" if sum(by_matmul) > sum(by_copy) else "copy",
        }


@dataclass(frozen=True)
class Case:
    """Variants of one computation; the first is the reference the others are compared with.

    Attributes:
        operator: its folder name.
        label: shapes and settings.
        work: the floor.
        variants: made one by one, each just before it is tried.
    """

    operator: str
    label: str
    work: Work
    variants: Iterator[Variant | Missing]


@dataclass
class _Prepared:
    variant: Variant
    peak_bytes: int
    distance: float | None
    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)


def measure(
    case: Case, rates: Rates, setting: Setting, *, seconds: float = 4.0
) -> Iterator[dict[str, Any]]:
    """A row per variant, see `bench.gpu.results`; one that comes again replaces the earlier one.

    Every variant is warmed up and compared, then all are timed in turn, round after round, so that
    what the device does meanwhile meets them alike. A variant that fails gets a row with its error.
    Rows come before the first variant that starts slowly, and again, of all, at the end: where it
    takes the section's time or its process with it, the others have been measured.

    Args:
        case: what to measure.
        rates: of this process.
        setting: the device; its deadline ends the preparing of rivals.
        seconds: about how long the rounds take together.
    """
    watch = Stopwatch(setting.device)
    rows: dict[str, dict[str, Any]] = {}
    prepared: list[_Prepared] = []
    expected: Tensors | None = None
    timed = 0
    for variant in case.variants:
        head = {"operator": case.operator, "case": case.label, "variant": variant.name}
        rows[variant.name] = head
        if isinstance(variant, Missing):
            head["skipped"] = variant.reason
            continue
        head |= {"ours": variant.ours, "note": variant.note}
        if setting.left < 0 and not variant.ours:
            head["skipped"] = "the section's time was up"
            continue
        if variant.slow_start and not timed:
            timed = len(prepared)
            _time(prepared, rows, case.work, rates, watch, seconds / 2)
            yield from (row for name, row in rows.items() if name != variant.name)
        try:
            results, peak = _warm_up(variant, watch)
        except Exception as error:  # whatever a rival raises must not stop the others
            head["error"] = f"{type(error).__name__}: {error}"[:500]
            _free(setting.device)
            continue
        comparable = None if variant.comparable is None else variant.comparable(results)
        del results
        if comparable is not None and expected is None and not prepared:
            expected = comparable
        distance = _distance(comparable, expected)
        if distance is not None and not distance <= LARGEST_DISTANCE:
            head["error"] = f"differs from the reference by {distance:.2g} of its norm"
        prepared.append(_Prepared(variant, peak, distance))
    del expected
    if len(prepared) > timed:
        _time(prepared, rows, case.work, rates, watch, seconds)
    prepared.clear()
    _free(setting.device)
    yield from rows.values()


def _time(
    prepared: Sequence[_Prepared],
    rows: dict[str, dict[str, Any]],
    work: Work,
    rates: Rates,
    watch: Stopwatch,
    seconds: float,
) -> None:
    """Times all that is prepared, from the start, and fills in their rows."""
    _rounds(prepared, watch, seconds)
    floor = work.floor(rates)
    for item in prepared:
        both = [a + b for a, b in zip(item.forward, item.backward, strict=True)]
        rows[item.variant.name] |= {
            "forward": asdict(Times.of(item.forward)),
            "backward": asdict(Times.of(item.backward)),
            "both": asdict(Times.of(both)),
            "rounds": len(both),
            "floor": floor,
            "moved_bytes": sum(work.moved_bytes),
            "peak_bytes": item.peak_bytes,
            "distance": item.distance,
        }


def _warm_up(variant: Variant, watch: Stopwatch) -> tuple[Tensors, int]:
    """Outputs and gradients, and what a run needs beyond what was there; compiles on the way."""
    variant.gradients(variant.outputs())
    watch.wait()
    cuda = watch.device.type == "cuda"
    if cuda:
        before = torch.cuda.memory_allocated(watch.device)
        torch.cuda.reset_peak_memory_stats(watch.device)
    outputs = variant.outputs()
    gradients = variant.gradients(outputs)
    watch.wait()
    peak = torch.cuda.max_memory_allocated(watch.device) - before if cuda else 0
    return (*(out.detach() for out in outputs), *gradients), peak


def _distance(got: Tensors | None, expected: Tensors | None) -> float | None:
    """The largest relative distance of a tensor, in 2-norms; NaN where a result is not finite."""
    if got is None or expected is None:
        return None
    distances = []
    for a, b in zip(got, expected, strict=True):
        norm = float(torch.linalg.vector_norm(b, dtype=torch.float32))
        away = float(torch.linalg.vector_norm((a - b).float()))
        distances.append(away / norm if norm else away)
    return max(distances, key=lambda x: float("inf") if x != x else x)


def _rounds(prepared: Sequence[_Prepared], watch: Stopwatch, seconds: float) -> None:
    """Fills in the times: 5 to 50 rounds, as many as `seconds` allow."""
    for item in prepared:
        item.forward.clear()
        item.backward.clear()
    end = time.monotonic() + seconds
    for count in range(50):
        if count >= 5 and time.monotonic() > end:
            return
        marks = [watch.start(item.variant.outputs, item.variant.gradients) for item in prepared]
        watch.wait()
        for item, mark in zip(prepared, marks, strict=True):
            forward, backward = watch.milliseconds(mark)
            item.forward.append(forward)
            item.backward.append(backward)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
