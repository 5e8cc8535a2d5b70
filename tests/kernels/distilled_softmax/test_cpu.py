"""The CPU engine against the float64 law: values, gradients, bounds, determinism."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax
from odmt_fast.kernels.distilled_softmax.spec import stats_width

pytestmark = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def cpu_backend(monkeypatch):
    monkeypatch.setenv("ODMT_FAST_BACKEND", "cpu")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("branches", [1, 2, 3, 4, 5])
def test_no_worse_than_eager(make_problem, no_worse, branches, tau, dtype):
    no_worse(make_problem(branches=branches, tau=tau, seed=branches).to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("budget", [1, 3000, 2**28], ids=["a-row", "some-rows", "all-rows"])
def test_chunks_and_detached_teachers(make_problem, no_worse, budget, detach, dtype):
    problem = replace(make_problem().to(dtype), detach_teacher=detach)
    no_worse(problem, distilled_softmax, memory_budget=budget)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        {"users": 1, "longest": 2},
        {"n_columns": 1, "users": 3},
        {"n_columns": 2, "users": 1, "longest": 9},
        {"n_columns": 3, "users": 4, "longest": 12},
        {"edges": ()},
        {"edges": ((0, ENSEMBLE),), "branches": 1},
        {"n_columns": 129, "width": 5},
    ],
    ids=["row", "column", "only-targets", "repeats", "no-edges", "one-branch", "ragged-lanes"],
)
def test_corner_shapes(make_problem, no_worse, shape, dtype):
    no_worse(make_problem(**shape).to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tau", [0.1, 1.0, 2.0])
def test_huge_logits(make_problem, no_worse, tau, dtype):
    problem = make_problem(scale=45.0, tau=tau)
    assert (problem.queries @ problem.items.transpose(1, 2)).abs().max() > 1e4
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fifty_thousand_columns_with_heavy_duplicates(make_problem, no_worse, dtype):
    problem = make_problem(n_columns=50_000, users=2, width=4, duplicates=1000, scale=0.1)
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factors", [(1.0, 0.0), (0.0, 1.0)], ids=["weight-0", "only-distillation"])
def test_gradients_of_one_kind_of_loss(make_problem, no_worse, factors, dtype):
    # Branch 0 is no student: what it gets of the distillation is the teacher's gradient.
    problem = replace(make_problem(edges=((1, 0), (2, 0), (2, ENSEMBLE))), factors=factors)
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("budget", [3000, 2**28], ids=["some-rows", "all-rows"])
def test_rows_of_any_scale(make_problem, no_worse, budget, dtype):
    problem = make_problem(users=8, weighed=True)
    no_worse(problem.to(dtype), distilled_softmax, memory_budget=budget)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("budget", [3000, 2**28], ids=["some-rows", "all-rows"])
@pytest.mark.parametrize("branches", [1, 3])
def test_padding_has_no_part(make_problem, padding_has_no_part, branches, budget, dtype):
    problem = make_problem(branches=branches).to(dtype)
    padding_has_no_part(problem, distilled_softmax, memory_budget=budget)


def test_zero_upstream_gives_zero_gradients(make_problem):
    got = replace(make_problem(), factors=(0.0, 0.0)).run(distilled_softmax)
    assert not got["d_queries"].any() and not got["d_items"].any()


def test_no_rows(make_problem):
    problem = make_problem()
    c = problem.candidates
    empty = replace(
        problem,
        queries=problem.queries[:, :0],
        candidates=c._replace(targets=c.targets[:0], row_user=c.row_user[:0]),
    )
    got = empty.run(distilled_softmax)
    assert not any(value.any() for value in got.values())


def test_nan_is_not_swallowed(make_problem):
    problem = make_problem()
    problem.queries[0, 0, 0] = float("nan")
    ce, _ = distilled_softmax(
        problem.queries, problem.items, problem.candidates, tau=0.3, edges=problem.edges
    )
    assert ce[0].isnan() and not ce[1].isnan()


def test_backward_twice(make_problem):
    problem = make_problem()
    queries = problem.queries.requires_grad_()
    ce, kd = distilled_softmax(
        queries, problem.items, problem.candidates, tau=0.3, edges=problem.edges
    )
    first, second = (
        torch.autograd.grad(ce.sum() + kd.sum(), queries, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_row_passes_do_not_depend_on_threads(make_problem, dtype):
    problem = make_problem(users=9).to(dtype)
    logits = torch.bmm(problem.queries, problem.items.transpose(1, 2))
    outcomes = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            outcomes.append(_passes(problem, logits))
    finally:
        torch.set_num_threads(before)
    for other in outcomes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outcomes[0], other, strict=True))


def test_instruction_sets_agree(make_problem):
    from odmt_fast import _C

    problem = make_problem(n_columns=83)
    logits = torch.bmm(problem.queries, problem.items.transpose(1, 2))
    best, names = _C.isa(), _C.isas()
    assert names[-1] == "baseline"
    outcomes = []
    try:
        for name in names:
            assert _C.use_isa(name)
            outcomes.append(_passes(problem, logits))
    finally:
        _C.use_isa(best)
    for other in outcomes[1:]:
        for a, b in zip(outcomes[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("branches", [1, 3])
def test_without_edges_nothing_is_softened(make_problem, branches):
    problem = make_problem(branches=branches, edges=())
    _, stats, _ = _passes(problem, torch.bmm(problem.queries, problem.items.transpose(1, 2)))
    tops, _, soft_and_cross = stats.split(
        [branches + 1, branches, stats.shape[1] - 2 * branches - 1], 1
    )
    assert (tops[:, :branches] > -1e3).all() and (tops[:, branches] == -1e30).all()
    assert not soft_and_cross.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_that_lie_apart(make_problem, dtype):
    problem = make_problem(n_columns=37)
    logits = torch.bmm(problem.queries, problem.items.transpose(1, 2)).to(dtype)
    wide = torch.full((*logits.shape[:2], 48), float("nan"), dtype=dtype)
    wide[..., :37] = logits
    for apart, together in zip(
        _passes(problem, wide[..., :37]), _passes(problem, logits), strict=True
    ):
        assert torch.equal(apart, together)


def test_a_stride_of_fewer_elements_than_columns_is_refused(make_problem):
    problem = make_problem(n_columns=37)
    logits = torch.zeros(3, len(problem.candidates.targets), 36)
    with pytest.raises(ValueError, match="stride must be at least the 37 columns, got 36"):
        _passes(problem, logits)


def _passes(problem, logits):
    """Totals, statistics and logit gradients of the two row passes."""
    from odmt_fast import _C
    from odmt_fast.kernels.debiased_logits.passes import pointers, prepared

    candidates = prepared(problem.candidates)
    branches, n_rows, _ = logits.shape
    stats = torch.zeros(n_rows, stats_width(branches))
    row_scale = torch.linspace(0, 1, n_rows)
    totals = torch.zeros(branches + len(problem.edges), dtype=torch.float64)
    gradients = torch.empty_strided(logits.shape, logits.stride(), dtype=logits.dtype)
    g_ce, g_kd = problem.upstream()
    common = {
        "logits": logits.data_ptr(),
        "bf16": logits.dtype == torch.bfloat16,
        "branches": branches,
        "rows": n_rows,
        "stride": logits.stride(1),
        "candidates": pointers(candidates),
        "edges": problem.edges,
        "tau": problem.tau,
        "row_scale": row_scale.data_ptr(),
        "stats": stats.data_ptr(),
    }
    _C.distilled_rows_forward(**common, totals=totals.data_ptr())
    _C.distilled_rows_backward(
        **common,
        gradients=gradients.data_ptr(),
        g_ce=g_ce.data_ptr(),
        g_kd=g_kd.data_ptr(),
        detach_teacher=False,
    )
    return totals, stats, gradients


def test_index_outside_is_named(make_problem):
    problem = make_problem()
    problem.candidates.targets[2] = 37
    with pytest.raises(IndexError, match=r"targets\[2\] = 37 is outside 0\.\.36"):
        problem.run(distilled_softmax)
