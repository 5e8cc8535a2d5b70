"""A few steps of a run under torch's profiler, every stage a named range of the trace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

from odmt_fast.batch import Batch, BatchLoader, Candidates, Collator
from odmt_fast.config import Config, Precision
from odmt_fast.data.split import Split
from odmt_fast.features.tokens import BatchSource, Tokens
from odmt_fast.kernels.linear.libraries import current
from odmt_fast.models import SequentialModel
from odmt_fast.models.items.imt import IMT
from odmt_fast.models.users.sasrec import SASRec
from odmt_fast.storage import write_atomically
from odmt_fast.studies.floor import matmul_rate, needed_work
from odmt_fast.studies.trace import ITEMS_READY, STATES_READY, StepTimes, read_trace
from odmt_fast.training.placement import batch_sources, placement_of
from odmt_fast.training.precision import MixedPrecision, products_of_fp32, resolve
from odmt_fast.training.shapes import chosen_capacities
from odmt_fast.training.step import TrainingStep, adamw

_RATE_SIZE = {"cpu": 256, "cuda": 4_096}
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Profile:
    """What a profile found.

    Attributes:
        times: of the stages.
        floor: seconds that the products of a stage need at the matmul rate of this machine, mean of
            the steps; empty for models whose work is not counted.
        precision: of the steps.
        trace: the Chrome trace.
    """

    times: StepTimes
    floor: dict[str, float]
    precision: str
    trace: Path


def profile(
    model: SequentialModel,
    split: Split,
    config: Config,
    trace: Path,
    *,
    steps: int,
    warmup: int,
) -> Profile:
    """Trains `model` for a few steps, on its device, and writes the trace of the last ones.

    Args:
        model: on its device.
        split: its `train` sequences are trained on.
        config: of the run.
        trace: is written; chrome://tracing and ui.perfetto.dev show it.
        steps: that are traced, at least 1.
        warmup: steps before them.

    Raises:
        ValueError: `steps` or `warmup` is too small.
    """
    if steps < 1 or warmup < 0:
        raise ValueError(f"--steps {steps} must be at least 1 and --warmup {warmup} at least 0")
    device, settings = model.log_p.device, config.training
    precision = resolve(settings.precision, device)
    step = TrainingStep(
        model, adamw(model, settings), MixedPrecision(precision, device), settings.clip_norm
    )
    placement = placement_of(config, model.sources, device)
    sources = [
        cast(BatchSource, _Named(source))
        for source in batch_sources(model.sources, placement.residency, device)
    ]
    candidates = Candidates(config.model, split.popularity, settings.seed, split.offered)
    collate = Collator(split.train, config.model.max_seq_len, sources, candidates)
    batches: list[Batch] = []
    model.train()
    with ExitStack() as stack:
        loader = stack.enter_context(
            BatchLoader(
                collate,
                batch_size=settings.batch_size,
                seed=settings.seed,
                device=device,
                workers=placement.workers,
                capacities=chosen_capacities(
                    model,
                    collate,
                    model.sources,
                    config.updated({"training.precision": precision}),
                    device,
                ),
            )
        )
        stack.enter_context(_named_stages(model))
        stack.enter_context(products_of_fp32(precision))
        coming = _endless(loader)

        def run(count: int) -> None:
            for _ in range(count):
                with record_function("step"):
                    with record_function("loader wait"):
                        epoch, batch = next(coming)
                    step(batch, epoch)
                batches.append(batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        run(warmup)
        batches.clear()
        with torch_profile(activities=_activities(device), profile_memory=True) as recorded:
            run(steps)
    write_atomically(trace, lambda part: _export(recorded, part))
    floor: dict[str, float] = {}
    if isinstance(model.items, IMT) and isinstance(model.users, SASRec):
        with products_of_fp32(precision):
            floor = _floor(config, batches, precision, device)
    return Profile(read_trace(trace), floor, precision, trace)


def _endless(loader: BatchLoader) -> Iterator[tuple[int, Batch]]:
    for epoch in itertools.count(1):
        for batch in loader.epoch(epoch):
            yield epoch, batch


def _activities(device: torch.device) -> list[ProfilerActivity]:
    activities = [ProfilerActivity.CPU]
    return [*activities, ProfilerActivity.CUDA] if device.type == "cuda" else activities


def _export(recorded: Any, part: Path) -> None:
    # The profiler writes by the suffix: .json as it is.
    made = part.with_name(part.name + ".json")
    recorded.export_chrome_trace(str(made))
    made.replace(part)


class _Named:
    """A token source whose gathering is a range of the trace."""

    def __init__(self, source: BatchSource) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def gather(self, items: Tensor) -> Tokens:
        """Of the source."""
        with record_function("features"):
            return self._source.gather(items)


@contextmanager
def _named_stages(model: SequentialModel) -> Iterator[None]:
    """Makes a range of items, users and loss, and marks in the backward pass where each is over."""
    marks = {"items": ITEMS_READY, "users": STATES_READY}
    with ExitStack() as stack:
        for name in ("items", "users", "loss"):
            part: nn.Module = getattr(model, name)
            open_ranges: list[Any] = []

            def enter(
                _: nn.Module, __: Any, name: str = name, held: list[Any] = open_ranges
            ) -> None:
                held.append(record_function(name))
                held[-1].__enter__()

            def leave(
                _: nn.Module,
                __: Any,
                output: Any,
                held: list[Any] = open_ranges,
                mark: str | None = marks.get(name),
            ) -> None:
                held.pop().__exit__(None, None, None)
                if mark is not None and output.requires_grad:
                    output.register_hook(lambda _: _marked(mark))

            for handle in (
                part.register_forward_pre_hook(enter),
                part.register_forward_hook(leave),
            ):
                stack.callback(handle.remove)
        yield


def _marked(mark: str) -> None:
    with record_function(mark):
        pass


def _floor(
    config: Config, batches: Sequence[Batch], precision: Precision, device: torch.device
) -> dict[str, float]:
    """Seconds of needed work by stage."""
    works = [needed_work(config.model, batch, batch.features) for batch in batches]
    dtype = _DTYPES.get(precision, torch.float32)
    if precision == "bf16" and device.type == "cpu" and not current().bf16_is_fast:
        dtype = torch.float32
    rate = matmul_rate(dtype, device.type, _RATE_SIZE.get(device.type, 256))
    return {
        name: sum(getattr(work, name) for work in works) / len(works) / rate
        for name in ("items", "users", "loss")
    }
