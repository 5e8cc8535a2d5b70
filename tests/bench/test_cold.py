"""The study of cold items at a tiny size: it goes on where it stopped, and becomes a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bench.results
from bench.cold import ALONE, RANKINGS, ColdStudy, marks, run_study, section
from bench.report import RESULTS
from odmt_fast.data.demo import DemoOptions


def test_a_study_goes_on_and_becomes_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.results, "FOLDER", tmp_path / "results")
    study = ColdStudy.demo(tmp_path / "work", DemoOptions(users=60, items=80, side=16))
    small = {"model.width": 8, "model.max_seq_len": 6, "training.epochs": 1}
    study = ColdStudy("demo", study.source, study.config.updated(small))
    run_study(study, 1, tmp_path / "work")
    file = tmp_path / "results" / "cold_demo.json"
    first = json.loads(file.read_text())
    run_study(study, 2, tmp_path / "work")
    both = json.loads(file.read_text())
    assert both["rows"][:1] == first["rows"] and [row["seed"] for row in both["rows"]] == [1, 2]
    assert str(tmp_path) not in json.dumps(both)
    for row in both["rows"]:
        assert (row["items"], row["cold_items"]) == (80, 8)
        groups = row["groups"]
        assert groups["cold items"]["targets"] + groups["items of the training"]["targets"] == 60
        assert groups[ALONE]["targets"] == groups["cold items"]["targets"]
        alone, together = (groups[name]["metrics"]["text"] for name in (ALONE, "cold items"))
        assert alone["hr@10"] == 1.0  # of eight items
        assert all(alone[metric] >= together[metric] for metric in together)
        assert set(groups["cold items"]["metrics"]) == set(RANKINGS)
        assert groups["cold items"]["metrics"]["popularity"]["hr@10"] == 0.0
    lines = section(both).splitlines()
    assert len({len(line) for line in lines if line.startswith("|")}) == 1
    assert "±" in lines[4] and "±" not in "".join(section(first).splitlines()[2:])


@pytest.mark.parametrize("data", ["demo", "movielens"])
def test_the_page_has_a_place_for_each_table(data: str) -> None:
    page = RESULTS.read_text("utf-8")
    begin, end = marks(data)
    assert page.index(begin) < page.index(end)
