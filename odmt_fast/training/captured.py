"""Steps that are recorded once per shape and repeated: on a GPU one launch instead of hundreds.

A step on a padded batch is a function of tensors at fixed places: the batch, with its noise and the
weight of its epoch, in one block; weights; the optimiser's state with its step count. The first
batch of a shape trains as any batch does, which makes what is made once (kernels, workspaces, the
optimiser's state). The second is recorded while it trains. For every later one its block is copied
to where the recorded step reads, and the record repeated. Batches without dummies, which fitted
nowhere, train as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.packet import blocks_of, layout_of, moved
from odmt_fast.config import Config
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE, forced

Outcome = tuple[dict[str, Tensor], Tensor]
"""Loss terms and gradient norm."""
Step = Callable[[Batch, float], Outcome]


def capture_missing(config: Config, device: torch.device, processes: int) -> str | None:
    """Why the steps of a run are not captured; None where they are."""
    settings = config.training
    reasons = {
        "training.capture=off": settings.capture == "off",
        f"{device} has no graphs": device.type != "cuda",
        "training.precision=fp16 scales its losses on the host": settings.precision == "fp16",
        "training.compile=True makes its own graphs": settings.compile,
        "training.recompute=True reads lengths on the host": settings.recompute,
        "training.micro_items reads lengths on the host": settings.micro_items is not None,
        "model.id_table=sparse counts the rows it updates": config.model.id_table == "sparse",
        f"{processes} processes exchange gradients in the step": processes > 1,
        f"{ENVIRONMENT_VARIABLE}=xformers reads lengths on the host": forced() == "xformers",
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class Recorder(Protocol):
    """Does work once and repeats it in place, on the values that its tensors have by then."""

    def active(self) -> AbstractContextManager[object]:
        """Where all steps run, recorded or not."""

    def record(self, work: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Does `work`; what it returned, and what does it again, into the same tensors."""


class CudaGraphs:
    """CUDA graphs on a stream of their own, all in one pool of memory.

    One step runs at a time, so that what a step needs in passing may lie where another's lay.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def active(self) -> Iterator[None]:
        """The stream of the graphs: gradients must gather on one, captured or not."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def record(self, work: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        """Captures `work` and launches it.

        Raises:
            RuntimeError: something in it cannot be captured, such as a wait for the device.
        """
        graph = torch.cuda.CUDAGraph()
        # Relaxed: the loader's threads, and page-locked memory that the optimiser asks for, are no
        # part of the graph; a wait for the captured stream is an error all the same.
        captured = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="relaxed"
        )
        try:
            with captured:
                outcome = work()
        except RuntimeError as error:
            raise RuntimeError(
                f"the training step cannot be captured as a CUDA graph ({error}); train with "
                "--no-capture"
            ) from error
        graph.replay()
        return outcome, graph.replay


@dataclass(frozen=True)
class _Record:
    """A recorded step: where it reads its batch and leaves its outcome, and how it is repeated."""

    blocks: list[Tensor]
    outcome: Outcome
    repeat: Callable[[], None]


class CapturedStep:
    """A training step like `step`, bit for bit, that records and repeats.

    Args:
        step: given a batch and an epoch it updates the weights; it waits for nothing, reads no
            value on the host, and all that changes from step to step is in the batch.
        recorder: of the device.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self._step, self._recorder = step, recorder
        self._records: dict[tuple[Any, ...], _Record] = {}
        self._met: set[tuple[Any, ...]] = set()
        self._blocks: list[Tensor] = []

    def __call__(self, batch: Batch, epoch: float) -> Outcome:
        """Loss terms, without a gradient, and gradient norm; they hold until the next step.

        Args:
            batch: as a loader hands it out.
            epoch: from 1.
        """
        with self._recorder.active():
            if batch.dummy_users:
                shape = _shape(batch)
                if shape in self._met:
                    return self._repeated(batch, shape)
                self._met.add(shape)
            return _detached(self._step(batch, epoch))

    def _repeated(self, batch: Batch, shape: tuple[Any, ...]) -> Outcome:
        blocks = blocks_of(batch)
        if (record := self._records.get(shape)) is not None:
            _overwrite(record.blocks, blocks)
            record.repeat()
            return record.outcome
        static = self._room(blocks)
        _overwrite(static, blocks)
        read = moved(batch, static)
        # Whatever reads the epoch instead of the batch shows at once, as a loss that is NaN.
        outcome, repeat = self._recorder.record(lambda: _detached(self._step(read, float("nan"))))
        self._records[shape] = _Record(static, outcome, repeat)
        return outcome

    def _room(self, blocks: list[Tensor]) -> list[Tensor]:
        """Where a recorded step reads such blocks: one place for all that fit into it."""
        fit = len(blocks) <= len(self._blocks) and all(
            own.nbytes >= block.nbytes for own, block in zip(self._blocks, blocks, strict=False)
        )
        if not fit:
            self._blocks = [torch.empty_like(block) for block in blocks]
        return [own[: block.nbytes] for own, block in zip(self._blocks, blocks, strict=False)]


def _overwrite(blocks: list[Tensor], by: list[Tensor]) -> None:
    for block, new in zip(blocks, by, strict=True):
        block.copy_(new)


def _detached(outcome: Outcome) -> Outcome:
    # A node of the graph that lived on would tie the next step's gradients to this one's.
    terms, norm = outcome
    return {name: term.detach() for name, term in terms.items()}, norm.detach()


def _shape(batch: Batch) -> tuple[Any, ...]:
    """All of a batch but the values of its tensors."""
    plain = [
        value
        for field in fields(batch)
        if not isinstance(value := getattr(batch, field.name), (Tensor, tuple))
    ]
    longest = [tokens.max_length for tokens in batch.features]
    return (*plain, *longest, *layout_of(batch))
