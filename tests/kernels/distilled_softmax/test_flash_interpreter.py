"""The flash engine's kernels in Triton's interpreter: tiny, ragged; fp32 and fp16."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from odmt_fast.kernels.distilled_softmax import distilled_softmax

pytestmark = [
    pytest.mark.interpreter,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"
    ),
]


@pytest.fixture(autouse=True)
def triton_backend(monkeypatch):
    monkeypatch.setenv("ODMT_FAST_BACKEND", "triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("branches", "tau"), [(1, 0.1), (2, 2.0), (3, 0.3), (5, 1.0)])
def test_no_worse_than_eager(make_problem, no_worse, branches, tau, dtype):
    problem = make_problem(branches=branches, tau=tau, users=8, n_columns=101, width=40)
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize(
    "shape",
    [
        {"users": 1, "longest": 2},
        {"n_columns": 1, "users": 3},
        {"n_columns": 2, "users": 1, "longest": 9},
        {"edges": ()},
        {"n_columns": 2100, "users": 2, "width": 4, "duplicates": 1000},
        {"longest": 60, "users": 2, "n_columns": 70},
    ],
    ids=["row", "column", "only-targets", "no-edges", "many-columns", "long-history"],
)
def test_corners(make_problem, no_worse, shape):
    no_worse(make_problem(**{"edges": ((1, 0), (0, -1))} | shape), distilled_softmax)


def test_huge_logits(make_problem, no_worse):
    problem = make_problem(scale=45.0, tau=0.1, edges=((1, 0), (0, -1)))
    no_worse(problem, distilled_softmax, resolution=problem.resolution())


def test_panels_and_detached_teachers(make_problem, no_worse, monkeypatch):
    from odmt_fast.kernels.distilled_softmax import bwd

    monkeypatch.setattr(bwd, "panel_width", lambda columns, width, config: config.block_n)
    problem = replace(make_problem(n_columns=101), detach_teacher=True)
    no_worse(problem, distilled_softmax)
    again = [problem.run(distilled_softmax) for _ in range(2)]
    assert all(torch.equal(again[0][name], again[1][name]) for name in again[0])


def test_shares_of_a_row_that_see_only_history(make_problem, no_worse, monkeypatch):
    from odmt_fast.kernels.distilled_softmax import fwd

    monkeypatch.setattr(fwd, "shares", lambda rows, columns, config, device: (4, 32))
    problem = make_problem(users=1, longest=4, n_columns=100)
    c = problem.columns
    # Everything but columns 70.. is the user's history, so three shares have no weight.
    history = torch.cat([torch.arange(70), c.targets]).unique().int()
    problem = replace(
        problem,
        columns=c._replace(history=history, history_offsets=torch.tensor([0, len(history)]).int()),
    )
    no_worse(problem, distilled_softmax)
