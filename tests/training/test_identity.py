"""What a run may go on with."""

from __future__ import annotations

import pytest

from odmt_fast.config import Config
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import leave_one_out
from odmt_fast.training.errors import ResumeError
from odmt_fast.training.identity import check_same, identity

SPLIT = leave_one_out(Sequences.from_lists([[1, 2, 3, 4], [2, 3, 1, 4]]), 4, 3)


def test_a_setting_that_came_later_had_its_default() -> None:
    saved = identity(Config(), SPLIT, {})
    del saved["model.item_dropout"]
    assert check_same(saved, identity(Config(), SPLIT, {})) == []
    now = identity(Config().updated({"model.item_dropout": 0.5}), SPLIT, {})
    with pytest.raises(ResumeError, match="model.item_dropout was 0.0 and is 0.5"):
        check_same(saved, now)


def test_a_best_epoch_chosen_by_other_targets_is_not_gone_on_with() -> None:
    saved = identity(Config(), SPLIT, {})
    now = identity(Config().updated({"evaluation.valid_targets": 1}), SPLIT, {})
    with pytest.raises(ResumeError, match="evaluation.valid_targets was None and is 1"):
        check_same(saved, now)
