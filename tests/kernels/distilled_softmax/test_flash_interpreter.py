"""The flash engine's kernels in Triton's interpreter: tiny, ragged; every dtype."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax
from odmt_fast.kernels.distilled_softmax.configs import TileConfig

pytestmark = [
    pytest.mark.interpreter,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"
    ),
]


@pytest.fixture(autouse=True)
def triton_backend(monkeypatch):
    monkeypatch.setenv("ODMT_FAST_BACKEND", "triton")


DTYPES = (torch.float32, torch.float16, torch.bfloat16)
BRANCHES_AND_TAU = [(1, 0.1), (2, 2.0), (3, 0.3), (4, 0.1), (5, 1.0)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("branches", "tau"), BRANCHES_AND_TAU)
def test_no_worse_than_eager(make_problem, no_worse, branches, tau, dtype):
    problem = make_problem(branches=branches, tau=tau, users=8, n_columns=101, width=40)
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize(
    "shape",
    [
        {"users": 1, "longest": 2},
        {"n_columns": 1, "users": 3},
        {"n_columns": 2, "users": 1, "longest": 9},
        {"n_columns": 3, "users": 4, "longest": 12},
        {"edges": ()},
        {"longest": 60, "users": 2, "n_columns": 70},
    ],
    ids=["row", "column", "only-targets", "repeats", "no-edges", "long-history"],
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_corners(make_problem, no_worse, shape, dtype):
    problem = make_problem(**{"edges": ((1, 0), (0, ENSEMBLE))} | shape)
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_huge_logits(make_problem, no_worse, dtype):
    problem = make_problem(scale=45.0, tau=0.1, edges=((1, 0), (1, 1), (0, ENSEMBLE)))
    no_worse(problem.to(dtype), distilled_softmax)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_any_scale(make_problem, no_worse, dtype):
    no_worse(make_problem(weighed=True).to(dtype), distilled_softmax)


@pytest.mark.parametrize("branches", [1, 3])
def test_padding_has_no_part(make_problem, padding_has_no_part, branches):
    edges = ((0, ENSEMBLE),) * (branches > 1)
    padding_has_no_part(make_problem(branches=branches, edges=edges), distilled_softmax)


@pytest.mark.parametrize("factors", [(1.0, 0.0), (0.0, 1.0)], ids=["weight-0", "only-distillation"])
def test_gradients_of_one_kind_of_loss(make_problem, no_worse, factors):
    problem = make_problem(edges=((1, 0), (2, 0), (2, ENSEMBLE)))
    no_worse(replace(problem, factors=factors), distilled_softmax)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fifty_thousand_columns_with_heavy_duplicates(make_problem, no_worse, monkeypatch, dtype):
    from odmt_fast.kernels.distilled_softmax import bwd, fwd

    # The interpreter takes as long for a large tile as for a small one.
    scores, product = TileConfig(16, 4096, 16, 1, 1), TileConfig(1024, 16, 1024, 1, 1)
    monkeypatch.setattr(fwd, "forward_config", lambda queries: scores)
    monkeypatch.setattr(bwd, "backward_config", lambda queries: scores)
    monkeypatch.setattr(bwd, "product_config", lambda a: product)
    edges = ((1, 0), (0, ENSEMBLE))
    shape = {"n_columns": 50_000, "users": 1, "width": 4, "duplicates": 1000, "scale": 0.1}
    no_worse(make_problem(branches=2, edges=edges, **shape).to(dtype), distilled_softmax)


def test_panels_and_detached_teachers(make_problem, no_worse, monkeypatch):
    from odmt_fast.kernels.distilled_softmax import bwd

    monkeypatch.setattr(bwd, "panel_rows", lambda rows, columns, width, config: config.block_m)
    problem = replace(make_problem(n_columns=101), detach_teacher=True)
    no_worse(problem, distilled_softmax)
    again = [problem.run(distilled_softmax) for _ in range(2)]
    assert all(torch.equal(again[0][name], again[1][name]) for name in again[0])


def test_a_search_for_tiles_changes_no_result(make_problem, no_worse, tile_search, monkeypatch):
    from odmt_fast.kernels.distilled_softmax import bwd, fwd

    found = tile_search("interpreter")
    other = TileConfig(16, 64, 16, 1, 1)
    monkeypatch.setattr(fwd, "score_candidates", lambda tile: [other])
    monkeypatch.setattr(bwd, "score_candidates", lambda tile: [other])
    monkeypatch.setattr(bwd, "product_candidates", lambda tile: [other])
    monkeypatch.setattr(bwd, "panel_rows", lambda rows, columns, width, config: 32)
    problem = make_problem(users=12, edges=((1, 0), (0, ENSEMBLE)))
    assert problem.queries.shape[1] > 32
    no_worse(problem, distilled_softmax)
    assert found.exists()


def test_shares_of_a_row_that_see_only_history(make_problem, no_worse, monkeypatch):
    from odmt_fast.kernels.distilled_softmax import fwd

    monkeypatch.setattr(fwd, "shares", lambda rows, columns, config, device: (4, 32))
    problem = make_problem(users=1, longest=4, n_columns=100)
    c = problem.candidates
    # Everything but columns 70.. is the user's history, so three shares have no weight.
    history = torch.cat([torch.arange(70), c.targets]).unique().int()
    problem = replace(
        problem,
        candidates=c._replace(
            history=history, history_offsets=torch.tensor([0, len(history)]).int()
        ),
    )
    no_worse(problem, distilled_softmax)
