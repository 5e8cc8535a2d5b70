"""Several processes train as one: gradients, whole runs, stops and kills (gloo, forked)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training.toy_run import toy_split

from odmt_fast.batch import BatchLoader, Collator
from odmt_fast.processes import Processes

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forks, which are absent")


def forked(tmp_path: Path, what: str, processes: int) -> None:
    script = Path(__file__).with_name("forked.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), what, str(processes)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@forks
@pytest.mark.parametrize("processes", [2, 4])
def test_the_mean_of_the_processes_is_one_process(tmp_path: Path, processes: int) -> None:
    forked(tmp_path, "gradients", processes)


@forks
def test_stopped_and_killed_runs_go_on_as_if_they_had_not_been(tmp_path: Path) -> None:
    forked(tmp_path, "runs", 2)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [1, 2, 4, 7, 20])
def test_shares_and_windows_cover_everything(count: int, total: int) -> None:
    ranks = [Processes(rank, count) for rank in range(count)]
    shared = [item for one in ranks for item in range(total)[one.share(total)]]
    assert shared == list(range(total))
    sizes = [len(range(total)[one.share(total)]) for one in ranks]
    assert max(sizes) - min(sizes) <= 1
    windows = [range(total)[one.window(total)] for one in ranks]
    assert len({len(window) for window in windows}) == 1 and len(windows[0]) >= 1
    own = [
        item for rank, window in enumerate(windows) for item in window if item >= rank * len(window)
    ]
    assert own == list(range(total))


def test_the_order_is_that_of_one_process_with_the_larger_batch() -> None:
    collate = Collator(toy_split().train, 4)

    def targets(size: int, processes: Processes) -> list[list[int]]:
        loader = BatchLoader(collate, batch_size=size, seed=4, processes=processes)
        return [batch.items[batch.targets].tolist() for batch in loader.epoch(2)]

    whole = targets(6, Processes())
    parts = [targets(3, Processes(rank, 2)) for rank in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def test_every_process_has_noise_of_its_own() -> None:
    collate = Collator(toy_split().train, 4)
    loaders = [
        BatchLoader(collate, batch_size=3, seed=4, processes=Processes(rank, 3))
        for rank in range(3)
    ]
    noise = {int(batch.noise) for loader in loaders for batch in loader.epoch(1)}
    assert len(noise) == 3 * loaders[0].steps
    alone = next(BatchLoader(collate, batch_size=9, seed=4).epoch(1)).noise
    assert torch.equal(next(loaders[0].epoch(1)).noise, alone)
