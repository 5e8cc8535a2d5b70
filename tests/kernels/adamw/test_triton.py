"""The adamw kernels in Triton's interpreter against torch.optim.AdamW."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from adamw_cases import model, torch_run
from torch import Tensor, nn

from odmt_fast.kernels.adamw import Tables, adamw
from odmt_fast.kernels.linear import cast
from odmt_fast.kernels.linear.copies import keep
from odmt_fast.training.optimizer import ClippingAdamW

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]


@pytest.mark.parametrize("clip_norm", [1.0, 1e9])
def test_no_worse_than_torch(clip_norm: float, no_worse: Callable[..., None]) -> None:
    gold = torch_run(model(torch.float64), clip_norm)
    naive = torch_run(model(torch.float32), clip_norm)
    got = model(torch.float32).run(adamw, clip_norm, tables=Tables())
    for i, values in enumerate(zip(got, gold, naive, strict=True)):
        no_worse(str(i), *values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_copies_are_the_rounded_weights(dtype: torch.dtype) -> None:
    ours = model(torch.float32, copies=dtype)
    ours.run(adamw, 1.0, tables=Tables())
    for entry in ours.entries:
        assert entry.copy is None or torch.equal(entry.copy, entry.weight.to(dtype))


def test_equal_runs_are_equal_and_any_address_serves() -> None:
    ours, moved = model(torch.float32), model(torch.float32)
    moved.entries = [entry._replace(weight=_shifted(entry.weight)) for entry in moved.entries]
    a, b = (m.run(adamw, 1.0, tables=Tables()) for m in (ours, moved))
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


def _shifted(x: Tensor) -> Tensor:
    """The values of x at an address that is no multiple of 16."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)


def test_a_step_with_an_overflow_changes_nothing() -> None:
    ours, untouched = model(torch.float32), model(torch.float32)
    norms = ours.run(adamw, 1.0, tables=Tables(), found_inf=torch.ones(1))
    expected = torch_run(model(torch.float32), 1.0)
    torch.testing.assert_close(norms[0], expected[0])
    for entry, before in zip(ours.entries, untouched.entries, strict=True):
        assert torch.equal(entry.weight, before.weight)
        assert not entry.exp_avg.any() and not entry.exp_avg_sq.any()
    assert not ours.steps.any()
    ours.run(adamw, 1.0, tables=Tables(), found_inf=torch.zeros(1))
    assert ours.steps.tolist() == [4, 4, 1, 4, 4, 4, 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_seen_in_the_norm_and_the_weights(bad: float) -> None:
    ours, theirs = model(torch.float32), model(torch.float32)
    for m in (ours, theirs):
        m.gradients[0][5][7] = bad
    got = ours.run(adamw, 1.0, tables=Tables())
    expected = torch_run(theirs, 1.0)
    assert not got[0].isfinite()
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.isfinite(), b.isfinite())


def test_late_steps_are_corrected_as_early_ones(no_worse: Callable[..., None]) -> None:
    from odmt_fast.kernels.adamw.reference import adamw_reference

    results = []
    for dtype, step in ((torch.float32, adamw), (torch.float64, None), (torch.float32, None)):
        ours = model(dtype)
        ours.steps = torch.full_like(ours.steps, 123_456.0)
        options = {"tables": Tables()} if step else {}
        results.append(ours.run(step or adamw_reference, 1.0, **options))
    for i, values in enumerate(zip(*results, strict=True)):
        no_worse(str(i), *values)


def test_the_optimiser_trains_by_the_kernels() -> None:
    """As torch does, from copies that are rewritten in place; autograd sees both as changed."""
    x, weights = torch.randn(5, 3), [nn.Parameter(torch.randn(4, 3)) for _ in range(2)]
    weights[1].data.copy_(weights[0].detach())
    ours = ClippingAdamW(weights[:1], lr=0.1, weight_decay=0.1)
    theirs = torch.optim.AdamW(weights[1:], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        for weight, narrow in zip(
            weights, (cast(weights[0], torch.bfloat16), weights[1].bfloat16()), strict=True
        ):
            weight.grad = None
            (x.bfloat16() @ narrow.T).square().sum().backward()
        before = weights[0]._version, cast(weights[0], torch.bfloat16)._version
        ours.step(clip_norm=0.5)
        torch.testing.assert_close(
            ours.gradient_norm, nn.utils.clip_grad_norm_(weights[1:], 0.5), rtol=1e-6, atol=0
        )
        theirs.step()
        torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-6)
        copy = keep(weights[:1])[0].current(weights[0])
        assert copy is None or torch.equal(copy, weights[0].detach().bfloat16())
        assert weights[0]._version > before[0]
    assert copy is not None and copy._version > before[1]
