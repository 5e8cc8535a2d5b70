"""Logs that are cut back to a checkpoint, and lines that tell how a run goes."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from training.toy_run import Crash, CrashAfter, Silent, table, toy_train

from odmt_fast.training.logs import CsvLog
from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import PlainReporter, RichReporter, StepReport, default_reporter

REPORT = StepReport(2, 40, 310, 1204, 6.81234, 812.4, 4335.2, 0.0412)
RECORD = EpochRecord(2, 2408, {"loss": 6.5}, 0.0412, {"ensemble/hr@10": 0.08}, 9.0, 812.4)


def test_a_table_is_cut_back_to_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "table.csv"
    log = CsvLog(path, 0)
    log.write({"step": 1, "loss": 0.1 + 0.2})
    size, digest = log.sync()
    log.write({"step": 2, "loss": 7.0})
    log.close()
    log = CsvLog(path, size, digest)
    log.write({"step": 2, "loss": 1.5})
    with pytest.raises(ValueError, match=r"has the columns \['step', 'loss'\], a new row has"):
        log.write({"step": 3, "hr@10": 1.5})
    log.close()
    assert path.read_text() == f"step,loss\n1,{0.1 + 0.2!r}\n2,1.5\n"
    log = CsvLog(path, 0)
    log.write({"other": "columns"})
    log.close()
    assert path.read_text() == "other\ncolumns\n"


def test_tensorboard_shows_every_step_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    caplog.set_level(logging.ERROR)
    for steps in (5, 4):
        with pytest.raises(Crash):
            toy_train(tmp_path, tensorboard=True, reporter=CrashAfter(steps))
    toy_train(tmp_path, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    steps = [int(row["step"]) for row in table(tmp_path / "logs" / "steps.csv")]
    assert [event.step for event in events.Scalars("train/loss")] == steps
    assert [event.step for event in events.Scalars("epoch/ensemble/ndcg_at_10")] == [4, 8, 12]


def test_a_run_without_tensorboard_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    reporter = Silent()
    toy_train(tmp_path, tensorboard=True, epochs=1, reporter=reporter)
    assert any("pip install tensorboard" in message for message in reporter.messages)
    assert not (tmp_path / "logs" / "tensorboard").exists()


def test_a_step_in_one_line() -> None:
    expected = "epoch 2/40 step 310/1204 loss 6.8123 812 samples/s 1:12:15 left best 0.0412"
    assert str(REPORT) == expected


def test_plain_lines_are_not_too_many() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(stream, every_seconds=60.0)
    for _ in range(5):
        reporter.step(REPORT)
    assert stream.getvalue() == ""
    reporter.epoch(RECORD, best=True)
    reporter.close()
    assert stream.getvalue() == ("epoch 2 loss 6.5000 score 0.0412 812 samples/s *best*\n")
    eager = PlainReporter(stream, every_seconds=0.0)
    eager.step(REPORT)
    assert stream.getvalue().endswith(f"{REPORT}\n")


def test_the_live_line_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    reporter = RichReporter()
    reporter.step(REPORT)
    reporter.epoch(RECORD, best=False)
    reporter.message("[no markup]")
    reporter.close()
    shown = capsys.readouterr().err
    assert "score 0.0412" in shown
    assert "[no markup]" in shown


def test_output_that_is_no_terminal_gets_plain_lines() -> None:
    assert isinstance(default_reporter(), PlainReporter)
