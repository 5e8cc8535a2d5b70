"""What an evaluation tells beside its metrics, against counting by hand."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from odmt_fast.config import EvaluationConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import (
    Credit,
    EvaluationReport,
    EvaluationResult,
    Exposure,
    by_training,
    evaluate,
    exposures,
)
from odmt_fast.studies.report_plot import plot_report

N, K = 15, 3
BOUGHT = np.array([0, 9, 0, 4, 4, 0, 1, 2, 7, 3, 1, 0, 5, 6, 2, 1])


class Table(nn.Module):
    """A ranker whose user state is the embedding of the last input."""

    branches = ("id", "text", "image")

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.items = nn.Parameter(torch.randn(3, N + 1, 4, generator=generator))

    def encode_catalogue(self) -> Tensor:
        return self.items

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        return catalogue[:, items[offsets[1:] - 1]]


def users(n: int = 40) -> Sequences:
    draw = np.random.default_rng(5)
    return Sequences.from_lists([draw.permutation(N)[: draw.integers(2, 7)] + 1 for _ in range(n)])


SEQUENCES = users()
HISTORY = SEQUENCES.cut(None, -1)
SETTINGS = EvaluationConfig(k=(K,), metric=f"hr@{K}", batch_size=7)


@pytest.fixture(scope="module")
def result() -> EvaluationResult:
    return evaluate(Table(), SEQUENCES, HISTORY, SETTINGS, popularity=BOUGHT / BOUGHT.sum())


def test_exposure_is_that_of_the_lists() -> None:
    found = exposures(Table(), SEQUENCES, HISTORY, K, SETTINGS, BOUGHT)
    assert tuple(found) == ("id", "text", "image", "ensemble", "popularity")
    items = Table().items.detach().double()
    branches = dict(zip(Table.branches, items, strict=True))
    for name, told in found.items():
        shown: list[int] = []
        for user in range(len(SEQUENCES)):
            last = int(HISTORY[user][-1])
            score = {k: (v @ v[last]) for k, v in branches.items()}
            score["ensemble"] = torch.stack([*score.values()]).mean(0)
            score["popularity"] = torch.tensor(BOUGHT).double()
            past = set(HISTORY[user].tolist())
            left = [item for item in range(1, N + 1) if item not in past]
            shown += sorted(left, key=lambda item: (-float(score[name][item]), item))[:K]
        times = np.bincount(shown, minlength=N + 1)[1:]
        assert told.coverage == pytest.approx(len(set(shown)) / N)
        assert told.popularity == pytest.approx(np.mean([np.log1p(BOUGHT[i]) for i in shown]))
        assert told.cold == pytest.approx(np.mean([BOUGHT[i] == 0 for i in shown]))
        apart = np.abs(times[:, None] - times[None]).sum()  # its definition
        assert told.gini == pytest.approx(apart / (2 * N * N * times.mean()))


def test_even_and_one_sided_lists_are_the_ends_of_gini() -> None:
    bought = np.ones(5, np.int64)
    assert Exposure.of(np.array([0, 3, 3, 3, 3]), bought).gini == pytest.approx(0.0)
    assert Exposure.of(np.array([0, 0, 0, 9, 0]), bought).gini == pytest.approx(0.75)
    assert Exposure.of(np.zeros(5, np.int64), bought) == Exposure(0.0, 0.0, 0.0, 0.0)


def test_every_target_is_credited_once(result: EvaluationResult) -> None:
    credit = Credit.of(result, K)
    assert credit is not None
    assert credit.targets == len(SEQUENCES)
    rows = {name: result.ranks[row] for row, name in enumerate(result.names)}
    for size in range(4):
        for chosen in combinations(Table.branches, size):
            both = [0, 0]
            for user in range(len(SEQUENCES)):
                hits = tuple(b for b in Table.branches if int(rows[b][user]) <= K)
                if hits == chosen:
                    both[0] += 1
                    both[1] += int(rows["ensemble"][user]) <= K
            told = [s for s in credit.shares if s.branches == chosen]
            assert [(s.targets, s.ensemble) for s in told] == ([tuple(both)] if both[0] else [])
    found = sum(share.ensemble for share in credit.shares)
    assert found / len(SEQUENCES) == pytest.approx(result.value(f"hr@{K}"))
    assert credit.shares[-1].branches == ()
    assert Credit.of(result.select(torch.arange(3)), 99) is not None


def test_a_tie_across_the_cut_off_is_not_found() -> None:
    def with_ties(ties: int) -> Credit:
        ranks = torch.tensor([[3], [9], [9]])
        made = EvaluationResult(
            ("id", "text", "ensemble"), (K,), ranks, torch.tensor([[ties], [0], [0]]),
            *(torch.zeros(1, dtype=torch.int64) for _ in range(3)),
            torch.zeros(1, dtype=torch.bool), N, "rank",
        )  # fmt: skip
        credit = Credit.of(made, K)
        assert credit is not None
        return credit

    assert with_ties(0).table()[1][0] == ("id alone", "1", "100.0%", "0", "1")
    assert with_ties(1).table()[1][0] == ("no branch", "1", "100.0%", "0", "1")


def test_cold_targets_are_told_apart(result: EvaluationResult) -> None:
    groups = by_training(result, BOUGHT / BOUGHT.sum())
    cold = {int(t) for t in groups["cold items"].targets}
    assert cold <= {2, 5, 11}
    assert sum(group.n_users for group in groups.values()) == len(SEQUENCES)
    assert by_training(result, np.ones(N + 1)) == {}
    popularity = groups["cold items"].ranks[-1] + groups["cold items"].ties[-1]
    assert bool((popularity > K).all())  # nobody finds them by counting


def test_a_report_is_tables_json_and_a_figure(result: EvaluationResult, tmp_path: Path) -> None:
    report = EvaluationReport(
        result,
        by_training(result, BOUGHT / BOUGHT.sum()),
        K,
        exposures(Table(), SEQUENCES, HISTORY, K, SETTINGS, BOUGHT),
        Credit.of(result, K),
    )
    for _, header, rows in report.tables():
        assert {len(header)} == {len(row) for row in rows}
    values = json.loads(report.save(tmp_path, "test").read_text())
    assert values["exposure"]["rankings"]["id"]["coverage"] == report.exposure["id"].coverage
    assert sum(share["targets"] for share in values["credit"]["shares"]) == len(SEQUENCES)
    with Image.open(plot_report(report, f"hr@{K}", tmp_path / "plots" / "report.png")) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels < 10).all(-1).sum() > 500  # the ensemble is black
