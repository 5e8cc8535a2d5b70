"""The study of candidates at a tiny size: every kind trained, resumed, and shown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import bench.report
import bench.results
from bench import anchor
from bench.anchor import EXAMPLE, Study, run_study
from bench.anchor_table import MARKS, section
from odmt_fast.cli.settings import load_config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench.results, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    source = tmp_path / "sequences"
    source.mkdir()
    lines = [f"u{u}\t" + " ".join(f"i{(u + 3 * t) % 11}" for t in range(6)) for u in range(9)]
    (source / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    small = {"model.width": 8, "model.max_seq_len": 4, "model.draws": 5, "training.epochs": 2}
    return Study(source, load_config(EXAMPLE, None).updated(small))


def test_a_study_trains_what_is_missing(folder: Path, study: Study, tmp_path: Path) -> None:
    run_study(study, 1, tmp_path / "work", only=["full", "mixed, recsys25"])
    first = json.loads((folder / f"{anchor.NAME}.json").read_text())
    assert [row["model"] for row in first["rows"]] == ["mixed, recsys25", "full"]
    assert all(row["epochs"] == 2 and row["epoch_cpu_seconds"] > 0.0 for row in first["rows"])
    assert str(tmp_path) not in json.dumps(first)
    run_study(study, 1, tmp_path / "work")
    both = json.loads((folder / f"{anchor.NAME}.json").read_text())
    assert both["rows"][:2] == first["rows"]
    assert {row["model"] for row in both["rows"]} == {name for name, _ in study.runs()}
    text = section(both)
    assert "9 test targets, 11 items, 54 interactions" in text
    assert "| full " in text and "0.0921" in text
    assert "The last run" not in text
    both["rows"][1] |= {"processor": "Made Up 9, AVX2", "epoch_cpu_seconds": 9.04}
    text = section(both)
    assert f"on a: {both['rows'][0]['processor']}; b: Made Up 9, AVX2. The last run" in text
    assert re.search(r"\| full .*\| +9\.0 b \|", text)
    other = replace(study, config=study.config.updated({"model.draws": 6}))
    with pytest.raises(ValueError, match="other settings or data; pass --fresh"):
        run_study(other, 1, tmp_path / "work")


def test_the_page_of_results_has_the_marks() -> None:
    text = bench.report.RESULTS.read_text()
    assert text.index(MARKS[0]) < text.index(MARKS[1])
    assert EXAMPLE.is_file()
