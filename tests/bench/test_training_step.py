"""The training-step bench at a tiny size, and the official code's place in it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from bench import official, step
from bench.operators.case import CannotRun, Setting
from bench.operators.training_step import TINY, TINY_SHOP, Step, WholeShop
from bench.shop import endless

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


def test_all_implementations_take_the_step(clone: Path) -> None:
    case = Step(Setting(tiny=True), TINY)
    losses = {v.name: float(v.make().step()[0]) for v in case.variants()}
    assert len(losses) == 6
    ours = [loss for name, loss in losses.items() if name.startswith("ours")]
    assert len(ours) == 2 and ours[0] == pytest.approx(ours[1], rel=0.3)
    # Equal weights, other dropout.
    assert losses["ours, bf16"] == pytest.approx(losses["reference, bf16"], rel=0.3)
    assert case.work.flop > 0


def test_the_official_step_trains_what_it_imports(clone: Path) -> None:
    before = list(sys.path)
    step = official.official_step(TINY, torch.device("cpu"))
    assert sys.path == before
    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_why_the_official_code_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(official.ENVIRONMENT_VARIABLE, raising=False)
    with pytest.raises(CannotRun, match="no clone given"):
        official.code_folder(TINY)
    monkeypatch.setenv(official.ENVIRONMENT_VARIABLE, str(tmp_path))
    with pytest.raises(CannotRun, match="has no code/model/model.py"):
        official.official_step(TINY, torch.device("cpu"))


def test_a_shop_has_full_length_users_and_another_batch_every_step() -> None:
    device = torch.device("cpu")
    collate = TINY_SHOP.collator(device)
    batches = list(zip(range(6), endless(TINY_SHOP.loader(collate, 4, device)), strict=False))
    length = TINY_SHOP.steps
    assert all((batch.cu_seqlens.diff() == length).all() for _, batch in batches)
    assert len({tuple(batch.occurrences.tolist()) for _, batch in batches}) == 6
    assert {source.n_items for source in TINY_SHOP.sources.values()} == {TINY_SHOP.items}
    assert TINY_SHOP.model().items.id_embedding.weight.shape[0] == TINY_SHOP.items + 1


def test_a_step_of_the_shop_runs_and_knows_its_work() -> None:
    case = WholeShop(Setting("cpu", torch.bfloat16, tiny=True), TINY_SHOP, 4)
    (variant,) = case.variants()
    run = variant.make()
    first, second = run.forward(), run.forward()
    assert torch.isfinite(first) and torch.isfinite(second) and first != second
    assert case.work.flop > 0
