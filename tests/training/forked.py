"""Training by several processes, compared with one; run by test_distributed.py in its own process.

Every process of a run is a fork of this one, so that torch is imported once.

    forked.py DIRECTORY gradients PROCESSES   # one step against one process, float64
    forked.py DIRECTORY runs PROCESSES        # whole runs: stopped, killed, continued
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch._dynamo  # noqa: E402, F401 - once here instead of in every fork
from forking import run, start, statuses  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from training.toy_run import (  # noqa: E402
    N_ITEMS,
    Silent,
    ToyModel,
    differences,
    state_of,
    toy_split,
    toy_train,
)

from odmt_fast.batch import Batch, BatchLoader, Candidates, Collator  # noqa: E402
from odmt_fast.config import CandidateKind, ModelConfig, Negatives, TrainingConfig  # noqa: E402
from odmt_fast.features.tokens import TokenTable  # noqa: E402
from odmt_fast.models import SequentialModel  # noqa: E402
from odmt_fast.models.zoo import build  # noqa: E402
from odmt_fast.processes import Processes  # noqa: E402
from odmt_fast.training.checkpoint import LAST, load  # noqa: E402
from odmt_fast.training.distributed import average, averaging  # noqa: E402
from odmt_fast.training.precision import MixedPrecision  # noqa: E402
from odmt_fast.training.report import StepReport  # noqa: E402
from odmt_fast.training.step import TrainingStep, adamw  # noqa: E402

CPU = torch.device("cpu")


def small_model() -> SequentialModel:
    """ODMT in float64 without dropout; texts of one to three tokens."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.arange(N_ITEMS) % 3 + 1
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (2, 0))[: N_ITEMS + 2]
    offsets[1:] = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    values = torch.randn(int(lengths.sum()), 6, generator=generator, dtype=torch.float64)
    images = torch.randn(N_ITEMS + 1, 4, 5, generator=generator, dtype=torch.float64)
    return build(
        ModelConfig(width=8, max_seq_len=4, dropout=0.0, user_layers=1, alpha=0.5),
        toy_split().popularity,
        {"text": TokenTable(values, offsets), "image": TokenTable.from_padded(images)},
        generator=generator,
    ).double()


def loader(
    model: SequentialModel, size: int, processes: Processes, how: Negatives, kind: CandidateKind
) -> BatchLoader:
    """Batches of the toy users."""
    split, config = toy_split(), ModelConfig(candidates=kind, draws=7)
    candidates = Candidates(config, split.popularity, 2)
    collate = Collator(split.train, 4, model.sources, candidates)
    return BatchLoader(collate, batch_size=size, seed=2, processes=processes, negatives=how)


def gradients(model: nn.Module, losses: list[tuple[float, Batch]]) -> dict[str, Tensor]:
    """Of the weighted sum of the batches' losses, and that loss."""
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for weight, batch in losses:
        total = total + weight * model(batch, 1)["loss"]
    total.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": total.detach(), **found}


def one_epoch(rank: int, count: int, how: Negatives, kind: CandidateKind) -> None:
    """Every step of an epoch: the mean of the processes is one process's, to 1e-10."""
    processes = Processes.current()
    assert processes == Processes(rank, count)
    model, alone = small_model(), small_model()
    config = TrainingConfig(learning_rate=1e-30, weight_decay=0.0, clip_norm=1e9)
    step = TrainingStep(
        averaging(model, processes), adamw(model, config), MixedPrecision("fp32", CPU), 1e9
    )
    size = 11 // count  # the last step has fewer users than there are processes
    own = list(loader(model, size, processes, how, kind).epoch(1))
    parts = [
        list(loader(model, size, Processes(other, count), "rank", kind).epoch(1))
        for other in range(count)
    ]
    whole = list(loader(model, size * count, Processes(), "rank", kind).epoch(1))
    assert len(own) == len(whole) == -(-12 // (size * count))
    for number, batch in enumerate(own):
        losses = [(1.0, whole[number])]
        if how == "rank":
            same = [batches[number] for batches in parts]
            assert all(part.weight is not None for part in same)
            losses = [(float(part.weight) / count, part) for part in same]  # type: ignore[arg-type]
            empty = [part for part in same if float(part.weight) == 0]  # type: ignore[arg-type]
            assert bool(empty) == (whole[number].n_users < count)
        expected = gradients(alone, losses)
        terms, _ = step(batch, 1)
        loss = terms["loss"].detach()
        average(loss, processes)
        got = {
            "loss": loss,
            **{n: p.grad for n, p in model.named_parameters() if p.grad is not None},
        }
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            error = float((got[name] - value).norm() / value.norm().clamp_min(1e-300))
            assert error < 1e-10 or float((got[name] - value).abs().max()) < 1e-15, (name, error)


class StopAfter(Silent):
    """Sends a signal to this process after so many steps."""

    def __init__(self, steps: int, number: int) -> None:
        super().__init__()
        self.left, self.number = steps, number

    def step(self, report: StepReport) -> None:
        super().step(report)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def whole_runs(directory: Path, count: int) -> None:
    """A run of several processes, stopped or killed in one of them, ends as if it had not been."""
    options: dict[str, Any] = {"batch_size": 4 // count, "epochs": 2, "checkpoint_steps": 2}

    def train(name: str, **changes: Any) -> Callable[[int], Any]:
        return lambda rank: toy_train(directory / name, **options, **changes)

    run(count, train("whole"))
    expected = state_of(directory / "whole")
    assert expected["progress"]["total_steps"] == 6

    def signalled(rank: int) -> None:
        # Only the last process is asked, and the first one has to write.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        model = Signalling(5, signal.SIGTERM) if rank == count - 1 else None
        toy_train(directory / "stopped", model=model, **options)

    codes = statuses(start(count, signalled))
    assert codes == [143] * count, codes
    stopped = state_after(directory / "stopped")
    assert stopped["total_steps"] == 5, stopped
    run(count, train("stopped"))
    compare("stopped by SIGTERM in one process", expected, state_of(directory / "stopped"))

    def killed(rank: int) -> None:
        model = Signalling(4, signal.SIGKILL) if rank == count - 1 else None
        toy_train(directory / "killed", model=model, **options)

    codes = statuses(start(count, killed))
    assert codes[-1] == -signal.SIGKILL and all(codes), codes
    run(count, train("killed"))
    compare("killed in one process", expected, state_of(directory / "killed"))

    def alone(rank: int) -> None:
        reporter = Silent()
        toy_train(directory / "alone", reporter=reporter, **{**options, "batch_size": 4})
        assert any("going on with 1 processes, not" in text for text in reporter.messages)

    codes = statuses(start(count, lambda rank: stop_at(directory / "alone", 3, count, options)))
    assert codes == [143] * count, codes
    run(1, alone)
    assert [row["step"] for row in state_of(directory / "alone")["steps.csv"]] == [
        row["step"] for row in expected["steps.csv"]
    ]


def stop_at(output: Path, step: int, count: int, options: dict[str, Any]) -> None:
    """A run whose first process is asked to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    toy_train(output, reporter=StopAfter(step, signal.SIGTERM), **options)


class Signalling(ToyModel):
    """The toy model; sends a signal to its own process in the given step."""

    def __init__(self, step: int, number: int) -> None:
        super().__init__()
        self.left, self.number = step, number

    def forward(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Of the toy model."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().forward(batch, epoch)


def state_after(output: Path) -> Mapping[str, Any]:
    """The progress a run stands at."""
    return load(output / "checkpoints" / LAST)[1]["progress"]


def compare(name: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Ends with an error if a run differs from the uninterrupted one."""
    if different := differences(expected, found):
        sys.exit(f"{name}: {', '.join(different)} differ from the uninterrupted run")


def main(directory: Path, what: str, count: int) -> None:
    """See the top."""
    torch.set_num_threads(1)
    np.seterr(all="raise")
    if what == "gradients":
        cases: tuple[tuple[Negatives, CandidateKind], ...] = (
            ("rank", "in_batch"),
            ("global", "in_batch"),
            ("global", "mixed"),
        )
        for how, kind in cases:
            run(count, lambda rank, how=how, kind=kind: one_epoch(rank, count, how, kind))
    else:
        whole_runs(directory, count)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
