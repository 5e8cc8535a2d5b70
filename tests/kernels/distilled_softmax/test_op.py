"""The operator: law by gradcheck and properties, custom ops, torch.compile, messages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax as reference
from odmt_fast.kernels.distilled_softmax.spec import Spec

EDGES = ((1, 0), (2, 0), (0, ENSEMBLE))
needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)


def arguments(problem, queries, items):
    spec = Spec(problem.tau, problem.edges, problem.detach_teacher, 2**28)
    return queries, items, *problem.candidates, problem.row_scale, *spec.settings, "cpu"


@pytest.mark.parametrize("weighed", [False, True])
def test_gradcheck_in_float64(make_problem, weighed):
    shape = {"users": 2, "longest": 4, "n_columns": 6, "width": 3}
    problem = make_problem(**shape, weighed=weighed).to(torch.float64)
    problem.candidates.counts[:2] = 0
    leaves = [x.requires_grad_() for x in (problem.queries, problem.items)]

    def loss(queries, items):
        return distilled_softmax(
            queries,
            items,
            problem.candidates,
            tau=0.7,
            edges=problem.edges,
            row_scale=problem.row_scale,
        )

    assert torch.autograd.gradcheck(loss, leaves)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_padding_has_no_part_in_the_law(make_problem, padding_has_no_part, dtype):
    padding_has_no_part(make_problem().to(dtype), reference)


def test_padding_costs_the_law_no_accuracy(make_problem, with_longer_operands, no_worse):
    # In fp32 torch's products may add the terms of a longer operand in another order.
    problem = make_problem()
    no_worse(problem, with_longer_operands(problem, reference))


def test_rows_of_one_scale_are_their_mean(make_problem):
    problem = make_problem().to(torch.float64)
    n_rows = problem.queries.shape[1]
    weighed = replace(problem, row_scale=torch.full((n_rows,), 1 / n_rows, dtype=torch.float64))
    mean, summed = problem.run(reference), weighed.run(reference)
    for name in mean:
        torch.testing.assert_close(summed[name], mean[name], rtol=1e-12, atol=1e-14)


@needs_extension
@pytest.mark.parametrize("weighed", [False, True])
def test_opcheck(make_problem, weighed):
    problem = make_problem(users=3, weighed=weighed)
    leaves = [x.requires_grad_() for x in (problem.queries, problem.items)]
    torch.library.opcheck(
        torch.ops.odmt_fast.distilled_softmax.default, arguments(problem, *leaves)
    )


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_compiles_whole(make_problem, monkeypatch, backend, weighed):
    if backend == "cpu" and extension_missing("cpu"):
        pytest.skip(extension_missing("cpu"))
    monkeypatch.setenv("ODMT_FAST_BACKEND", backend)
    torch.compiler.reset()
    problem = make_problem(weighed=weighed)
    eager = problem.run(distilled_softmax)
    compiled = problem.run(torch.compile(distilled_softmax, fullgraph=True, backend="aot_eager"))
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("wanted", ["queries", "items"])
def test_one_input_may_need_no_gradient(make_problem, wanted):
    problem = make_problem()
    both = problem.run(distilled_softmax)
    leaf = getattr(problem, wanted).requires_grad_()
    ce, kd = distilled_softmax(
        problem.queries, problem.items, problem.candidates, tau=problem.tau, edges=problem.edges
    )
    torch.autograd.backward((ce, kd), problem.upstream())
    torch.testing.assert_close(leaf.grad, both[f"d_{wanted}"])


def test_detached_teachers_get_nothing(make_problem):
    problem = make_problem(edges=((1, 0), (2, 0)))
    queries, items = problem.queries.requires_grad_(), problem.items
    _, kd = distilled_softmax(
        queries, items, problem.candidates, tau=0.3, edges=problem.edges, detach_teacher=True
    )
    kd.sum().backward()
    assert not queries.grad[0].any() and queries.grad[1].any() and queries.grad[2].any()


@needs_extension
@settings(max_examples=25, deadline=None)
@given(
    branches=st.integers(1, 5),
    users=st.integers(1, 6),
    n_columns=st.integers(1, 50),
    width=st.integers(1, 20),
    tau=st.floats(0.1, 2.0),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_any_shape_agrees(
    make_problem, no_worse, branches, users, n_columns, width, tau, seed, data
):
    edge = st.tuples(st.integers(0, branches - 1), st.integers(ENSEMBLE, branches - 1))
    edges = tuple(data.draw(st.lists(edge, max_size=6)))
    problem = make_problem(
        branches=branches,
        users=users,
        n_columns=n_columns,
        width=width,
        tau=tau,
        seed=seed,
        edges=edges,
    )
    no_worse(problem, distilled_softmax)


@needs_extension
def test_the_build_has_the_row_passes_of_cuda():
    from odmt_fast import _C

    if not _C.build_info()["cuda"]:
        pytest.skip("built without CUDA")
    assert _C.build_info()["build"].split()[-1].startswith(("sm_", "compute_"))
    for name in (
        "distilled_rows_cuda_forward",
        "distilled_rows_cuda_backward",
        "debiased_rows_cuda",
    ):
        assert hasattr(_C, name)


def test_ensemble_losses_do_not_depend_on_the_order_of_branches(make_problem):
    problem = make_problem(edges=((0, ENSEMBLE),)).to(torch.float64)
    swapped = [1, 0, 2]
    a = reference(problem.queries, problem.items, problem.candidates, tau=0.3, edges=problem.edges)
    b = reference(
        problem.queries[swapped],
        problem.items[swapped],
        problem.candidates,
        tau=0.3,
        edges=((1, ENSEMBLE),),
    )
    torch.testing.assert_close(a[0][swapped], b[0])
    torch.testing.assert_close(a[1], b[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "tau must be finite and at least"),
        ({"tau": float("nan")}, "tau must be finite and at least"),
        ({"edges": ((0, 3),)}, r"edge \(0, 3\)"),
        ({"edges": ((-1, 0),)}, r"edge \(-1, 0\)"),
        ({"edges": ((0, 0),) * 33}, "at most 32 edges, got 33"),
        ({"memory_budget": 0}, "memory_budget must be positive"),
        (
            {"row_scale": torch.ones(3)},
            r"row_scale must be float32 or float64 \[\d+\], got .* \[3\]",
        ),
    ],
)
def test_wrong_settings_are_named(make_problem, change, message):
    problem = make_problem()
    settings_ = {"tau": 0.3, "edges": EDGES} | change
    with pytest.raises(ValueError, match=message):
        distilled_softmax(problem.queries, problem.items, problem.candidates, **settings_)


def test_a_scale_of_rows_that_wants_a_gradient_is_refused(make_problem):
    problem = make_problem(weighed=True)
    problem.row_scale.requires_grad_()
    with pytest.raises(ValueError, match=r"pass row_scale\.detach\(\)"):
        problem.run(distilled_softmax)


def test_wrong_tensors_are_named(make_problem):
    p = make_problem()
    call = lambda q, e, c: distilled_softmax(q, e, c, tau=0.3, edges=EDGES)  # noqa: E731
    with pytest.raises(ValueError, match="items must be"):
        call(p.queries, p.items[:, :, :-1], p.candidates)
    with pytest.raises(ValueError, match=r"candidates\.targets must be torch\.int64"):
        call(p.queries, p.items, p.candidates._replace(targets=p.candidates.targets.int()))
    with pytest.raises(ValueError, match=r"candidates\.counts must be \[37\]"):
        call(p.queries, p.items, p.candidates._replace(counts=p.candidates.counts[:-1]))
    with pytest.raises(ValueError, match=r"1\.\.5 branches, got 6"):
        call(p.queries.repeat(2, 1, 1), p.items.repeat(2, 1, 1), p.candidates)
