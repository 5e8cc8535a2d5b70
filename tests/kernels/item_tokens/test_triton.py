"""The item_tokens kernels in Triton's interpreter, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse
from item_tokens_cases import given
from torch import Tensor

from odmt_fast.kernels.dropout.reference import dropout_reference
from odmt_fast.kernels.item_tokens import reference
from odmt_fast.kernels.item_tokens.fwd import item_layout, item_rows

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]

LENGTHS = [((2, 1, 3), (1, 1, 4)), ((1,), (130,)), ((3, 1, 300, 2, 2),)]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_layout_is_the_references(lengths: tuple[tuple[int, ...], ...]) -> None:
    own = tuple(torch.tensor(length) for length in lengths)
    rows = (*(sum(length) for length in lengths), len(lengths[0]))
    cu_seqlens, readouts, sources = item_layout(own, sum(rows))
    expected_cu, places, expected_readouts = reference.layout(own, rows, own[0].device)
    assert torch.equal(cu_seqlens, expected_cu) and cu_seqlens.dtype == torch.int32
    assert torch.equal(readouts, expected_readouts)
    assert torch.equal(sources[torch.cat(places)], torch.arange(sum(rows)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(7, 768), (37, 24), (5, 123), (1, 4)])
def test_rows_are_moved_and_dropped_there_and_back(
    shape: tuple[int, int], p: float, dtype: torch.dtype, seed: Tensor
) -> None:
    x, sources = torch.randn(shape).to(dtype), torch.randperm(shape[0])
    begun = torch.tensor([int(seed), 4 * shape[1]])
    for own in (seed, begun):
        there = item_rows(x, sources, p, own, back=False)
        assert torch.equal(there, dropout_reference(x[sources], p, own) if p else x[sources])
        back = item_rows(x, sources, p, own, back=True)
        assert torch.equal(back[sources], dropout_reference(x, p, own) if p else x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    p: float,
    dtype: torch.dtype,
    seed: Tensor,
) -> None:
    case = given(((2, 1, 3, 9), (1, 1, 4, 2)))
    tensors = [t.to(dtype).double() for t in (*case.values, *case.weights, *case.biases)]

    def ours(*given: Tensor) -> Tensor:
        return case.run(*given, p=p, seed=seed)

    def by_operators(*given: Tensor) -> Tensor:
        with monkeypatch.context() as forced:
            forced.setenv("ODMT_FAST_BACKEND", "reference")
            return ours(*given)

    names = ("x", *(f"d{kind}{m}" for kind in ("value", "weight", "bias") for m in range(3)))
    assert_no_worse(names, ours, by_operators, tensors, dtype, with_gradients)


def test_masters_get_gradients_of_their_own_and_frozen_tokens_none(seed: Tensor) -> None:
    case = given()
    masters = [w.float().requires_grad_() for w in (*case.weights, *case.biases)]
    values = [value.bfloat16() for value in case.values]
    ids = values[-1].requires_grad_()
    made = case.run(*values, *masters, p=0.3, seed=seed)
    made.float().square().sum().backward()
    assert made.dtype == ids.grad.dtype == torch.bfloat16
    for master in masters:
        assert master.grad.dtype == torch.float32 and master.grad.is_contiguous()
    assert values[0].grad is None
