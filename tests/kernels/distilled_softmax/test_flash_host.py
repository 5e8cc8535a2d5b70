"""How the flash engine shares out the columns, panels the rows and searches for tiles."""

from __future__ import annotations

import json
import math

import pytest
import torch

from odmt_fast.kernels.distilled_softmax import ENSEMBLE
from odmt_fast.kernels.distilled_softmax.configs import (
    NARROW,
    SQUARE,
    block_d,
    panel_rows,
    score_candidates,
    shares,
)
from odmt_fast.kernels.distilled_softmax.spec import Distillation, Spec, stats_width
from odmt_fast.kernels.launch.device import KNOWN, assume


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


def test_a_search_tries_every_tile_of_every_kernel(no_kernels, shapes, tile_search):
    from odmt_fast.kernels.distilled_softmax import flash

    found = tile_search("A GPU")
    queries, items, columns = shapes(6_000, 5_000)
    spec = Spec(0.3, ((1, 0), (2, 0), (0, ENSEMBLE)), False, 1)
    with assume(KNOWN[90]):
        _, _, stats, _ = flash.forward(queries, items, columns, None, spec)
        upstream = torch.empty(2, 3, device="meta").unbind()
        flash.backward(upstream, queries, items, columns, None, spec, stats, None)
    saved = json.loads(found.read_text())
    assert [key.split()[0] for key in sorted(saved)] == [
        "distilled_softmax_bwd",
        "distilled_softmax_fwd",
        *["distilled_softmax_product"] * 2,
    ]
    tried = {
        "distilled_softmax_fwd_kernel": {NARROW, *score_candidates(NARROW)},
        "distilled_softmax_bwd_kernel": {SQUARE, *score_candidates(SQUARE)},
    }
    panels = math.ceil(6_000 / panel_rows(6_000, 5_000, 768, SQUARE))
    assert panels > 1
    for name, used in (
        ("distilled_softmax_fwd_kernel", 1),
        ("distilled_softmax_bwd_kernel", panels),
    ):
        assert no_kernels.count(name) == len(tried[name]) + used
