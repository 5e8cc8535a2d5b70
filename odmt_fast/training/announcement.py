"""What a run says before its first step."""

from __future__ import annotations

import torch

from odmt_fast.batch.collate import Collator
from odmt_fast.config import Precision
from odmt_fast.processes import Processes
from odmt_fast.training.loop import TrainingLoop
from odmt_fast.training.report import Reporter


def in_words(asked: Precision, found: Precision) -> str:
    """The precision found, and whether it was left open."""
    return f"{found} (training.precision=auto)" if asked == "auto" else found


def announce(
    reporter: Reporter, loop: TrainingLoop, collate: Collator, device: torch.device, precision: str
) -> None:
    """Says where a run begins or goes on."""
    progress = loop.progress
    if loop.finished:
        reporter.message(f"nothing left to train after epoch {len(progress.history)}")
        return
    start = "starting" if progress.total_steps == 0 else "going on"
    reporter.message(
        f"{start} on {device} in {precision} at epoch {progress.epoch}, step {progress.step}: "
        f"{len(collate.users)} users, {collate.skipped} left out with fewer than 2 training items"
    )
    if loop.compiles:
        reporter.message(
            "the first batch compiles forward and backward (training.compile), which takes a "
            "minute or more"
        )


def tell_threads(reporter: Reporter, before: int | None, device: torch.device) -> None:
    """Says that the number of threads is another one (docs/design.md, Numerics)."""
    now = torch.get_num_threads()
    if device.type == "cpu" and before not in (None, now):
        reporter.message(
            f"going on with {now} threads, not {before}: the last bits of the weights may depend "
            f"on it; OMP_NUM_THREADS={before} gives those of an uninterrupted run"
        )


def tell_padding(reporter: Reporter, before: list[list[int]] | None, now: list[list[int]]) -> None:
    """Says that batches are padded otherwise: dummies change how sums are cut (docs/design.md)."""
    if before not in (None, now):
        reporter.message(
            f"going on with batches {_padding(now)}, before {_padding(before or [])} (device and "
            "training.capture decide): the last bits of the weights may depend on it"
        )


def _padding(sizes: list[list[int]]) -> str:
    return f"padded to {len(sizes)} sizes" if sizes else "as they are"


def tell_processes(reporter: Reporter, before: int, processes: Processes) -> None:
    """Says that the steps are shared otherwise than before."""
    if before != processes.count:
        reporter.message(
            f"going on with {processes.count} processes, not {before}, in the same order of the "
            "users; dropout, and with training.negatives=rank what a row is scored against, "
            "depend on how many there are"
        )
