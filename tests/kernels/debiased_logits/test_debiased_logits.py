"""`debiased_logits`: hand-computed values, backends against the law, custom ops, torch.compile."""

from __future__ import annotations

import math

import pytest
import torch

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.debiased_logits import NEG, Candidates, debiased_logits
from odmt_fast.kernels.debiased_logits import reference as law
from odmt_fast.kernels.linear import libraries

needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)
BACKENDS = ["reference", pytest.param("cpu", marks=needs_extension)]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    monkeypatch.setenv("ODMT_FAST_BACKEND", request.param)
    torch.compiler.reset()
    return request.param


def candidates_of_two_users() -> Candidates:
    """User 0 saw columns 0, 2 (rows 0, 1); user 1 saw 1, 3 (row 2)."""
    return Candidates(
        log_p=torch.tensor([0.1, 0.2, 0.3, 0.1, 0.3]).log(),
        counts=torch.tensor([2, 1, 3, 1, 4], dtype=torch.int32),
        targets=torch.tensor([2, 0, 3]),
        row_user=torch.tensor([0, 0, 1], dtype=torch.int32),
        history_offsets=torch.tensor([0, 2, 4], dtype=torch.int32),
        history=torch.tensor([0, 2, 1, 3], dtype=torch.int32),
    )


def inputs(dtype=torch.float32, branches=2, width=6):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(branches, 3, width, generator=generator).to(dtype)
    items = torch.randn(branches, 5, width, generator=generator).to(dtype)
    return queries, items


def test_by_hand(backend):
    queries, items = torch.ones(1, 3, 1), torch.zeros(1, 5, 1)
    z = debiased_logits(queries, items, candidates_of_two_users())[0]
    free = [math.log(count / p) for p, count in ((0.1, 2), (0.2, 1), (0.3, 3), (0.1, 1), (0.3, 4))]
    want = [
        [NEG, free[1], -math.log(0.3), free[3], free[4]],
        [-math.log(0.1), free[1], NEG, free[3], free[4]],
        [free[0], NEG, free[2], -math.log(0.1), free[4]],
    ]
    torch.testing.assert_close(z, torch.tensor(want))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equals_the_law(backend, dtype):
    candidates = candidates_of_two_users()
    outcomes = []
    for function in (debiased_logits, law.debiased_logits):
        queries, items = (x.requires_grad_() for x in inputs(dtype))
        z = function(queries, items, candidates)
        z.backward(torch.arange(z.numel()).view_as(z).float())
        outcomes.append((z.detach(), queries.grad, items.grad))
    for got, want in zip(*outcomes, strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_excluded_logits_carry_no_gradient(backend):
    queries, items = (x.requires_grad_() for x in inputs())
    z = debiased_logits(queries, items, candidates_of_two_users())
    z[z == NEG].sum().backward()
    assert not queries.grad.any() and not items.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_columns_of_count_0_weigh_nothing(backend, dtype):
    candidates = candidates_of_two_users()
    candidates.counts[[0, 3, 4]] = 0
    queries, items = (x.requires_grad_() for x in inputs(dtype))
    z = debiased_logits(queries, items, candidates)
    free = [[False, True, True, False, False], [True, True, False, False, False]]
    free.append([False, False, True, True, False])  # a target counts once whatever its count
    assert torch.equal(z != NEG, torch.tensor(free).expand_as(z))
    z[z == NEG].sum().backward()
    assert not queries.grad.any() and not items.grad.any()


def test_gradcheck_in_float64():
    candidates = candidates_of_two_users()
    leaves = [x.requires_grad_() for x in inputs(torch.float64, width=3)]
    assert torch.autograd.gradcheck(lambda q, e: debiased_logits(q, e, candidates), leaves)


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype):
    scores = torch.randn(2, 3, 5, dtype=dtype, requires_grad=True)
    arguments = (scores, *candidates_of_two_users(), dtype)
    torch.library.opcheck(torch.ops.odmt_fast.debiased_logits.default, arguments)


def test_compiles_whole(backend):
    candidates = candidates_of_two_users()
    outcomes = []
    for function in (
        debiased_logits,
        torch.compile(debiased_logits, fullgraph=True, backend="aot_eager"),
    ):
        queries, items = (x.requires_grad_() for x in inputs())
        z = function(queries, items, candidates)
        z.square().mean().backward()
        outcomes.append((z.detach(), queries.grad, items.grad))
    for got, want in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_slow_bf16_products_are_computed_in_fp32(backend, monkeypatch, compiled):
    narrow = libraries.Libraries(False, False, bf16_is_fast=False)
    monkeypatch.setattr(libraries, "_chosen", narrow)
    seen = []
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: seen.append(a.dtype) or bmm(a, b))
    function = (
        torch.compile(debiased_logits, backend="aot_eager", fullgraph=True)
        if compiled
        else debiased_logits
    )
    queries, items = (x.requires_grad_() for x in inputs(torch.bfloat16))
    got = function(queries, items, candidates_of_two_users())
    monkeypatch.undo()
    if not compiled:
        assert seen == [torch.float32]
    want = law.debiased_logits(queries, items, candidates_of_two_users())
    torch.testing.assert_close(got, want, atol=0.02, rtol=0.02)
    got.sum().backward()
    assert queries.grad.isfinite().all() and items.grad.dtype == torch.bfloat16


def test_no_rows_and_wrong_inputs(backend):
    candidates = candidates_of_two_users()
    queries, items = inputs()
    none = candidates._replace(targets=candidates.targets[:0], row_user=candidates.row_user[:0])
    assert debiased_logits(queries[:, :0], items, none).shape == (2, 0, 5)
    with pytest.raises(ValueError, match="items must be"):
        debiased_logits(queries, items[:1], candidates)
    with pytest.raises(ValueError, match=r"candidates\.history must be torch\.int32"):
        debiased_logits(queries, items, candidates._replace(history=candidates.history.long()))
