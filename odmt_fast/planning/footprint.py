"""What one step holds and does, counted (`odmt_fast.planning.counting`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.features.tokens import PackedTokens, TokenSource
from odmt_fast.models import SequentialModel
from odmt_fast.planning.counting import Counting, counting
from odmt_fast.planning.heap import heap_growth
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Footprint:
    """Bytes at the peak of a step, and its work.

    Attributes:
        parameters: weights and buffers.
        optimizer: what it remembers of every weight.
        tokens: features that the batch carries.
        saved: activations that wait for the backward when the forward is over.
        backward: what comes on top of these at the peak: gradients, and what is in work.
        holes: what the heap of a CPU process takes beyond what is alive; 0 where it is not known.
        made: bytes of all tensors that the step makes.
        flop: of its matrix products.
        calls: operators.
    """

    parameters: int
    optimizer: int
    tokens: int
    saved: int
    backward: int
    holes: int
    made: int
    flop: float
    calls: int

    @property
    def alive(self) -> int:
        """Bytes of tensors at the peak, parameters included."""
        return self.parameters + self.optimizer + self.tokens + self.saved + self.backward

    @property
    def grown(self) -> int:
        """What a process with the model adds to its memory, the heap's holes included."""
        return self.alive - self.parameters + self.holes


def footprint(
    model: SequentialModel, batch: Batch, sources: Sequence[TokenSource], config: Config
) -> Footprint:
    """Of the step of `config` on `batch`, whose tokens are made of the sizes in `sources`.

    Nothing is computed or changed: the model keeps its weights and ends without gradients.

    Args:
        model: on the CPU, its recomputation set.
        batch: index arrays, on the CPU.
        sources: tell how many tokens an item has, and of which kind.
        config: its precision resolved.
    """
    model.train().zero_grad(set_to_none=True)
    with counting() as counts:
        run = _Run(model, batch, sources, config, counts)
        taken = heap_growth(run)
        peak = counts.peak
        found = Footprint(
            parameters=_bytes([*model.parameters(), *model.buffers()]),
            optimizer=run.optimizer,
            tokens=run.tokens,
            saved=run.forward - run.tokens - run.optimizer,
            backward=peak - run.forward,
            holes=0 if taken is None else max(0, taken - peak),
            made=counts.made,
            flop=counts.flop,
            calls=counts.calls,
        )
        model.zero_grad(set_to_none=True)
    return found


class _Run:
    """Steps of a run that begins with the first call; notes what is alive on the way."""

    forward = optimizer = tokens = 0

    def __init__(
        self,
        model: SequentialModel,
        batch: Batch,
        sources: Sequence[TokenSource],
        config: Config,
        counts: Counting,
    ) -> None:
        self._of = model, batch, sources, config
        self._counts = counts
        self._step: TrainingStep | None = None

    def __call__(self) -> None:
        model, batch, sources, config = self._of
        counts, first = self._counts, self._step is None
        if self._step is None:
            self._batch = _with_tokens(batch, sources)
            self.tokens = counts.live
            optimizer = adamw(model, config.training)
            precision = MixedPrecision(config.training.precision, _CPU)
            self._step = TrainingStep(model, optimizer, precision, config.training.clip_norm)
        counts.reset()
        handle = model.register_forward_hook(lambda *_: setattr(self, "forward", counts.live))
        self._step(self._batch, 1)
        handle.remove()
        if first:
            own = [p.grad for p in model.parameters() if p.grad is not None]
            self.optimizer = counts.live - self.tokens - _bytes(own)


def _with_tokens(batch: Batch, sources: Sequence[TokenSource]) -> Batch:
    features = []
    for source in sources:
        lengths = source.counts(batch.own_items)
        values = torch.empty(int(lengths.sum()), source.dim, dtype=source.dtype)
        features.append(PackedTokens(values, lengths, source.max_length))
    return replace(batch, features=tuple(features), noise=torch.zeros(1, dtype=torch.int64))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
