"""Random problems of the loss, and the yardstick: twice the error of the eager reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from odmt_fast.kernels.distilled_softmax import ENSEMBLE, Columns
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax

NAMES = ("ce", "kd", "d_queries", "d_items")


@dataclass(frozen=True)
class Problem:
    queries: torch.Tensor
    items: torch.Tensor
    columns: Columns
    edges: tuple[tuple[int, int], ...]
    tau: float
    detach_teacher: bool = False

    def to(self, dtype: torch.dtype) -> Problem:
        return replace(self, queries=self.queries.to(dtype), items=self.items.to(dtype))

    def resolution(self) -> float:
        """What one rounding of the largest score in fp32 moves a gradient by."""
        scores = self.queries @ self.items.transpose(1, 2)
        largest = max(self.queries.abs().max(), self.items.abs().max())
        return (2**-23 * scores.abs().max() * largest).item()

    def upstream(self):
        generator = torch.Generator().manual_seed(3)
        return (
            torch.randn(len(self.queries), generator=generator),
            torch.randn(len(self.edges), generator=generator),
        )

    def run(self, function, upstream=None, **options):
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
        g_ce, g_kd = self.upstream() if upstream is None else upstream
        torch.autograd.backward((ce, kd), (g_ce.to(ce.dtype), g_kd.to(kd.dtype)))
        return dict(zip(NAMES, (ce.detach(), kd.detach(), queries.grad, items.grad), strict=True))


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


def assert_no_worse(
    problem: Problem, function, mult: float = 2.0, resolution: float = 2e-8, **options
) -> None:
    """Every output is within mult of the eager reference's distance to float64, or resolution."""
    gold = problem.to(torch.float64).run(distilled_softmax)
    naive = problem.run(distilled_softmax)
    got = problem.run(function, **options)
    for name in NAMES:
        assert got[name].shape == gold[name].shape and got[name].dtype == naive[name].dtype
        assert torch.isfinite(got[name]).all(), f"{name} is not finite"
        if not gold[name].numel():
            continue
        errors = [(x[name].double() - gold[name]).abs().max().item() for x in (got, naive)]
        floor = resolution + 2e-6 * gold[name].abs().max().item()
        assert errors[0] <= mult * errors[1] + floor, f"{name}: {errors[0]} vs eager {errors[1]}"


@pytest.fixture(scope="session")
def make_problem():
    return random_problem


@pytest.fixture(scope="session")
def no_worse():
    return assert_no_worse
