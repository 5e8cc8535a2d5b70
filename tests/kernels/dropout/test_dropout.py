"""dropout: the random numbers, the public function, the graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.dropout.reference import dropout_reference, keep_mask, philox, threshold

needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason="the C++ extension is not built"
)


def test_philox_gives_the_published_numbers() -> None:
    # Random123, tests/kat_vectors: philox4x32, 7 rounds, zero counter and key.
    words = philox(torch.tensor([0]), torch.tensor([0]))[0].tolist()
    assert words == [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]


def test_both_halves_of_counter_and_key_matter() -> None:
    counter = torch.tensor([3, 3 + (1 << 32)])
    words = {
        tuple(row)
        for key in (5, 5 + (7 << 32))
        for row in philox(counter, torch.tensor([key])).tolist()
    }
    assert len(words) == 4


def test_threshold() -> None:
    assert threshold(0.0) == 0
    assert threshold(0.5) == 1 << 31
    assert threshold(1 - 1e-12) == (1 << 32) - 1


def test_runs_of_elements_agree_with_the_flat_mask(seed: Tensor) -> None:
    flat = keep_mask(torch.zeros((), dtype=torch.int64), 64, 0.4, seed)
    runs = keep_mask(torch.tensor([0, 16, 48]), 10, 0.4, seed)
    assert torch.equal(runs, torch.stack([flat[:10], flat[16:26], flat[48:58]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rate_scale_and_gradient(dtype: torch.dtype, seed: Tensor) -> None:
    x = torch.ones(400, 251, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.25, seed)
    kept = y != 0
    # 100400 draws: 5 standard deviations of the mean are 0.0068.
    assert abs(float(kept.double().mean()) - 0.75) < 0.0068
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 4 / 3))
    (dx,) = torch.autograd.grad(y, x, torch.full_like(y, 2.0))
    assert torch.equal(dx, dropout_reference(torch.full_like(x, 2.0), 0.25, seed))


def test_more_rows_move_no_other_groups_noise(seed: Tensor) -> None:
    x = torch.ones(3, 5, 7)
    longer = dropout(torch.cat((x, x), 1), 0.3, seed, 3)
    assert torch.equal(longer[:, :5], dropout(x, 0.3, seed, 3))
    assert torch.equal(longer[0], dropout(torch.ones(10, 7), 0.3, seed))
    assert not torch.equal(longer[0], longer[1])
    assert not torch.equal(longer[1], longer[2])


def test_zero_probability_is_the_identity() -> None:
    x = torch.randn(3)
    assert dropout(x, 0.0, None) is x


def test_gradcheck(seed: Tensor) -> None:
    x = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dropout(x, 0.3, seed), (x,))


@needs_extension
def test_custom_op(seed: Tensor) -> None:
    for x in (torch.randn(3, 7), torch.randn(7, 3, requires_grad=True).T):
        torch.library.opcheck(torch.ops.odmt_fast.dropout.default, (x, seed, 0.3, 7, "cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_equals_eager(dtype: torch.dtype, seed: Tensor) -> None:
    compiled = torch.compile(dropout, fullgraph=True, backend="aot_eager")
    results = []
    for function in (dropout, compiled):
        x = torch.arange(30, dtype=dtype).view(5, 6).requires_grad_()
        y = function(x, 0.3, seed)
        results.append((y, *torch.autograd.grad(y.sum(), x)))
    for eager, graph in zip(*results, strict=True):
        assert torch.equal(eager, graph)


@pytest.mark.parametrize(
    ("p", "wrong_seed", "message"),
    [
        (1.0, torch.tensor([1]), r"dropout must be in \[0, 1\), got 1.0"),
        (0.1, None, "needs a seed"),
        (0.1, torch.tensor([1.0]), "seed must be an int64 tensor"),
        (0.1, torch.tensor(1), "seed must be an int64 tensor"),
    ],
)
def test_wrong_arguments(p: float, wrong_seed: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dropout(torch.ones(4), p, wrong_seed)


@pytest.mark.parametrize("groups", [0, 3])
def test_unequal_groups_are_refused(groups: int, seed: Tensor) -> None:
    with pytest.raises(ValueError, match=f"groups={groups} cannot be equal parts of 4 elements"):
        dropout(torch.ones(4), 0.1, seed, groups)


def test_integers_are_refused(seed: Tensor) -> None:
    with pytest.raises(ValueError, match=r"x must be a floating tensor, got torch\.int64"):
        dropout(torch.arange(3), 0.1, seed)
