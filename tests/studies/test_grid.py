"""A grid is what its file says, and what it cannot mean is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from odmt_fast.config import Config
from odmt_fast.studies.grid import Grid


def test_vary_gives_all_combinations() -> None:
    values = {"vary": {"model.name": ["odmt", "id"], "model.width": [8, 16]}, "seeds": [1, 5]}
    grid = Grid.of(values, Config())
    assert list(grid.rows) == [
        *("name=odmt,width=8", "name=odmt,width=16", "name=id,width=8", "name=id,width=16")
    ]
    row = grid.rows["name=id,width=16"]
    assert (row.model.name, row.model.width, grid.seeds, grid.against) == ("id", 16, (1, 5), None)
    lists = Grid.of({"vary": {"features.modalities": [[], ["text", "image"]]}}, Config())
    assert list(lists.rows) == ["modalities=_", "modalities=_text_,_image_"]


def test_rows_start_from_the_base() -> None:
    base = Config().updated({"model.width": 8})
    grid = Grid.of({"rows": {"plain": None, "wide": {"model.width": 32}}, "against": "plain"}, base)
    assert [row.model.width for row in grid.rows.values()] == [8, 32]
    assert (grid.seeds, grid.against) == ((1,), "plain")


ROW = {"a": {"model.width": 8}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a study has base, vary, rows, seeds, against"),
        ({"rows": ROW, "seed": 1}, "'seed' is none of"),
        ({}, "either 'vary' or 'rows'"),
        ({"rows": ROW, "vary": {"model.width": [8]}}, "either 'vary' or 'rows'"),
        ({"rows": {}}, "must hold named rows"),
        ({"rows": {"../a": {}}}, "row '../a' becomes a folder"),
        ({"rows": {"..": {}}}, "row '..' becomes a folder"),
        ({"rows": {"a": [1]}}, "row a must hold settings"),
        ({"vary": {"model.width": 8}}, "must hold lists"),
        ({"vary": {"model.width": []}}, "must hold lists"),
        ({"vary": {"model.width": [8, 8]}}, "two rows the name 'width=8'"),
        ({"rows": ROW, "seeds": []}, "different whole numbers"),
        ({"rows": ROW, "seeds": [1, 1]}, "different whole numbers"),
        ({"rows": ROW, "seeds": 3}, "different whole numbers"),
        ({"rows": ROW, "against": "b"}, "against='b' is no row; choose from a"),
        ({"vary": {"training.seed": [1, 2]}}, "sets training.seed: list the seeds"),
        ({"rows": {"a": {"data.path": "x"}}}, "one dataset"),
        ({"rows": {"a": {"model.wdth": 8}}}, "'model.wdth' is not a setting"),
        ({"rows": {"a": {"evaluation.k": [10]}}}, "sets evaluation.k"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("..", r"\.\.")):
        Grid.of(values, Config())
