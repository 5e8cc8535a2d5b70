"""Random problems of the loss, and the yardstick: twice the error of the eager reference.

The eager error of one small problem may be nothing by luck: a mean of two rows whose roundings
cancel. So it is taken as the worst of a few orders of rows, columns and width, which are the same
problem to the reference but for rounding. Besides, a result may be off by one rounding of its
tensor's largest value to its dtype. Errors are the largest of a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from odmt_fast.kernels.distilled_softmax import ENSEMBLE, Columns
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax

NAMES = ("ce", "kd", "d_queries", "d_items")
ORDERS = 4

Outcome = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Problem:
    queries: torch.Tensor
    items: torch.Tensor
    columns: Columns
    edges: tuple[tuple[int, int], ...]
    tau: float
    detach_teacher: bool = False
    factors: tuple[float, float] = (1.0, 1.0)  # of the upstream gradients of ce and kd

    def to(self, dtype: torch.dtype) -> Problem:
        return replace(self, queries=self.queries.to(dtype), items=self.items.to(dtype))

    def upstream(self):
        generator = torch.Generator().manual_seed(3)
        return (
            self.factors[0] * torch.randn(len(self.queries), generator=generator),
            self.factors[1] * torch.randn(len(self.edges), generator=generator),
        )

    def run(self, function, **options) -> Outcome:
        """ce, kd and the gradients of queries and items, given upstream gradients."""
        queries = self.queries.clone().requires_grad_()
        items = self.items.clone().requires_grad_()
        ce, kd = function(
            queries,
            items,
            self.columns,
            tau=self.tau,
            edges=self.edges,
            detach_teacher=self.detach_teacher,
            **options,
        )
        g_ce, g_kd = self.upstream()
        torch.autograd.backward((ce, kd), (g_ce.to(ce.dtype), g_kd.to(kd.dtype)))
        return dict(zip(NAMES, (ce.detach(), kd.detach(), queries.grad, items.grad), strict=True))

    def run_in_another_order(self, function, seed: int) -> Outcome:
        """`run` with rows, columns and width permuted; the gradients as if they were not."""
        generator = torch.Generator().manual_seed(seed)
        (_, n_rows, width), n_columns = self.queries.shape, self.items.shape[1]
        row, column, d = (
            torch.randperm(n, generator=generator) for n in (n_rows, n_columns, width)
        )
        place = column.argsort()
        c, offsets = self.columns, self.columns.history_offsets.tolist()
        histories = [place[c.history[a:b].long()].sort().values for a, b in pairwise(offsets)]
        permuted = replace(
            self,
            queries=self.queries[:, row][:, :, d],
            items=self.items[:, column][:, :, d],
            columns=Columns(
                log_p=c.log_p[column],
                counts=c.counts[column],
                targets=place[c.targets[row]],
                row_user=c.row_user[row],
                history_offsets=c.history_offsets,
                history=torch.cat(histories).int(),
            ),
        )
        out = permuted.run(function)
        d_queries, d_items = out["d_queries"][:, :, d.argsort()], out["d_items"][:, :, d.argsort()]
        return out | {"d_queries": d_queries[:, row.argsort()], "d_items": d_items[:, place]}


def every_edge(branches: int) -> tuple[tuple[int, int], ...]:
    """All students of all teachers, with one edge twice and one branch teaching itself."""
    return tuple((s, t) for t in range(ENSEMBLE, branches) for s in range(branches)) + ((0, -1),)


def random_problem(
    *,
    branches: int = 3,
    users: int = 5,
    longest: int = 7,
    n_columns: int = 37,
    width: int = 24,
    tau: float = 0.3,
    edges: tuple[tuple[int, int], ...] | None = None,
    scale: float = 0.5,
    duplicates: int = 3,
    seed: int = 0,
) -> Problem:
    """Users of 2..longest items; items repeat within a user and between users."""
    generator = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, n: int) -> torch.Tensor:
        return torch.randint(low, high, (n,), generator=generator)

    sequences = [integers(0, n_columns, int(n)) for n in integers(2, max(3, longest + 1), users)]
    histories = [s.unique() for s in sequences]
    popularity = torch.rand(n_columns, generator=generator) + 1e-3
    rows = [len(s) - 1 for s in sequences]
    columns = Columns(
        log_p=(popularity / popularity.sum()).log(),
        counts=integers(1, duplicates + 1, n_columns).int(),
        targets=torch.cat([s[1:] for s in sequences]),
        row_user=torch.arange(users).repeat_interleave(torch.tensor(rows)).int(),
        history_offsets=torch.tensor([0] + [len(h) for h in histories]).cumsum(0).int(),
        history=torch.cat(histories).int(),
    )
    return Problem(
        scale * torch.randn(branches, sum(rows), width, generator=generator),
        scale * torch.randn(branches, n_columns, width, generator=generator),
        columns,
        every_edge(branches) if edges is None else edges,
        tau,
    )


def errors(outcome: Outcome, gold: Outcome) -> dict[str, float]:
    """The largest absolute error of every tensor."""
    return {
        name: (outcome[name].double() - exact).abs().max().item() if exact.numel() else 0.0
        for name, exact in gold.items()
    }


def assert_no_worse(problem: Problem, function, **options) -> None:
    """Every output is within twice the eager reference's error, see the top of this file."""
    gold = problem.to(torch.float64).run(distilled_softmax)
    naive = problem.run(distilled_softmax)
    eager = [errors(naive, gold)]
    for seed in range(1, ORDERS):
        outcome = problem.run_in_another_order(distilled_softmax, seed)
        eager.append(errors(outcome, gold))
    got = problem.run(function, **options)
    for name, error in errors(got, gold).items():
        assert got[name].shape == gold[name].shape and got[name].dtype == naive[name].dtype
        assert torch.isfinite(got[name]).all(), f"{name} is not finite"
        largest = gold[name].abs().max().item() if gold[name].numel() else 0.0
        roundoff = torch.finfo(got[name].dtype).eps / 2
        worst = max(e[name] for e in eager)
        allowed = 2 * worst + roundoff * largest
        assert error <= allowed, f"{name}: {error}, eager {worst}, allowed {allowed}"


@pytest.fixture(scope="session")
def make_problem():
    return random_problem


@pytest.fixture(scope="session")
def no_worse():
    return assert_no_worse
