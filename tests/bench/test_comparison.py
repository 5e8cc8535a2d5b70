"""A table of models at a tiny size: it goes on, is compared with the best baseline, and shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import bench.report
import bench.results
from bench import spaces
from bench.ablation_plot import draw
from bench.comparison import COUNTED, STUDIES, TABLES, Ablation, Study, folder_of, plan, run_study
from bench.comparison_table import marks, section
from bench.places import gains_of, packed, unpacked
from odmt_fast.cli.settings import load_grid, load_search
from odmt_fast.data.demo import DemoOptions, write_demo
from odmt_fast.evaluation import EvaluationResult

GRID = """
base:
  features: {modalities: [text, image]}
  model: {width: 8, max_seq_len: 6, user_layers: 1}
  training: {epochs: 1, tensorboard: false}
  evaluation: {metric: hr@10}
rows:
  sasrec-id: {model.name: id}
  unisrec-text: {model.name: unisrec, features.modalities: [text]}
  odmt: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bench.results, "FOLDER", tmp_path / "results")
    return tmp_path / "results" / "studies"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    source = write_demo(tmp_path / "shop", DemoOptions(users=40, items=80, side=16))
    (tmp_path / "shop.yaml").write_text(GRID)
    width = lambda source, work: ("--width", "16")  # noqa: E731
    return Study("shop", source, tmp_path / "shop.yaml", {"text": width, "image": width})


def test_a_table_goes_on_where_it_stopped(folder: Path, study: Study, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run_study(study, [1], work, only=["sasrec-id"], fresh=False)
    first = json.loads((folder / "shop.json").read_text())
    assert [row["model"] for row in first["rows"]] == [*COUNTED, "sasrec-id"]
    run_study(study, [1, 2], work, fresh=False)
    both = json.loads((folder / "shop.json").read_text())
    assert both["rows"][:4] == first["rows"]
    trained = [(row["model"], row["seed"]) for row in both["rows"][3:]]
    rows = ("sasrec-id", "unisrec-text", "odmt")
    assert trained == [(row, seed) for seed in (1, 2) for row in rows]
    assert str(tmp_path) not in json.dumps(both)
    assert both["rows"][4]["settings"] == {
        "model.name": "unisrec",
        "features.modalities": ["text"],
    }
    compared = json.loads((folder / "shop-compared.json").read_text())
    assert compared["models"] == [*COUNTED, *rows]
    assert compared["against"] in compared["models"][:-1]
    found = {(row["model"], row["metric"]): row for row in compared["rows"]}
    assert len(found) == 2 * (len(COUNTED) + 2)
    assert found["odmt", "hr@10"]["seeds"] == [1, 2]
    hits = [row["metrics"]["ensemble"]["hr@10"] for row in both["rows"] if row["model"] == "odmt"]
    against = [
        next(iter(row["metrics"].values()))["hr@10"]
        for row in both["rows"]
        if row["model"] == compared["against"]
    ]
    gap = sum(hits) / len(hits) - sum(against) / len(against)
    assert found["odmt", "hr@10"]["difference"] == pytest.approx(gap)
    lines = section(both, compared).splitlines()
    assert len({len(line) for line in lines if line.startswith("|")}) == 1
    level = sum(against) / len(against)
    assert f"{gap / level:+.1%} ({found['odmt', 'hr@10']['p']:.4f})" in "".join(lines)
    assert lines[0].startswith("40 test targets, 80 items") and "2 seeds" in lines[0]
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ·")] == [
        "· id branch",
        "· text branch",
        "· image branch",
    ]
    study.grid_file.write_text(GRID.replace("odmt: {}", "odmt: {model.tau: 0.5}"))
    with pytest.raises(ValueError, match="row odmt was made with {}, the file says"):
        run_study(study, [1], work, fresh=False)


def test_a_comparison_needs_the_committed_rows_alone(
    folder: Path, study: Study, tmp_path: Path
) -> None:
    run_study(study, [1], tmp_path / "work", fresh=False)
    made, compared = (folder / f"shop{end}.json" for end in ("", "-compared"))
    before = json.loads(compared.read_text())
    for again in range(2):
        shutil.rmtree(tmp_path / "work" / "runs", ignore_errors=True)
        if again:  # rows without places are not compared anew, and lose nothing
            rows = json.loads(made.read_text())
            rows["rows"] = [{k: v for k, v in r.items() if k != "places"} for r in rows["rows"]]
            made.write_text(json.dumps(rows))
        else:
            compared.unlink()
        run_study(study, [1], tmp_path / "work", fresh=False)
        assert json.loads(compared.read_text()) == before


def test_places_keep_what_the_metrics_see() -> None:
    draw = torch.Generator().manual_seed(1)
    ranks = torch.randint(1, 30, (2, 500), generator=draw)
    ties = torch.randint(0, 400, (2, 500), generator=draw) * (ranks % 3 == 0)
    zeros = torch.zeros(500, dtype=torch.int64)
    result = EvaluationResult(
        names=("id", "ensemble"),
        k=(10,),
        ranks=ranks,
        ties=ties,
        targets=zeros,
        rows=torch.arange(500),
        input_lengths=zeros,
        repeated=zeros.bool(),
        n_items=500,
        repeat_targets="rank",
    )
    found = unpacked(packed(result))
    for metric, gains in gains_of(result).items():
        assert (found[metric] == gains).all()
        assert gains.mean() == result.metrics["ensemble"][metric]


def test_a_plan_tells_what_it_would_cost(
    folder: Path, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="--only 'id' is not one of: sasrec-id,"):
        plan(study, 3, tmp_path / "work", only=["id"])
    plan(study, 3, tmp_path / "work", only=["odmt"])
    told = capsys.readouterr().out
    assert "odmt" in told and "3 seeds: at most" in told and not folder.exists()


@pytest.mark.parametrize("name", TABLES)
def test_the_files_of_the_tables_are_grids(name: str) -> None:
    grid = load_grid(TABLES[name].grid_file, (), {})
    assert {"sasrec-id", "odmt"} <= set(grid.rows)
    assert "odmt" not in Study.baselines(TABLES[name], grid)


def test_the_search_for_common_settings_is_one() -> None:
    rows, space = load_search(STUDIES / "movielens-search.yaml", None, (), {})
    assert set(rows) == {"sasrec-id", "odmt"} and "model.alpha" in space


def test_an_ablation_is_drawn_and_compared_with_the_row_as_given(
    folder: Path, study: Study, tmp_path: Path
) -> None:
    around = Ablation("shop-ablation", study.source, study.grid_file, study.features)
    only = ["as-given", "tau=0.1", "tau=1.0"]
    run_study(around, [1], tmp_path / "work", only=only, fresh=False)
    found = json.loads((folder / "shop-ablation.json").read_text())
    compared = json.loads((folder / "shop-ablation-compared.json").read_text())
    assert [row["model"] for row in found["rows"]] == only
    assert compared["against"] == "as-given"
    told = section(found, compared)
    assert "| as-given " in told and "baseline" not in told
    drawn = draw("shop-ablation", found, compared["models"], tmp_path / "images")
    assert all(path.stat().st_size > 0 for path in drawn)
    assert [path.name for path in sorted((tmp_path / "images").iterdir())] == [
        "shop-ablation-tau.png",
        "shop-ablation.png",
    ]


def test_where_the_items_of_a_run_lie(
    folder: Path, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    run_study(study, [1], work, only=["odmt"], fresh=False)
    monkeypatch.setattr(spaces, "IMAGES", tmp_path / "images")
    spaces.measure(folder_of(work, "odmt", 1), "pca", r"^(\w+)")
    text = spaces.section(json.loads((folder / "movielens-spaces.json").read_text()))
    assert "| text before" in text and "| id after" in text
    assert (tmp_path / "images" / "movielens-spaces-labels.png").is_file()
    page = bench.report.RESULTS.read_text("utf-8")
    assert page.index(spaces.MARKS[0]) < page.index(spaces.MARKS[1])


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_a_place_for_each_table(name: str) -> None:
    page = bench.report.RESULTS.read_text("utf-8")
    begin, end = marks(name)
    assert page.index(begin) < page.index(end)
