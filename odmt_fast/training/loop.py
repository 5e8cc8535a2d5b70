"""The training loop: epochs of steps, validation, checkpoints, and going on where a run stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from odmt_fast.batch.loader import BatchLoader
from odmt_fast.config import Config
from odmt_fast.kernels.linear.libraries import current
from odmt_fast.training import checkpoint
from odmt_fast.training.captured import CapturedStep, CudaGraphs, Step, capture_missing
from odmt_fast.training.compiled import compiled
from odmt_fast.training.diagnostics import Yardsticks, news
from odmt_fast.training.distributed import agree, average, averaging
from odmt_fast.training.errors import NonFiniteLossError
from odmt_fast.training.logs import RunLogs
from odmt_fast.training.meter import GRADIENT_NORM, LossMeter
from odmt_fast.training.pace import Pace
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.progress import EpochRecord, Progress, score_of
from odmt_fast.training.report import Reporter, StepReport
from odmt_fast.training.schedule import CheckpointClock, StopRequest
from odmt_fast.training.step import TrainingStep, adamw

Evaluate = Callable[[nn.Module], Mapping[str, float]]


class TrainingLoop:
    """A run in progress: the objects it works with, and its position.

    Everything that decides the weights is either a function of the configuration and the position
    (the batches with their noise, the ramp-up) or part of a checkpoint (weights, optimiser, loss
    scale), so a resumed run continues as if it had never stopped. No generator is part of it.

    Args:
        model: trained in place, already on the loader's device.
        loader: the batches of every epoch, and the processes that take them together.
        config: of the run.
        evaluate: validates the model, in the first process; see `odmt_fast.training.train`.
        reporter: is told how the run goes.
        clock: when checkpoints are due between validations.
        log_steps: steps per row of ``steps.csv``; on a GPU also the steps between two looks at the
            losses.
        identity: what a later session must share to go on with this run.
        yardsticks: what tells that something goes wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: BatchLoader,
        config: Config,
        evaluate: Evaluate,
        reporter: Reporter,
        clock: CheckpointClock,
        *,
        log_steps: int,
        identity: Mapping[str, Any],
        yardsticks: Yardsticks,
    ) -> None:
        self.progress = Progress()
        self._model, self._loader, self._config = model, loader, config
        self._evaluate, self._reporter, self._clock = evaluate, reporter, clock
        self._device = loader.device
        self._identity, self._yardsticks = identity, yardsticks
        self._overrides: list[dict[str, Any]] = []
        self._checkpoints = config.training.output / "checkpoints"
        self._optimizer = adamw(model, config.training)
        self._precision = MixedPrecision(config.training.precision, self._device)
        self._processes = loader.processes
        step = TrainingStep(
            averaging(compiled(model, config, self._processes.count), self._processes),
            self._optimizer,
            self._precision,
            config.training.clip_norm,
        )
        missing = capture_missing(config, self._device, self._processes.count)
        captured = missing is None and loader.capacities is not None
        self._step: Step = CapturedStep(step, CudaGraphs(self._device)) if captured else step
        mean = partial(average, processes=self._processes)
        self._meter = LossMeter(log_steps, self._device, mean)
        self._interval_seconds = 0.0
        self._pace = Pace()
        self._saved = False

    def restore(self, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
        """Takes over the state that `_save` wrote."""
        self.progress = progress = Progress.from_json(header["progress"])
        self._model.load_state_dict(checkpoint.weights_of(tensors))
        checkpoint.restore_optimizer(self._model, self._optimizer, tensors)
        self._precision.restore(header["loss_scale"])
        self._meter.restore(header["terms"], tensors["loss/pending"])
        self._interval_seconds = header["interval_seconds"]
        self._overrides = list(header.get("overrides", ()))
        self._saved = True
        # Killed between the two files of a validation: the last checkpoint is the best one too.
        if progress.step == 0 and 0 < progress.best_epoch == len(progress.history):
            self._save_best()

    def override(self, changes: list[str]) -> None:
        """Records that the run goes on with other settings from here."""
        self._overrides.append({"step": self.progress.total_steps, "changes": changes})

    def run(self, logs: RunLogs | None, stop: StopRequest) -> None:
        """Trains to the last epoch, until patience is spent, or until `stop` is requested.

        Args:
            logs: of the first process; None in the others.
            stop: in any process, ends all after the same step.
        """
        if not self._saved:
            self._save(logs)
        while not self.finished:
            stopping, _ = agree(stop, self._processes)
            if stopping:
                return
            if self._train_epoch(logs, stop):
                self._save(logs)
            else:
                self._validate(logs)

    @property
    def out_of_patience(self) -> bool:
        """Whether too many epochs have passed without a better score."""
        return self.progress.epochs_since_best >= self._config.training.patience

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to train."""
        return self.progress.epoch > self._config.training.epochs or self.out_of_patience

    @property
    def padded_to(self) -> list[list[int]]:
        """Sizes that the batches are padded to; none where they run as they are."""
        capacities = self._loader.capacities
        return [] if capacities is None else capacities.to_json()

    @property
    def compiles(self) -> bool:
        """Whether the first step waits for torch.compile."""
        return self._config.training.compile

    @property
    def _sees_every_step(self) -> bool:
        """Whether reading a loss is free; on a GPU it would wait for the step to end."""
        return self._device.type == "cpu"

    def _train_epoch(self, logs: RunLogs | None, stop: StopRequest) -> bool:
        """Trains the rest of an epoch; whether it was stopped on the way."""
        progress = self.progress
        self._model.train()
        self._pace.restart()
        with closing(self._loader.epoch(progress.epoch, progress.step)) as batches:
            for batch in batches:
                terms, norm = self._step(batch, progress.epoch)
                self._meter.add(terms, norm)
                progress.step += 1
                progress.total_steps += 1
                last = progress.step == self._loader.steps
                logged = self._meter.full or last
                rows = None
                if logged or self._sees_every_step:
                    rows = self._meter.rows(None if logged else 1)
                    self._check(rows)
                seconds = self._pace.step(self._loader.sampler.size(progress.step - 1))
                progress.seconds += seconds
                self._interval_seconds += seconds
                if rows is not None:
                    self._reporter.step(self._report(float(rows[-1, 0])))
                if logged and rows is not None:
                    self._log_interval(logs, rows)
                # The last step needs none of its own: validation ends with a checkpoint.
                stopping, due = agree(stop, self._processes, self._clock.due())
                if due and not last:
                    self._save(logs)
                    self._pace.restart()
                if stopping:
                    return True
        return False

    def _log_interval(self, logs: RunLogs | None, rows: NDArray[np.float64]) -> None:
        progress = self.progress
        sums = rows.sum(axis=0)
        progress.loss_sums = [
            before + float(now)
            for before, now in zip(progress.loss_sums or [0.0] * len(sums), sums, strict=True)
        ]
        means = dict(zip(self._meter.columns, (sums / len(rows)).tolist(), strict=True))
        row = {
            "step": progress.total_steps,
            "epoch": progress.epoch,
            **means,
            "seconds": round(self._interval_seconds, 4),
        }
        if logs is not None:
            logs.step(progress.total_steps, row)
        self._meter.clear()
        self._interval_seconds = 0.0

    def _validate(self, logs: RunLogs | None) -> None:
        progress = self.progress
        self._check_state()
        self._model.eval()
        metrics: dict[str, float] = {}
        if self._processes.first:
            with torch.no_grad():
                metrics = dict(self._evaluate(self._model))
        metrics = self._processes.from_first(metrics)
        losses = [total / self._loader.steps for total in progress.loss_sums]
        record = EpochRecord(
            epoch=progress.epoch,
            step=progress.total_steps,
            losses=dict(zip(self._meter.columns, losses, strict=True)),
            score=score_of(metrics, self._config.evaluation.metric),
            metrics=metrics,
            seconds=round(progress.seconds, 4),
            samples_per_second=round(len(self._loader.sampler.users) / progress.seconds, 2),
        )
        row = {
            "epoch": record.epoch,
            "step": record.step,
            **record.losses,
            "score": record.score,
            **metrics,
            "seconds": record.seconds,
            "samples_per_second": record.samples_per_second,
        }
        if logs is not None:
            logs.epoch(record.step, row)
        best = progress.finish_epoch(record)
        wrong = news(progress.history, self._yardsticks)
        if logs is not None:
            logs.diagnoses(record.epoch, wrong)
        # In this order: `restore` makes up for a best checkpoint that was not written any more.
        self._save(logs)
        if best:
            self._save_best()
        self._reporter.epoch(record, best)
        for line in wrong:
            self._reporter.message(line)

    def _save(self, logs: RunLogs | None) -> None:
        """Writes a checkpoint; no process goes on before it is there."""
        pending = self._meter.rows()
        self._check(pending)
        self._check_state()
        if logs is not None:
            self._write_last(logs, pending)
        self._processes.wait()
        self._clock.reset()
        self._saved = True

    def _write_last(self, logs: RunLogs, pending: NDArray[np.float64]) -> None:
        tensors = {
            **checkpoint.model_tensors(self._model),
            **checkpoint.optimizer_tensors(self._model, self._optimizer),
            "loss/pending": torch.from_numpy(pending),
        }
        header = {
            "progress": self.progress.to_json(),
            "terms": self._meter.columns,
            "loss_scale": self._precision.state(),
            "interval_seconds": self._interval_seconds,
            "identity": dict(self._identity),
            "overrides": self._overrides,
            "libraries": current().to_json(),
            "threads": torch.get_num_threads(),
            "processes": self._processes.count,
            "padded_to": self.padded_to,
            "logs": logs.sync(),
        }
        checkpoint.save(self._checkpoints / checkpoint.LAST, tensors, header)

    def _save_best(self) -> None:
        if not self._processes.first:
            return
        best = self.progress.history[-1]
        header = {
            "epoch": best.epoch,
            "step": best.step,
            "score": best.score,
            "libraries": current().to_json(),
            "identity": dict(self._identity),
        }
        path = self._checkpoints / checkpoint.BEST
        checkpoint.save(path, checkpoint.model_tensors(self._model), header)

    def _check(self, rows: NDArray[np.float64]) -> None:
        """Raises a NonFiniteLossError for the first bad one of the latest steps."""
        bad = ~np.isfinite(rows)
        if self._precision.skips_overflows:
            bad[:, self._meter.columns.index(GRADIENT_NORM)] = False
        if not bad.any():
            return
        first = int(bad.any(axis=1).argmax())
        names = [n for n, b in zip(self._meter.columns, bad[first], strict=True) if b]
        # The terms say which branch it was; the total and the gradient only follow.
        terms = [n for n in names if "/" in n] or names
        raise self._diverged(self.progress.total_steps - len(rows) + 1 + first, terms)

    def _check_state(self) -> None:
        """Raises a NonFiniteLossError if a weight or the optimiser's state is not finite."""
        state = checkpoint.model_tensors(self._model)
        state |= checkpoint.optimizer_tensors(self._model, self._optimizer)
        if (name := checkpoint.first_non_finite(state)) is not None:
            raise self._diverged(self.progress.total_steps, [name])

    def _diverged(self, step: int, terms: list[str]) -> NonFiniteLossError:
        return NonFiniteLossError(
            epoch=self.progress.epoch,
            step=step,
            terms=terms,
            checkpoint=self._checkpoints / checkpoint.LAST if self._saved else None,
            learning_rate=self._config.training.learning_rate,
        )

    def _report(self, loss: float) -> StepReport:
        progress, epochs = self.progress, self._config.training.epochs
        steps_left = (epochs - progress.epoch + 1) * self._loader.steps - progress.step
        return StepReport(
            epoch=progress.epoch,
            epochs=epochs,
            step=progress.step,
            steps=self._loader.steps,
            loss=loss,
            samples_per_second=self._pace.samples_per_second,
            seconds_left=steps_left * self._pace.seconds_per_step,
            best_score=progress.best_score if progress.best_epoch else None,
        )
