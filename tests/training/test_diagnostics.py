"""Diagnoses fire for histories they are about, and are silent for those they are not about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from training.toy_run import Silent, scripted, toy_train

from odmt_fast.training.diagnostics import (
    Yardsticks,
    diverging_distillation,
    dominant_id,
    ensemble_behind,
    news,
    stuck_at_popularity,
    weak_branch,
)
from odmt_fast.training.progress import EpochRecord

BY = Yardsticks("hr@10", 3_000)


def history(
    columns: Mapping[str, Sequence[float]], losses: Mapping[str, Sequence[float]] | None = None
) -> list[EpochRecord]:
    """One record per value of the columns."""
    length = len(next(iter((columns or losses or {}).values())))
    return [
        EpochRecord(
            epoch=epoch + 1,
            step=100 * (epoch + 1),
            losses={name: values[epoch] for name, values in (losses or {}).items()},
            score=0.0,
            metrics={name: values[epoch] for name, values in columns.items()},
            seconds=1.0,
            samples_per_second=1.0,
        )
        for epoch in range(length)
    ]


def ranked(popularity: float, **scores: Sequence[float]) -> list[EpochRecord]:
    """HR@10 of every ranking; popularity is the same in all epochs."""
    length = len(next(iter(scores.values())))
    columns = {f"{name}/hr@10": values for name, values in scores.items()}
    return history({**columns, "popularity/hr@10": [popularity] * length})


def test_a_plateau_at_popularity() -> None:
    stuck = ranked(0.03, id=[0.029, 0.031, 0.03, 0.029, 0.032], ensemble=[0.03] * 5)
    line = stuck_at_popularity(stuck, BY)
    assert line is not None and "HR@10 is 0.0300" in line and "model.alpha=0.02" in line
    assert stuck_at_popularity(stuck[:4], BY) is None  # too early
    assert stuck_at_popularity([replace(record, step=9) for record in stuck], BY) is None
    left = ranked(0.03, id=[0.03] * 5, ensemble=[0.03, 0.03, 0.03, 0.03, 0.05])
    assert stuck_at_popularity(left, BY) is None
    # 0.05 tells nothing of 100 targets; one branch is judged by itself; no yardstick, no word.
    assert stuck_at_popularity(left, Yardsticks("hr@10", 100)) is not None
    assert stuck_at_popularity(ranked(0.03, id=[0.03] * 6), BY) is not None
    assert stuck_at_popularity(history({"id/hr@10": [0.0] * 6}), BY) is None


def test_a_branch_below_popularity() -> None:
    good = [0.1] * 5
    weak = ranked(0.08, id=good, text=[0.02, 0.03, 0.03, 0.03, 0.03], ensemble=good)
    line = weak_branch(weak, BY)
    assert line is not None and "text has HR@10 0.0300" in line
    assert weak_branch(weak[:4], BY) is None
    late = ranked(0.08, id=good, text=[0.02, 0.03, 0.03, 0.03, 0.09], ensemble=good)
    assert weak_branch(late, BY) is None


def test_a_branch_worse_than_alone() -> None:
    by = Yardsticks("hr@10", 3_000, {"text": 0.15})
    settled = ranked(0.03, id=[0.1] * 6, text=[0.05, 0.09, 0.1, 0.1, 0.1, 0.09], ensemble=[0.1] * 6)
    line = weak_branch(settled, by)
    assert line is not None and "trained alone it has 0.1500 (baselines/sasrec-text)" in line
    assert weak_branch(settled, BY) is None
    learning = ranked(0.03, id=[0.1] * 6, text=[0.05, 0.06, 0.07, 0.08, 0.09, 0.1])
    assert weak_branch(learning, by) is None
    near = Yardsticks("hr@10", 3_000, {"text": 0.11})
    assert weak_branch(settled, near) is None


def test_an_ensemble_behind_its_best_branch() -> None:
    behind = ranked(0.03, id=[0.1] * 4, text=[0.14] * 4, ensemble=[0.15, 0.12, 0.12, 0.12])
    line = ensemble_behind(behind, BY)
    assert line is not None and "0.1200, its branch text has 0.1400" in line
    assert ensemble_behind(behind[:3], BY) is None  # not three in a row
    taking_turns = ranked(0.03, id=[0.14, 0.1, 0.14], text=[0.1, 0.14, 0.1], ensemble=[0.12] * 3)
    assert ensemble_behind(taking_turns, BY) is None
    close = ranked(0.03, id=[0.1] * 3, text=[0.123] * 3, ensemble=[0.12] * 3)
    assert ensemble_behind(close, BY) is None
    assert ensemble_behind(ranked(0.03, id=[0.1] * 3), BY) is None


LOSSES = {
    "loss": [20.0] * 6,
    "text/ce": [6.0, 5.9, 5.8, 5.7, 5.6, 5.5],
    "text/kd": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "kd_weight": [1.0] * 6,
}


def test_distillation_that_diverges() -> None:
    line = diverging_distillation(history({}, LOSSES), BY)
    assert line is not None and "of text grew from 1.000 to 1.500" in line
    assert "detach_teacher" in line


@pytest.mark.parametrize(
    "other",
    [
        {"kd_weight": [0.02] * 6},  # not in force
        {"kd_weight": [0.01, 0.1, 0.3, 0.6, 0.9, 1.0]},  # rising: it was not in force before
        {"text/kd": [1.0, 1.1, 1.1, 1.1, 1.2, 1.2]},
        {"text/ce": [6.0] * 6},  # everything grows: no matter of distillation
    ],
)
def test_distillation_that_does_not_diverge(other: dict[str, list[float]]) -> None:
    assert diverging_distillation(history({}, {**LOSSES, **other}), BY) is None
    assert diverging_distillation(history({}, LOSSES)[:5], BY) is None


def test_an_id_that_dominates() -> None:
    line = dominant_id(history({"id_share": [0.5, 0.96, 0.97, 0.98]}), BY)
    assert line is not None and "98% of the fused item vector" in line
    assert dominant_id(history({"id_share": [0.99, 0.94, 0.97]}), BY) is None
    assert dominant_id(history({"id_share": [0.99, 0.99]}), BY) is None
    assert dominant_id(history({"id/hr@10": [0.1] * 5}), BY) is None


def test_what_is_wrong_is_told_once_and_again_when_it_comes_back() -> None:
    columns = {"id_share": [0.96, 0.96, 0.96, 0.96, 0.5, 0.96, 0.96, 0.96]}
    whole = history(columns)
    told = [len(news(whole[: n + 1], BY)) for n in range(len(whole))]
    assert told == [0, 0, 1, 0, 0, 0, 0, 1]


def test_a_run_tells_and_logs_its_diagnoses(tmp_path: Path) -> None:
    scores = iter([0.03] * 52)

    def evaluate(model: object) -> dict[str, float]:
        return {"id/ndcg@10": 0.0, "id/hr@10": next(scores), "popularity/hr@10": 0.03}

    reporter = Silent()
    toy_train(tmp_path, epochs=52, patience=60, evaluate=evaluate, reporter=reporter)
    found = [line for line in reporter.messages if line.startswith("stuck at popularity")]
    assert len(found) == 1 and "after 50 epochs" in found[0]
    log = (tmp_path / "logs" / "diagnoses.csv").read_text().splitlines()
    assert log[0] == "epoch,diagnosis" and log[1].startswith("50,") and len(log) == 2
    assert found[0] in log[1]


def test_a_run_knows_what_its_branches_are_worth_alone(tmp_path: Path) -> None:
    toy_train(tmp_path / "baselines" / "sasrec", epochs=1, evaluate=scripted([0.4]))

    def evaluate(model: object) -> dict[str, float]:
        return {"id/ndcg@10": 0.001}

    reporter = Silent()
    toy_train(tmp_path, epochs=5, evaluate=evaluate, reporter=reporter)
    # 12 targets: a score must be 0.28 below to be told.
    assert any("id no longer improves" in line and "0.4000" in line for line in reporter.messages)
