"""The ablation changes one thing a row, and only what the features allow."""

from __future__ import annotations

import pytest

from odmt_fast.config import Config
from odmt_fast.studies.ablation import BASE, PARTS, ablation

DIMS = {"text": 32, "image": 16}


def test_every_row_changes_one_part() -> None:
    base = Config().updated({"model.alpha": 0.02, "model.imt_layers": 1})
    grid = ablation(base, DIMS, PARTS, (1, 2))
    assert list(grid.rows) == [
        *(BASE, "mask=symmetric", "id_init=text", "id_init=image"),
        *("alpha=0.0", "alpha=0.2", "alpha=20.0", "alpha=100.0"),
        *("tau=0.1", "tau=0.2", "tau=0.5", "tau=0.7", "tau=1.0", "detach_teacher=True"),
        *("imt_layers=2", "imt_layers=3", "user_layers=1", "user_layers=3"),
    ]
    assert (grid.seeds, grid.against) == ((1, 2), BASE)
    assert grid.rows["id_init=image"].model.id_features == 16
    assert grid.rows["imt_layers=3"].model.heads == 1  # as given, so that 64 is a multiple
    for name, config in grid.rows.items():
        changed = {
            setting
            for setting, value in config.model.model_dump().items()
            if value != getattr(base.model, setting)
        }
        assert changed - {"id_width", "imt_heads"} == (
            set() if name == BASE else {name.partition("=")[0]}
        )


def test_the_mean_of_two_needs_one_width() -> None:
    grid = ablation(Config(), {"text": 8, "image": 8}, ["id_init"], (1,))
    assert list(grid.rows) == [BASE, "id_init=text", "id_init=image", "id_init=mean"]
    only = ablation(Config(), {"text": 8}, ["id_init"], (1,))
    assert list(only.rows) == [BASE, "id_init=text"]


def test_what_cannot_be_ablated_is_refused() -> None:
    with pytest.raises(ValueError, match="--only width is no part; choose from mask"):
        ablation(Config(), DIMS, ["width"], (1,))
    with pytest.raises(ValueError, match="nothing to ablate"):
        ablation(Config().updated({"model.name": "id"}), DIMS, PARTS, (1,))
    with pytest.raises(ValueError, match="nothing to ablate"):
        ablation(Config(), {}, PARTS, (1,))
