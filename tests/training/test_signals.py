"""Signals and Ctrl-C: a run ends after the step, and can be gone on with."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from training.toy_run import (
    STEPS,
    Silent,
    differences,
    state_of,
    toy_train,
)

from odmt_fast.training.checkpoint import LAST, load


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, STEPS])
def test_a_signal_ends_the_run_after_the_step(
    tmp_path: Path, number: signal.Signals, step: int
) -> None:
    class Interrupting(Silent):
        def step(self, report: Any) -> None:
            super().step(report)
            if len(self.steps) == step:
                os.kill(os.getpid(), number)

    delivered: list[int] = []
    before = signal.signal(number, lambda number, frame: delivered.append(number))
    reporter = Interrupting()
    try:
        result = toy_train(tmp_path / "parts", reporter=reporter, checkpoint_steps=None)
        assert signal.getsignal(number) not in (before, signal.SIG_DFL)
    finally:
        signal.signal(number, before)
    # Held back until everything was saved, then delivered once to the program's own handler.
    assert delivered == [number]
    assert (result.status, result.epochs, len(reporter.steps)) == ("interrupted", 0, step)
    assert f"{number.name}: stopped after step {step}" in reporter.messages[-1]
    header = load(tmp_path / "parts" / "checkpoints" / LAST)[1]
    assert header["progress"]["total_steps"] == step
    toy_train(tmp_path / "parts")
    toy_train(tmp_path / "whole")
    assert differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []


def test_ctrl_c_is_not_swallowed_in_a_program(tmp_path: Path) -> None:
    class Interrupting(Silent):
        def step(self, report: Any) -> None:
            super().step(report)
            if len(self.steps) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    reporter = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        toy_train(tmp_path, reporter=reporter, checkpoint_steps=None)
    assert load(tmp_path / "checkpoints" / LAST)[1]["progress"]["total_steps"] == 2
    assert reporter.closed == 1


def test_a_second_signal_is_not_held_back(tmp_path: Path) -> None:
    class Impatient(Silent):
        def step(self, report: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toy_train(tmp_path, reporter=Impatient())


def test_training_outside_the_main_thread_installs_no_handlers(tmp_path: Path) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(toy_train(tmp_path, epochs=1)))
    thread.start()
    thread.join()
    assert results[0].status == "finished"
