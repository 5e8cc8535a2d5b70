"""The training-step bench at a tiny size, and the official code's place in it."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from bench import step
from bench.gpu import official, training
from bench.gpu.case import Setting
from bench.gpu.rates import Rates
from bench.gpu.results import check
from bench.workload import Workload

RATES = Rates(copy_bytes=1e9, matmul_flop=1e9)
TINY = Workload(users=4, width=32, steps=5, text_tokens=9, items=40)

# What the harness asks of a clone: its module, its arguments, its call.
STAND_IN = """
import torch

class Model(torch.nn.Module):
    def __init__(self, args, pop_prob_list, item_num, t_feat, v_feat):
        super().__init__()
        self.args, self.t_feat = args, t_feat
        self.table = torch.nn.Embedding(item_num + 1, args.embedding_dim, padding_idx=0)
        assert len(pop_prob_list) == item_num + 1
        assert v_feat.shape[1] == 50

    def forward(self, epoch, sample_items_id, sample_items_text, log_mask, local_rank):
        assert sample_items_text.shape == (len(sample_items_id), 2 * self.args.num_words_title)
        assert len(sample_items_id) == log_mask.shape[0] * (log_mask.shape[1] + 1)
        x = self.table(sample_items_id) * self.t_feat[sample_items_id].mean(1)
        return x[:, ::2].view(-1).square().sum(), epoch * x.abs().sum()
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out as the official code, with a model of its interface."""
    folder = tmp_path / "code" / "model"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(STAND_IN)
    monkeypatch.setenv(official.ENVIRONMENT_VARIABLE, str(tmp_path))
    for name in ("model", "model.model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("model", "model.model"):
        sys.modules.pop(name, None)


def test_varied_steps_have_batches_of_their_own() -> None:
    rows = {TINY.batch_without(user).n_rows for user in range(TINY.users)}
    assert max(rows) < TINY.batch.n_rows
    _, same = step.build("engine", TINY)
    _, varied = step.build("engine", TINY, vary=True)
    torch.manual_seed(0)
    assert len({float(varied()) for _ in range(TINY.users)}) == TINY.users
    assert torch.isfinite(same())


def test_rows_of_all_implementations(clone: Path) -> None:
    rows = list(training.rows(Setting(torch.device("cpu"), tiny=True), RATES))
    check({"schema": 1, "sections": {"step": {"state": "done", "rows": rows}}})
    by_name = {row["variant"]: row for row in rows}
    # Those before torch.compile's slow start come twice.
    assert len(by_name) == 5 and len(rows) == 4 + 5
    assert all("both" in row for row in rows), rows
    assert [name for name, row in by_name.items() if row["ours"]] == ["ours, bf16"]
    # Equal weights, other dropout.
    losses = [by_name[name]["loss"] for name in ("ours, bf16", "reference, bf16")]
    assert losses[0] == pytest.approx(losses[1], rel=0.3)
    assert by_name["ours, bf16"]["users_per_s"] > 0


def test_the_official_step_trains_what_it_imports(clone: Path) -> None:
    before = list(sys.path)
    step = official.official_step(TINY, torch.device("cpu"))
    assert sys.path == before
    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_why_the_official_code_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(official.ENVIRONMENT_VARIABLE, raising=False)
    assert "no clone given" in str(official.missing(TINY))
    monkeypatch.setenv(official.ENVIRONMENT_VARIABLE, str(tmp_path))
    assert "has no code/model/model.py" in str(official.missing(TINY))
    rows = training.rows(Setting(torch.device("cpu"), tiny=True), RATES)
    assert "has no code/model/model.py" in next(rows)["skipped"]


def test_a_failing_implementation_does_not_stop_the_others() -> None:
    def fails() -> training.Step:
        raise RuntimeError("out of memory")

    setting = Setting(torch.device("cpu"), tiny=True)
    ours = partial(training.engine_step, TINY, setting.device, "bf16")
    entrants = [training.Entrant("rival", fails), training.Entrant("ours", ours)]
    rows = list(training.compare(TINY, entrants, setting, RATES))
    assert rows[0]["error"] == "RuntimeError: out of memory"
    assert rows[1]["ours"] and rows[1]["both"]["ms"] > 0
