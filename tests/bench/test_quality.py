"""The quality study goes on where it stopped, repeats its runs, and gets its statistics right."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import bench.report
import bench.results
from bench import paired
from bench.quality import Data, Run, Setting, plan, train
from bench.results import Record
from odmt_fast.data.demo import DemoOptions

HEAD = {"setting": {"epochs": 3}, "users": 9}
SMALL = Setting(
    epochs=2,
    averaged=1,
    shop=DemoOptions(users=40, items=80, side=32),
    width=8,
    steps=6,
    tokens=2,
    seeds=2,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench.results, "FOLDER", tmp_path)
    return tmp_path


def made_up(shifts: tuple[float, ...]) -> list[dict[str, Any]]:
    """Seed s: the reference at 0.2 + s / 100, the engine `shifts` above, other noise below it."""
    rows = []
    for seed, shift in enumerate(shifts, 1):
        level = 0.2 + seed / 100
        for run, value in (
            (Run("engine", seed, 0), level + shift),
            (Run("reference", seed, 0), level),
            (Run("engine", seed, 1), level - shift),
        ):
            rows.append({**asdict(run), **dict.fromkeys(bench.report.RANKINGS, value)})
    return rows


def test_a_study_goes_on_where_it_stopped(folder: Path) -> None:
    runs = plan(SMALL)
    assert len(runs) == len(set(runs)) == 6
    assert len({(run.implementation, run.rng()) for run in runs}) == 6
    keys = tuple(asdict(runs[0]))
    record = Record("quality_x", HEAD, keys)
    record.add({**asdict(runs[1]), "id": 0.5})
    again = Record("quality_x", HEAD, keys)
    assert [run for run in runs if not again.has(**asdict(run))] == [runs[0], *runs[2:]]
    again.add({**asdict(runs[0]), "id": 0.25})
    written = json.loads((folder / "quality_x.json").read_text())
    assert [row["id"] for row in written["rows"]] == [0.5, 0.25]
    assert {key: written[key] for key in HEAD} == HEAD
    with pytest.raises(ValueError, match="other settings or data; pass --fresh"):
        Record("quality_x", {**HEAD, "users": 8}, keys)
    fresh = Record("quality_x", {**HEAD, "users": 8}, keys, fresh=True)
    assert not any(fresh.has(**asdict(run)) for run in runs)


def test_a_setting_that_came_later_had_its_default(folder: Path) -> None:
    def record(**later: bool) -> Record:
        return Record("x", {"config": {"training": {"patience": 7, **later}}}, ("seed",))

    record().add({"seed": 1})
    assert record(recompute=False).has(seed=1)
    with pytest.raises(ValueError, match="other settings or data; pass --fresh"):
        record(recompute=True)


def test_runs_differ_in_their_dropout_noise_alone(tmp_path: Path) -> None:
    data = Data.of(SMALL, tmp_path)
    plain, engine, other = plan(SMALL)[:3]
    assert [run.implementation for run in (plain, engine, other)] == ["reference", *["engine"] * 2]
    # Few users make HR@10 coarse: without noise the same users are found, exactly.
    still = replace(SMALL, dropout=0.0)
    assert train(plain, still, data) == train(engine, still, data)
    noisy = replace(SMALL, dropout=0.3)
    found = train(engine, noisy, data)
    assert train(other, noisy, data) != found
    assert train(engine, noisy, data) == found


def test_differences_are_paired_by_seed() -> None:
    rows = made_up((0.01, 0.03, 0.02))
    gap = paired.differences(rows, paired.ENGINE, paired.REFERENCE, "ensemble")
    assert gap == pytest.approx([0.01, 0.03, 0.02])
    estimate = paired.Estimate.of(gap)
    assert estimate.mean == pytest.approx(0.02)
    assert estimate.error == pytest.approx(0.01 / 3**0.5)
    assert not estimate.within_one_error
    assert paired.Estimate.of([-0.01, 0.01, 0.003]).within_one_error
    assert paired.complete_seeds(rows[:-1]) == [1, 2]


@pytest.mark.parametrize(
    ("shifts", "verdict"),
    [((0.01, 0.03, 0.02), "does not lie within"), ((-0.01, 0.03, -0.02), "+0.0000 ± 0.0153, lies")],
)
def test_the_page_says_what_was_found(
    shifts: tuple[float, ...],
    verdict: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench.report, "PLOT", tmp_path / "docs" / "images" / "plot.png")
    monkeypatch.setattr(bench.report, "PAGE", tmp_path / "docs" / "page.md")
    (tmp_path / "docs").mkdir()
    results = {
        "name": "quality_demo",
        "setting": asdict(replace(SMALL, seeds=3)),
        "users": 40,
        "items": 80,
        "baselines": {"popularity": 0.0123},
        "rows": made_up(shifts),
    }
    page = bench.report.quality_section(results)
    assert verdict in page and "popularity 0.0123" in page and "0.2200 ± 0.0058" in page
    assert (tmp_path / "docs" / "images" / "quality_demo.png").exists()
    results["rows"] = results["rows"][:-1]
    assert "Unfinished: 2 of 3 seeds" in bench.report.quality_section(results)
