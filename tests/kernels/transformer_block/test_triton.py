"""The written backward of the block in Triton's interpreter, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformer_block_cases import Case, Problem, problem

from odmt_fast.kernels.feed_forward import gpu as feed_forward
from odmt_fast.kernels.transformer_block import Weights
from odmt_fast.kernels.transformer_block.reference import (
    readout_block_reference,
    transformer_block_reference,
)

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]

CASES = [
    Case(None, "asymmetric", 0.3),
    Case(3, "causal", 0.3),
    Case(None, "symmetric", 0.0),
    Case(None, "asymmetric", 0.3, readouts=3),
    Case(None, "symmetric", 0.0, readouts=1),
]
NAMES = ("y", "dx", *(f"d{name}" for name in Weights._fields))


def by_operators(given: Problem, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """The same block as its operators compute it by the reference."""

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        rest = Weights(*weights), given.seeds, given.shape
        with monkeypatch.context() as forced:
            forced.setenv("ODMT_FAST_BACKEND", "reference")
            if given.whole:
                return transformer_block_reference(x, given.cu_seqlens, *rest)
            return readout_block_reference(x, given.cu_seqlens, given.readouts, *rest)

    return run


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What went through the written backward."""
    through: list[str] = []
    original = feed_forward.through_relu

    def noted(*arguments: Tensor, onto: Tensor | None = None) -> tuple[Tensor, ...]:
        through.append("added" if onto is not None else "apart")
        return original(*arguments, onto=onto)

    monkeypatch.setattr(feed_forward, "through_relu", noted)
    return through


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    written: list[str],
    case: Case,
    dtype: torch.dtype,
) -> None:
    given = problem(case)
    tensors = [t.to(dtype).double() for t in (given.x, *given.weights)]
    reference = by_operators(given, monkeypatch)
    assert_no_worse(
        NAMES, given.run, reference, tensors, dtype, with_gradients, measure=torch.Tensor.norm
    )
    assert written == ["added"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_masters_get_gradients_of_their_own_that_repeat_bit_for_bit(case: Case) -> None:
    given = problem(case)

    def gradients() -> list[Tensor]:
        masters = [w.float().requires_grad_() for w in given.weights]
        x = given.x.bfloat16().requires_grad_()
        made = given.run(x, *masters)
        assert made.dtype == torch.bfloat16
        made.float().square().sum().backward()
        for master in masters:
            assert master.grad.dtype == torch.float32 and master.grad.is_contiguous()
        return [made, x.grad, *(master.grad for master in masters)]

    for one, other in zip(gradients(), gradients(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frozen_parts_and_recomputation(case: Case, written: list[str]) -> None:
    given = problem(case)
    weights = [w.float().requires_grad_() for w in given.weights]
    x = given.x.float()
    given.run(x, *weights).square().sum().backward()  # frozen tokens get no gradient
    expected = [w.grad for w in weights]
    again = [w.detach().clone().requires_grad_() for w in weights]
    made = checkpoint(given.run, x, *again, use_reentrant=False, preserve_rng_state=False)
    made.square().sum().backward()
    for one, other in zip(expected, again, strict=True):
        assert torch.equal(one, other.grad)
    alone = x.clone().requires_grad_()
    given.run(alone, *(w.detach() for w in weights)).square().sum().backward()
    assert alone.grad is not None and alone.grad.isfinite().all()
    assert written == ["added"] * 3
    with torch.no_grad():
        assert torch.equal(given.run(x, *weights), made)
