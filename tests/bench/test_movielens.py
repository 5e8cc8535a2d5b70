"""The MovieLens study at a tiny size: resumed, refused, and shown as means over seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import bench.report
import bench.results
from bench import movielens
from bench.movielens import EXAMPLE, Study, run_study
from bench.movielens_table import MARKS, section
from odmt_fast.cli.settings import load_config
from odmt_fast.data.demo import DemoOptions, write_demo


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench.results, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    config = load_config(EXAMPLE, None).updated(
        {
            "model.width": 8,
            "model.max_seq_len": 6,
            "training.epochs": 2,
            "training.precision": "fp32",
            "training.device": "cpu",
            "training.tensorboard": False,
        }
    )
    source = write_demo(tmp_path / "shop", DemoOptions(users=40, items=80, side=16))
    words = dict.fromkeys(("text", "image"), ("--width", "16"))
    return Study(source, words, config, {"training.epochs": 3})


def test_a_study_goes_on_where_it_stopped(folder: Path, study: Study, tmp_path: Path) -> None:
    run_study(study, 1, tmp_path / "work")
    first = json.loads((folder / "movielens.json").read_text())
    models = [(row["model"], row["seed"]) for row in first["rows"]]
    assert models == [("counted", None), ("odmt", 1), ("sasrec", 1), ("sasrec-long", 1)]
    assert (first["users"], first["items"]) == (40, 80)
    assert first["config"]["training"]["epochs"] == 2
    assert str(tmp_path) not in json.dumps(first)
    assert "0." in section(first)

    run_study(study, 2, tmp_path / "work")
    both = json.loads((folder / "movielens.json").read_text())
    assert both["rows"][:4] == first["rows"]
    assert [row["seed"] for row in both["rows"][4:]] == [2, 2, 2]
    for row, again in zip(both["rows"][1:4], both["rows"][4:], strict=True):
        assert row["metrics"] != again["metrics"]

    with pytest.raises(ValueError, match="other settings or data; pass --fresh"):
        run_study(replace(study, long={"training.epochs": 4}), 1, tmp_path / "work")


def test_the_page_gets_means_and_errors(tmp_path: Path) -> None:
    def row(model: str, seed: int | None, **hits: float) -> dict[str, object]:
        metrics = {
            name: dict.fromkeys(("hr@5", "hr@10", "hr@20", "ndcg@10"), value)
            for name, value in hits.items()
        }
        run = {"epochs": 9, "best_epoch": 7, "validation": 0.5, "training_seconds": 18.0}
        return {"model": model, "seed": seed, "metrics": metrics, **run}

    branches = {"id": 0.1, "text": 0.2, "image": 0.3}
    rows = [
        row("counted", None, popularity=0.0446, markov=0.09, **{"co-occurrence": 0.08}),
        *(row("odmt", s, **branches, ensemble=0.4 + s / 100) for s in (1, 2, 3)),
        *(row("sasrec", s, sasrec=0.11) for s in (1, 2, 3)),
    ]
    results = {
        "rows": rows,
        "long": {"model.dropout": 0.1},
        "config": {"evaluation": {"metric": "hr@10"}},
        "machine": {"cores": 2},
        **{"users": 1234, "items": 5, "interactions": 6},
    }
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    bench.report.write_between(page, MARKS, section(results))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "0.4200 ± 0.0058" in text  # seeds 0.41, 0.42, 0.43: 0.01 / sqrt(3)
    assert "0.0446" in text
    assert "1,234 users" in text and "7 of 9, 7 of 9, 7 of 9" in text
    assert "dropout 0.1" not in text  # no run of the second SASRec
    assert section({**results, "rows": rows[:1]}) == "Unfinished: no run of ODMT is there."
    with pytest.raises(ValueError, match="lacks"):
        bench.report.write_between(tmp_path / "page.md", ("<!-- x -->", "<!-- /x -->"), "")


def test_the_page_of_results_has_the_marks() -> None:
    text = bench.report.RESULTS.read_text()
    assert text.index(MARKS[0]) < text.index(MARKS[1])
    assert movielens.EXAMPLE.is_file()
