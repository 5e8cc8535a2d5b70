"""How the flash engine shares out the columns and panels the rows."""

from __future__ import annotations

import math

import pytest
import torch

from odmt_fast.kernels.distilled_softmax import ENSEMBLE
from odmt_fast.kernels.distilled_softmax.configs import NARROW, SQUARE, block_d, panel_rows, shares
from odmt_fast.kernels.distilled_softmax.spec import Distillation, stats_width
from odmt_fast.kernels.launch.device import KNOWN


@pytest.mark.parametrize("rows", [1, 800, 100_000])
@pytest.mark.parametrize("columns", [1, 40, 1700, 51_000])
def test_shares_cover_the_columns_and_fill_the_device(rows, columns):
    device = KNOWN[90]
    n_shares, share_n = shares(rows, columns, NARROW, device)
    assert share_n % NARROW.block_n == 0
    assert (n_shares - 1) * share_n < columns <= n_shares * share_n
    row_blocks = math.ceil(rows / NARROW.block_m)
    tiles = math.ceil(columns / NARROW.block_n)
    assert row_blocks * n_shares >= min(device.processors, row_blocks * tiles / 2)


@pytest.mark.parametrize(("width", "padded"), [(768, 768), (96, 96), (100, 112), (16, 16), (5, 16)])
def test_width_is_hardly_padded(width, padded):
    step = block_d(width, NARROW)
    assert math.ceil(width / step) * step == padded


@pytest.mark.parametrize(
    ("rows", "columns", "width", "panel"),
    [
        (5, 9, 768, 64),  # one tile
        (1_536, 1_280, 768, 1_536),  # a small batch: one panel
        (49_000, 14_000, 768, 2_624),  # as large as the queries, in equal panels
        (10, 10_000_000, 16, 64),
    ],
)
def test_panels_are_about_as_large_as_the_queries(rows, columns, width, panel):
    assert panel_rows(rows, columns, width, SQUARE) == panel


def test_equal_edges_are_one_pair():
    found = Distillation.of(((1, 0), (0, ENSEMBLE), (1, 0)), 3)
    assert (found.students, found.teachers, found.edge_to_pair) == ((1, 0), (0, 3), (0, 1, 0))
    assert found.softened == (True, True, False, True)
    assert found.per_pair(torch.tensor([1.0, 2.0, 4.0])).tolist() == [5.0, 2.0]
    assert stats_width(3) == 23
