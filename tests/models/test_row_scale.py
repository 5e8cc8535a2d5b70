"""`Batch.row_scale` in every loss: rows of 1 / M are their mean, rows of 0 are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from odmt_fast.batch.batch import Batch
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.losses.distilled import DistilledSoftmax
from odmt_fast.models.losses.softmax import Softmax

BRANCHES = ("id", "text", "image")
LOSSES = {
    "distilled": DistilledSoftmax(BRANCHES, tau=0.3, alpha=0.5),
    "softmax": Softmax(BRANCHES),
    "fused": Softmax(BRANCHES, fused=True),
    "one-branch": Softmax(BRANCHES[:1]),
}
REAL_ROWS = 5


@pytest.fixture
def batch() -> Batch:
    """Users of 3, 4 and 3 items; the third is the padding of the tests."""
    sequences = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    return Batch(**batch_index(sequences, torch.tensor([3, 4, 3]), 4)._asdict())


def run(loss: Loss, batch: Batch, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The loss and the gradients of states and items; the rows past the real ones hold 1e4."""
    generator = torch.Generator().manual_seed(0)
    branches = 1 if loss is LOSSES["one-branch"] else len(BRANCHES)
    states = torch.randn(branches, 7, 6, generator=generator).to(dtype)
    states[:, REAL_ROWS:] = 1e4
    states = states[:, : batch.n_rows].requires_grad_()
    items = torch.randn(branches, len(batch.items), 6, generator=generator).to(dtype)
    items.requires_grad_()
    log_p = torch.linspace(-1, -3, len(batch.items))
    value = loss(states, items, batch, log_p, 1.0)["loss"]
    return (value, *torch.autograd.grad(value, (states, items)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_rows_of_scale_0_are_not_there(batch: Batch, name: str, dtype: torch.dtype) -> None:
    real = replace(batch, targets=batch.targets[:REAL_ROWS], row_user=batch.row_user[:REAL_ROWS])
    scale = torch.tensor([1 / REAL_ROWS] * REAL_ROWS + [0.0] * 2)
    value, d_states, d_items = run(LOSSES[name], replace(batch, row_scale=scale), dtype)
    want, want_states, want_items = run(LOSSES[name], real, dtype)
    assert not d_states[:, REAL_ROWS:].any()
    for got, expected in (
        (value, want),
        (d_states[:, :REAL_ROWS], want_states),
        (d_items, want_items),
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
