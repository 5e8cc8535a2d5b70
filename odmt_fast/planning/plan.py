"""Which batch size, and which way of taking it, fits a machine and is fast on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.batch import Candidates, Collator
from odmt_fast.batch.sampler import UserSampler
from odmt_fast.config import Config
from odmt_fast.data.split import Split
from odmt_fast.models import SequentialModel
from odmt_fast.models.items.imt import IMT
from odmt_fast.planning.cards import Card
from odmt_fast.planning.footprint import Footprint, footprint
from odmt_fast.planning.heap import resident_bytes
from odmt_fast.planning.pace import Probe, Rates, timed
from odmt_fast.planning.ways import Way
from odmt_fast.training.memory import keep_freed_memory, release_freed_memory
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

_LOOKED_AT = 8
"""Batches of a size whose largest is counted."""
_FIRST_PROBE, _PROBE_FACTOR, _PROBE_STEPS = 16, 2, 4
_AS_FAST = 0.05
"""A smaller batch, or one pass, is picked where it is not slower by more than this."""
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """What is predicted of one way.

    Attributes:
        way: batch size and recomputation.
        counts: of a step of the largest of the first batches; without holes on a card.
        base: bytes that are taken beside the step's: the process with the model and its libraries
            less the parameters, on a card the features of all items.
        seconds: of a step of the mean batch.
        fits: whether `peak` is within the memory.
    """

    way: Way
    counts: Footprint
    base: int
    seconds: float
    fits: bool

    @property
    def peak(self) -> int:
        """Most bytes at a time."""
        return self.base + self.counts.parameters + self.counts.grown

    @property
    def users_per_second(self) -> float:
        """In steps alone."""
        return self.way.batch_size / self.seconds


@dataclass(frozen=True)
class Plan:
    """What was found.

    Attributes:
        rows: by way and batch size; a way ends with the first row that does not fit.
        memory: bytes that may be taken.
        pick: the fastest row that fits, or one nearly as fast that asks for less.
        probes: what the seconds rest on; none of a card's.
    """

    rows: tuple[Row, ...]
    memory: int
    pick: Row
    probes: tuple[Probe, ...] = ()


class _Steps:
    """The steps of a run of `config`, of any size, on the CPU."""

    def __init__(self, model: SequentialModel, split: Split, config: Config) -> None:
        candidates = Candidates(config.model, split.popularity, config.training.seed, split.offered)
        self.model, self.config = model, config
        self.collate = Collator(split.train, config.model.max_seq_len, model.sources, candidates)
        self.users = len(self.collate.users)
        if not self.users:
            raise ValueError(
                f"none of the {len(split.train)} users has 2 training items; lower the k-core "
                "filter or bring more interactions"
            )

    def items(self, batch_size: int) -> int:
        """Distinct items of the batch that `of` counts."""
        users, step, _ = self._largest(batch_size)
        return self.collate.sizes(users, 1, step).items

    def of(self, way: Way) -> tuple[Footprint, float]:
        """Of the largest of the first batches, and the work of their mean as a share of its."""
        users, step, mean = self._largest(way.batch_size)
        with _taken(self.model, way):
            batch = self.collate.index(users, 1, step)
            return footprint(self.model, batch, self.model.sources, self.config), mean

    def seconds(self, way: Way) -> float:
        """Of a step on the batch that `of` counts, made and taken; the model keeps its weights."""
        users, number, _ = self._largest(way.batch_size)
        training = self.config.training
        before = {name: x.clone() for name, x in self.model.state_dict().items()}
        step = TrainingStep(
            self.model.train(),
            adamw(self.model, training),
            MixedPrecision(training.precision, _CPU),
            training.clip_norm,
        )
        noise = torch.zeros(1, dtype=torch.int64)
        with _taken(self.model, way):
            found = timed(lambda: step(replace(self.collate(users, 1, number), noise=noise), 1))
        self.model.load_state_dict(before)
        self.model.zero_grad(set_to_none=True)
        return found

    def _largest(self, batch_size: int) -> tuple[NDArray[np.int64], int, float]:
        """Users and number of the largest of the first batches, and what the mean is of its."""
        sampler = UserSampler(self.collate.users, batch_size, self.config.training.seed)
        order = sampler.order(1)
        steps = range(max(1, min(_LOOKED_AT, self.users // batch_size)))
        sizes = [self.collate.sizes(sampler.batch(order, step), 1, step) for step in steps]
        work = [sum(size.tokens) + size.items + size.rows for size in sizes]
        step = max(steps, key=work.__getitem__)
        return sampler.batch(order, step), step, sum(work) / len(work) / work[step]


def plan(
    model: SequentialModel,
    split: Split,
    config: Config,
    *,
    memory: int,
    batch_sizes: Sequence[int],
    micro_items: Sequence[int] = (),
    card: Card | None = None,
    table_bytes: int = 0,
    probe_seconds: float = 20.0,
    say: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Counts the step of every way, and predicts how long it takes.

    On a CPU some short steps are timed first. Of a `card` nothing is measured: its seconds follow
    from bytes and FLOP at the rates that its maker states, its bytes are those of the tensors that
    the CPU's operators make.

    Args:
        model: fresh, on the CPU; keeps its weights.
        split: its `train` sequences give the batches.
        config: of the run, its precision resolved.
        memory: bytes that the process may take, or the card has.
        batch_sizes: users of a step.
        micro_items: items at a time; beside these ways, all items pass at once.
        card: to plan for; None = this machine.
        table_bytes: features that lie in the card's memory.
        probe_seconds: about so much time is spent on timed steps.
        say: is told what happens.

    Raises:
        ValueError: no way fits, an argument is no size, or the ID table is sparse.
    """
    for name, values in (("batch-size", batch_sizes), ("micro-items", micro_items)):
        if wrong := [value for value in values if value < 1]:
            raise ValueError(f"--{name} {wrong[0]} must be at least 1")
    if config.model.id_table == "sparse":
        raise ValueError(
            "plan cannot count model.id_table=sparse, whose rows are found by computing; add "
            "--set model.id_table=dense, which takes no less"
        )
    steps = _Steps(model, split, config)
    if not can_recompute(model):
        micro_items = ()
    ways = _ways(steps.users, batch_sizes, micro_items)
    probes: tuple[Probe, ...] = ()
    pace: Rates | Card
    if card is not None:
        pace, base = card, table_bytes
        counted = list(_counted(steps, ways, base, memory, say))
    else:
        # Before any step is computed: what one leaves in the heap would be counted again.
        keep_freed_memory()
        counted = list(_counted(steps, ways, _beside(model), memory, say))
        probes = tuple(_probes(steps, memory, probe_seconds, say))
        pace = Rates.of(probes)
        release_freed_memory()
        base = _beside(model)
    rows = list[Row]()
    for way, counts, mean in counted:
        if not any(not row.fits and row.way.micro_items == way.micro_items for row in rows):
            rows.append(_row(way, counts, mean, base, memory, pace, config))
    if not any(row.fits for row in rows):
        raise _nothing_fits(rows, steps, base, memory)
    return Plan(tuple(rows), memory, pick(rows), probes)


def pick(rows: Sequence[Row]) -> Row:
    """Of those that fit the fastest, or the smallest that is nearly as fast, in one pass if any."""
    fitting = [row for row in rows if row.fits]
    fastest = max(row.users_per_second for row in fitting)
    enough = [row for row in fitting if row.users_per_second >= (1 - _AS_FAST) * fastest]
    return min(enough, key=lambda row: (row.way.batch_size, -(row.way.micro_items or 2**62)))


def _ways(users: int, batch_sizes: Sequence[int], micro_items: Sequence[int]) -> Iterator[Way]:
    """By size; of the sizes that hold all users the smallest is enough."""
    sizes = sorted(set(batch_sizes))
    whole = next((size for size in sizes if size >= users), None)
    for size in sizes:
        if whole is None or size <= whole:
            for items in (None, *sorted(set(micro_items), reverse=True)):
                yield Way(size, items)


def _counted(
    steps: _Steps, ways: Iterable[Way], base: int, memory: int, say: Callable[[str], None]
) -> Iterator[tuple[Way, Footprint, float]]:
    """What `_Steps.of` finds of every way, up to the first size of it that does not fit."""
    ended = set[int | None]()
    for way in ways:
        if way.micro_items in ended:
            continue
        if way.micro_items is not None and way.micro_items >= steps.items(way.batch_size):
            continue  # one part of all items is encoded twice for nothing
        say(f"counting {way.batch_size} users, {way}")
        counts, mean = steps.of(way)
        yield way, counts, mean
        if base + counts.alive > memory:
            ended.add(way.micro_items)


def _row(
    way: Way,
    counts: Footprint,
    mean: float,
    base: int,
    memory: int,
    pace: Rates | Card,
    config: Config,
) -> Row:
    if isinstance(pace, Card):
        narrow = config.training.precision in ("bf16", "fp16")
        seconds = pace.seconds(counts.made, counts.flop, counts.calls, narrow=narrow)
        counts = replace(counts, holes=0)
    else:
        seconds = pace.seconds(counts)
    peak = base + counts.parameters + counts.grown
    return Row(way, counts, base, seconds * mean, peak <= memory)


def _nothing_fits(rows: Sequence[Row], steps: _Steps, base: int, memory: int) -> ValueError:
    """Says how far away the memory is, and what would help."""
    counts, _ = steps.of(Way(1))
    least = base + counts.parameters + counts.grown
    asked = f"{gib(memory)} are there"
    if least <= memory:
        smallest = min(rows, key=lambda row: row.peak)
        return ValueError(
            f"no batch size asked for fits: {smallest.way.batch_size} users ({smallest.way}) take "
            f"{gib(smallest.peak)}, {asked}; a batch of one user takes {gib(least)}: give a "
            "smaller --batch-size or more --memory"
        )
    return ValueError(
        f"not even a batch of one user fits: it takes {gib(least)}, {asked}; "
        f"{gib(base)} are taken beside the model, {gib(counts.parameters)} by its weights, "
        f"{gib(counts.optimizer)} by the optimiser; give more --memory, or lower "
        "--set model.width=N"
    )


def gib(size: float) -> str:
    """A number of bytes in words."""
    return f"{size / 2**30:.2f} GiB"


def _probes(
    steps: _Steps, memory: int, seconds: float, say: Callable[[str], None]
) -> Iterator[Probe]:
    """Times larger and larger batches while there is time."""
    size, end, last = min(_FIRST_PROBE, steps.users), time.monotonic() + seconds, 0.0
    while True:
        counts, _ = steps.of(Way(size))
        fits = _beside(steps.model) + counts.parameters + counts.grown <= memory
        if last and not fits:
            return
        say(f"timing {size} users")
        last = steps.seconds(Way(size))
        yield Probe(size, counts, last)
        coming = _PROBE_FACTOR * _PROBE_STEPS * last
        if size * _PROBE_FACTOR > steps.users or time.monotonic() + coming > end:
            return
        size *= _PROBE_FACTOR


def _beside(model: SequentialModel) -> int:
    """What this process holds beside the parameters of the model."""
    own = sum(x.nbytes for x in (*model.parameters(), *model.buffers()))
    return max(0, (resident_bytes() or own) - own)


def can_recompute(model: SequentialModel) -> bool:
    """Whether its items can pass in micro-batches."""
    items = model.items
    return isinstance(items, IMT) and items.id_projection.out_features % 4 == 0


@contextmanager
def _taken(model: SequentialModel, way: Way) -> Iterator[None]:
    """Within it the model's items pass in this way."""
    items = model.items
    if not isinstance(items, IMT):
        yield
        return
    before = items.micro_items, items.recompute
    items.micro_items, items.recompute = way.micro_items, False
    try:
        yield
    finally:
        items.micro_items, items.recompute = before
