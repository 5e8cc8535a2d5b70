"""What the flash engine allocates, and how it shares and panels the columns."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from odmt_fast.kernels.debiased_logits.reference import Columns
from odmt_fast.kernels.distilled_softmax import ENSEMBLE
from odmt_fast.kernels.distilled_softmax.configs import NARROW, block_d, panel_width, shares
from odmt_fast.kernels.distilled_softmax.spec import Distillation, Spec, stats_width
from odmt_fast.kernels.launch.device import KNOWN, assume

EDGES = ((1, 0), (2, 0), (0, ENSEMBLE))


class Allocations(TorchDispatchMode):
    """Bytes of every storage that operators return, each counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if "empty" in str(function) or "mean" in str(function):
            self.total += out.untyped_storage().nbytes()
        return out


class NoKernel:
    def __getitem__(self, grid):
        return lambda *args, **options: None


@pytest.mark.parametrize("n", [1_000, 100_000])
def test_memory_is_rows_plus_columns_times_width(monkeypatch, n):
    pytest.importorskip("triton")
    from odmt_fast.kernels.distilled_softmax import bwd, fwd

    for module, name in (
        (fwd, "distilled_softmax_fwd_kernel"),
        (fwd, "distilled_softmax_join_kernel"),
        (bwd, "distilled_softmax_bwd_kernel"),
        (bwd, "panel_product_kernel"),
    ):
        monkeypatch.setattr(module, name, NoKernel())
    branches, width = 3, 768

    def meta(*shape, dtype=torch.bfloat16):
        return torch.empty(*shape, dtype=dtype, device="meta")

    queries, items = meta(branches, n, width), meta(branches, n, width)
    int32 = torch.int32
    columns = Columns(
        meta(n, dtype=torch.float32),
        meta(n, dtype=int32),
        meta(n, dtype=torch.int64),
        meta(n, dtype=int32),
        meta(n + 1, dtype=int32),
        meta(n, dtype=int32),
    )
    spec = Spec(0.3, EDGES, False, 1)
    with assume(KNOWN[90]), Allocations() as seen:
        _, _, stats = fwd.distilled_softmax_fwd(queries, items, columns, spec)
        upstream = meta(3, dtype=torch.float32), meta(3, dtype=torch.float32)
        bwd.distilled_softmax_bwd(upstream, queries, items, columns, spec, stats)
    inputs = queries.untyped_storage().nbytes() + items.untyped_storage().nbytes()
    assert seen.total < 3 * inputs


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


def test_panels_are_no_wider_than_needed():
    assert panel_width(70, 768, NARROW) == 96
    assert panel_width(50_000, 768, NARROW) == 768
    assert panel_width(50_000, 64, NARROW) == 512


def test_equal_edges_are_one_pair():
    found = Distillation.of(((1, 0), (0, ENSEMBLE), (1, 0)), 3)
    assert (found.students, found.teachers, found.edge_to_pair) == ((1, 0), (0, 3), (0, 1, 0))
    assert found.softened == (True, True, False, True)
    assert found.per_pair(torch.tensor([1.0, 2.0, 4.0])).tolist() == [5.0, 2.0]
    assert stats_width(3) == 23
