"""The operator: law by gradcheck and properties, custom ops, torch.compile, messages."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax, op
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax as reference

EDGES = ((1, 0), (2, 0), (0, ENSEMBLE))
needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)


def arguments(problem, queries, items):
    students, teachers = zip(*problem.edges, strict=True)
    return (
        queries,
        items,
        *problem.columns,
        problem.tau,
        list(students),
        list(teachers),
        problem.detach_teacher,
        2**28,
    )


def test_gradcheck_in_float64(make_problem):
    problem = make_problem(users=2, longest=4, n_columns=6, width=3).to(torch.float64)
    leaves = [x.requires_grad_() for x in (problem.queries, problem.items)]

    def loss(queries, items):
        return distilled_softmax(queries, items, problem.columns, tau=0.7, edges=problem.edges)

    assert torch.autograd.gradcheck(loss, leaves)


@needs_extension
def test_opcheck(make_problem):
    problem = make_problem(users=3)
    leaves = [x.requires_grad_() for x in (problem.queries, problem.items)]
    torch.library.opcheck(op._forward_op, arguments(problem, *leaves))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_compiles_whole(make_problem, monkeypatch, backend):
    if backend == "cpu" and extension_missing("cpu"):
        pytest.skip(extension_missing("cpu"))
    monkeypatch.setenv("ODMT_FAST_BACKEND", backend)
    torch.compiler.reset()
    problem = make_problem()
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
        problem.queries, problem.items, problem.columns, tau=problem.tau, edges=problem.edges
    )
    torch.autograd.backward((ce, kd), problem.upstream())
    torch.testing.assert_close(leaf.grad, both[f"d_{wanted}"])


def test_detached_teachers_get_nothing(make_problem):
    problem = make_problem(edges=((1, 0), (2, 0)))
    queries, items = problem.queries.requires_grad_(), problem.items
    _, kd = distilled_softmax(
        queries, items, problem.columns, tau=0.3, edges=problem.edges, detach_teacher=True
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
    a = reference(problem.queries, problem.items, problem.columns, tau=0.3, edges=problem.edges)
    b = reference(
        problem.queries[swapped],
        problem.items[swapped],
        problem.columns,
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
    ],
)
def test_wrong_settings_are_named(make_problem, change, message):
    problem = make_problem()
    settings_ = {"tau": 0.3, "edges": EDGES} | change
    with pytest.raises(ValueError, match=message):
        distilled_softmax(problem.queries, problem.items, problem.columns, **settings_)


def test_wrong_tensors_are_named(make_problem):
    p = make_problem()
    call = lambda q, e, c: distilled_softmax(q, e, c, tau=0.3, edges=EDGES)  # noqa: E731
    with pytest.raises(ValueError, match="items must be"):
        call(p.queries, p.items[:, :, :-1], p.columns)
    with pytest.raises(ValueError, match=r"columns\.targets must be torch\.int64"):
        call(p.queries, p.items, p.columns._replace(targets=p.columns.targets.int()))
    with pytest.raises(ValueError, match=r"columns\.counts must be \[37\]"):
        call(p.queries, p.items, p.columns._replace(counts=p.columns.counts[:-1]))
    with pytest.raises(ValueError, match=r"1\.\.5 branches, got 6"):
        call(p.queries.repeat(2, 1, 1), p.items.repeat(2, 1, 1), p.columns)
