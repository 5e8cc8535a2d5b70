"""`train`: prepares a run, or finds the one to go on with, and sees it through."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from odmt_fast.batch.candidates import Candidates
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.loader import BatchLoader
from odmt_fast.config import Config, TrainingConfig
from odmt_fast.features.tokens import TokenSource
from odmt_fast.kernels.backend import extension_missing
from odmt_fast.models.losses.base import Loss
from odmt_fast.processes import Processes
from odmt_fast.storage import FolderLock, remove_unfinished, write_atomically
from odmt_fast.training import checkpoint, libraries
from odmt_fast.training.announcement import (
    announce,
    in_words,
    tell_padding,
    tell_processes,
    tell_threads,
)
from odmt_fast.training.diagnostics import Yardsticks
from odmt_fast.training.errors import CheckpointError, ResumeError
from odmt_fast.training.identity import OVERRIDABLE, check_same, identity
from odmt_fast.training.logs import RunLogs, tensorboard_missing
from odmt_fast.training.loop import Evaluate, TrainingLoop
from odmt_fast.training.memory import keep_freed_memory, release_freed_memory
from odmt_fast.training.placement import batch_sources, placement_of, reading
from odmt_fast.training.precision import (
    check_float8,
    products_of_fp32,
    resolve,
    training_device,
)
from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import Reporter, SilentReporter, default_reporter
from odmt_fast.training.schedule import CheckpointClock, StopRequest
from odmt_fast.training.shapes import chosen_capacities

if TYPE_CHECKING:
    from odmt_fast.data.split import Split

Status = Literal["finished", "stopped early", "interrupted"]


@runtime_checkable
class _WithPopularity(Protocol):
    def check_popularity(self, items: Tensor) -> None: ...


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        best_epoch: epoch with the best validation score, from 1; 0 before the first validation.
        best_score: that score.
        epochs: finished epochs.
        history: one record per finished epoch, those of earlier sessions included.
        status: all epochs done, patience spent, or stopped by a signal (then resumable).
        output: the run directory.
    """

    best_epoch: int
    best_score: float
    epochs: int
    history: tuple[EpochRecord, ...]
    status: Status
    output: Path


def train(
    model: nn.Module,
    split: Split,
    features: Sequence[TokenSource],
    config: Config,
    evaluate: Evaluate,
    reporter: Reporter | None = None,
    *,
    resume: bool = True,
    inputs: Mapping[str, str] | None = None,
    overrides: Collection[str] = (),
) -> TrainingResult:
    """Trains `model` in place; on CPU a killed and resumed run ends with the very same weights.

    The run lives in ``config.training.output``: ``config.json``, ``checkpoints/last`` and
    ``checkpoints/best`` (see `odmt_fast.training.checkpoint`), ``logs/steps.csv``,
    ``logs/epochs.csv``, ``logs/diagnoses.csv``, ``logs/tensorboard``. It belongs to one process at
    a time, or to those of torch.distributed where it was initialised: all call this, the first one
    writes, reports and evaluates, all return the same. SIGINT and SIGTERM end it after the current
    step with a checkpoint, and are then delivered as if nobody had waited: Ctrl-C raises
    KeyboardInterrupt; only where the program's own handler returns, `train` returns "interrupted".
    On return the model holds the weights of the last step, not of the best epoch.

    Args:
        model: an ``nn.Module`` whose ``forward(batch, epoch)`` returns named scalars, ``"loss"``
            among them, such as a `SequentialModel`; all are logged under their names. Its weights
            are where training starts; give them a generator of their own (see
            `odmt_fast.randomness`), and draw nothing in a step but from ``batch.noise``.
        split: its `train` sequences are trained on.
        features: token sources that the loader gathers into the batches, in the model's order.
        config: of the run.
        evaluate: called after every epoch with the model in eval mode and gradients off; returns
            the same metrics each time, among them ``ensemble/<evaluation.metric>`` (or
            ``<evaluation.metric>``), where higher is better.
        reporter: is told how the run goes, and closed at the end; None chooses one.
        resume: go on with the run in the output directory if there is one; False replaces it.
        inputs: digests of what else the run is made of (catalogue, token stores), by name; a run is
            only gone on with where they are the same.
        overrides: dotted names among ``training.learning_rate``, ``weight_decay``, ``clip_norm``
            and ``precision`` with which the run may go on though they were others before.

    Raises:
        FolderInUseError: another process trains there.
        NonFiniteLossError: a loss or the gradient became NaN or infinite.
        ResumeError: the run in the output directory has other settings or data.
        CheckpointError: its checkpoint is damaged.
        StorageError: the disk is full, or the folder is read-only.
        ValueError: there is nothing to train on, or a setting does not fit this machine.
    """
    device = training_device(config.training.device)
    before = checkpoint.peek(config.training.output / "checkpoints" / checkpoint.LAST)
    before = before if resume else {}
    told: list[str] = []
    multiply = libraries.choose(before.get("libraries"), say=told.append)
    asked = config.training.precision
    found = resolve(asked, device)
    if asked == "auto":  # a run goes on in what it found when it began
        found = before.get("identity", {}).get("training.precision", found)
    config = config.updated({"training.precision": found})
    settings = config.training
    candidates = Candidates(config.model, split.popularity, settings.seed, split.offered)
    processes = Processes.current()
    placement = placement_of(config, features, device, processes.count)
    sources = batch_sources(features, placement.residency, device)
    collate = Collator(split.train, config.model.max_seq_len, sources, candidates)
    if not len(collate.users):
        raise ValueError(
            f"none of the {len(split.train)} users has 2 training items; lower the k-core filter "
            "or bring more interactions"
        )
    if isinstance(model, _WithPopularity):
        model.check_popularity(torch.from_numpy(np.unique(split.train.items)).long())
    _tell_items(model, settings)
    check_float8(settings, device)
    loss = getattr(model, "loss", None)
    validated, _ = split.validated(config.evaluation.valid_targets)
    reporter = (reporter or default_reporter()) if processes.first else SilentReporter()
    unknown = sorted(set(overrides) - {f"training.{name}" for name in OVERRIDABLE})
    if unknown:
        raise ValueError(
            f"--override {unknown[0]} is not possible; it takes "
            f"{', '.join(f'training.{name}' for name in OVERRIDABLE)}"
        )
    try:
        keeps_memory = device.type != "cpu" or keep_freed_memory()
        with (
            FolderLock(settings.output, "odmt-fast train") if processes.first else nullcontext(),
            BatchLoader(
                collate,
                batch_size=settings.batch_size,
                seed=settings.seed,
                device=device,
                workers=placement.workers,
                processes=processes,
                negatives=settings.negatives,
                # Columns that processes share are as many as they are.
                capacities=None
                if processes.count > 1 and settings.negatives == "global"
                else chosen_capacities(model, collate, features, config, device, processes.count),
                kd_weight=loss.kd_weight if isinstance(loss, Loss) else None,
            ) as loader,
            StopRequest() as stop,
            products_of_fp32(settings.precision),
            reading(model, sources),
        ):
            own = identity(config, split, inputs or {}, processes.count)
            loop = TrainingLoop(
                model.to(device),
                loader,
                config,
                evaluate,
                reporter,
                CheckpointClock(settings.checkpoint_steps, settings.checkpoint_minutes),
                log_steps=settings.log_steps,
                identity=own,
                yardsticks=Yardsticks.of(config, own, len(validated)),
            )
            if processes.first:
                _make_room(settings.output, resume=resume)
            processes.wait()
            saved = _to_go_on_from(settings.output)
            if saved is not None:
                changes = check_same(saved[1]["identity"], own, overrides)
                loop.restore(*saved)
                if changes:
                    loop.override(changes)
                    step = loop.progress.total_steps
                    reporter.message(f"from step {step} on, {'; '.join(changes)} (--override)")
                tell_threads(reporter, saved[1].get("threads"), device)
                tell_processes(reporter, saved[1].get("processes", 1), processes)
                tell_padding(reporter, saved[1].get("padded_to"), loop.padded_to)
            announce(reporter, loop, collate, device, in_words(asked, settings.precision))
            if device.type == "cuda" or placement.residency != "mmap":
                reporter.message(str(placement))
            for message in told:
                reporter.message(message)
            if settings.precision == "bf16" and device.type == "cpu" and not multiply.bf16_is_fast:
                reporter.message(
                    "this CPU has no fast products of bf16: they are computed in fp32 and rounded, "
                    "which saves memory but no time; --precision fp32 is as fast"
                )
            missing_extension = extension_missing("cpu") if device.type == "cpu" else None
            if missing_extension and not loop.finished:
                reporter.message(
                    "steps run on the plain torch reference, slower and with more "
                    f"memory: {missing_extension}"
                )
            elif not (keeps_memory or loop.finished):
                reporter.message(
                    "steps may take longer here: freed memory is not kept, which needs Linux with "
                    "glibc; docs/performance.md names an allocator that keeps it"
                )
            tensorboard = settings.tensorboard
            if tensorboard and (missing := tensorboard_missing()):
                reporter.message(f"no TensorBoard events: {missing}")
                tensorboard = False
            logs = None
            if processes.first:
                logs = RunLogs(
                    settings.output / "logs",
                    saved[1]["logs"] if saved else {},
                    loop.progress.total_steps,
                    tensorboard=tensorboard,
                )
                _write_config(settings.output, config)
            try:
                loop.run(logs, stop)
            finally:
                if logs is not None:
                    logs.close()
            if stop:
                reporter.message(
                    f"{stop.signal_name}: stopped after step {loop.progress.total_steps}; the "
                    f"checkpoint is {settings.output / 'checkpoints' / checkpoint.LAST}; train "
                    "again with the same configuration to go on"
                )
            return _result(loop, config, interrupted=bool(stop))
    finally:
        release_freed_memory()
        reporter.close()


def _tell_items(model: nn.Module, settings: TrainingConfig) -> None:
    """Tells the item encoder whether to keep its activations, and how to multiply."""
    items = getattr(model, "items", None)
    for name, idle in (("recompute", False), ("micro_items", None), ("float8", False)):
        asked = getattr(settings, name)
        if items is not None and hasattr(items, name):
            setattr(items, name, asked)
        elif asked != idle:
            raise ValueError(
                f"training.{name}={asked}, but {type(model).__name__} has no items.{name} to set; "
                f"leave it {idle}"
            )


def _make_room(output: Path, *, resume: bool) -> None:
    """Removes what is not gone on with."""
    last, best = (output / "checkpoints" / file for file in (checkpoint.LAST, checkpoint.BEST))
    for file in (last, best, output / "config.json"):
        remove_unfinished(file)
    if not resume:
        last.unlink(missing_ok=True)
    if not last.is_file():
        best.unlink(missing_ok=True)


def _to_go_on_from(output: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The last checkpoint; None where a run begins."""
    last = output / "checkpoints" / checkpoint.LAST
    if last.is_file():
        tensors, header = checkpoint.load(last)
        if not header.keys() >= {"progress", "identity"}:
            raise CheckpointError(
                f"{last} is not a checkpoint to go on from; put back a copy of it, or train with "
                "--fresh to make it anew"
            )
        if any(name.startswith("random/") for name in tensors):
            raise ResumeError(
                f"{last} was written by odmt_fast 0.1, which drew the order of the users and the "
                "dropout from other random numbers; go on with that version, or train with "
                "--fresh to replace the run (odmt-fast evaluate and recommend read it as it is)"
            )
        if "terms" not in header:
            raise ResumeError(
                f"{last} was written before the model named its losses, and its logs have other "
                "columns; train with --fresh to replace the run (odmt-fast evaluate and recommend "
                "read it as it is)"
            )
        return tensors, header
    return None


def _write_config(output: Path, config: Config) -> None:
    text = config.relative_to(output).model_dump_json(indent=2) + "\n"
    write_atomically(output / "config.json", lambda part: part.write_text(text, encoding="utf-8"))


def _result(loop: TrainingLoop, config: Config, *, interrupted: bool) -> TrainingResult:
    progress = loop.progress
    status: Status = "finished"
    if not loop.finished:
        status = "interrupted" if interrupted else "finished"
    elif loop.out_of_patience and progress.epoch <= config.training.epochs:
        status = "stopped early"
    return TrainingResult(
        best_epoch=progress.best_epoch,
        best_score=progress.best_score,
        epochs=len(progress.history),
        history=tuple(progress.history),
        status=status,
        output=config.training.output,
    )
