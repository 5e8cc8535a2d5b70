"""Random problems of the loss, and the accuracy rule (tests/accuracy.py) for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from accuracy import NUDGES, assert_within, error, largest, nudged

from odmt_fast.kernels.distilled_softmax import ENSEMBLE, Candidates, rows
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax

NAMES = ("ce", "kd", "d_queries", "d_items")

Outcome = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Problem:
    queries: torch.Tensor
    items: torch.Tensor
    candidates: Candidates
    edges: tuple[tuple[int, int], ...]
    tau: float
    detach_teacher: bool = False
    row_scale: torch.Tensor | None = None
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
            self.candidates,
            tau=self.tau,
            edges=self.edges,
            detach_teacher=self.detach_teacher,
            row_scale=self.row_scale,
            **options,
        )
        g_ce, g_kd = self.upstream()
        torch.autograd.backward((ce, kd), (g_ce.to(ce.dtype), g_kd.to(kd.dtype)))
        return dict(zip(NAMES, (ce.detach(), kd.detach(), queries.grad, items.grad), strict=True))

    def nudged(self, seed: int) -> Problem:
        """Inputs moved by a few units in the last place."""
        generator = torch.Generator().manual_seed(seed)
        queries, items = (nudged(x, x.dtype, generator) for x in (self.queries, self.items))
        return replace(self, queries=queries, items=items)


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
    weighed: bool = False,
    seed: int = 0,
) -> Problem:
    """Users of 2..longest items; items repeat within a user and between users.

    Weighed, the rows have scales between 0 and 1, the last of them 0.
    """
    generator = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, n: int) -> torch.Tensor:
        return torch.randint(low, high, (n,), generator=generator)

    sequences = [integers(0, n_columns, int(n)) for n in integers(2, max(3, longest + 1), users)]
    histories = [s.unique() for s in sequences]
    popularity = torch.rand(n_columns, generator=generator) + 1e-3
    rows = [len(s) - 1 for s in sequences]
    candidates = Candidates(
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
        candidates,
        every_edge(branches) if edges is None else edges,
        tau,
        row_scale=torch.linspace(1, 0, sum(rows)).square() if weighed else None,
    )


def with_padding(problem: Problem, *, rows: int = 3, columns: int = 5) -> Problem:
    """The problem followed by rows of scale 0, users of their own, and columns of count 0.

    The padded rows hold 1e4 and have padded and real columns as targets and histories.
    """
    c, (branches, n_rows, width) = problem.candidates, problem.queries.shape
    users, n_columns = len(c.history_offsets) - 1, len(c.counts)
    targets = (torch.arange(rows) % 2) * n_columns
    return replace(
        problem,
        queries=torch.cat(
            [problem.queries, problem.queries.new_full((branches, rows, width), 1e4)], 1
        ),
        items=torch.cat([problem.items, problem.items[:, :1].expand(-1, columns, -1)], 1),
        candidates=Candidates(
            log_p=torch.cat([c.log_p, c.log_p.new_zeros(columns)]),
            counts=torch.cat([c.counts, c.counts.new_zeros(columns)]),
            targets=torch.cat([c.targets, targets]),
            row_user=torch.cat([c.row_user, (users + torch.arange(rows)).int()]),
            history_offsets=torch.cat(
                [c.history_offsets, c.history_offsets[-1] + 1 + torch.arange(rows).int()]
            ),
            history=torch.cat([c.history, targets.int()]),
        ),
        row_scale=torch.cat([torch.full((n_rows,), 1.0 / n_rows), torch.zeros(rows)]),
    )


def assert_padding_has_no_part(problem: Problem, function, **options) -> None:
    """Padded rows and columns: finite losses, gradients of exactly 0, the others' unchanged."""
    plain, padded = (p.run(function, **options) for p in (problem, with_padding(problem)))
    n_rows, n_columns = problem.queries.shape[1], problem.items.shape[1]
    assert padded["d_queries"].shape[1] > n_rows and padded["d_items"].shape[1] > n_columns
    assert not padded["d_queries"][:, n_rows:].any()
    assert not padded["d_items"][:, n_columns:].any()
    padded["d_queries"] = padded["d_queries"][:, :n_rows]
    padded["d_items"] = padded["d_items"][:, :n_columns]
    bound = 4 * max(torch.finfo(dtype).eps for dtype in (problem.queries.dtype, torch.float32))
    for name, value in plain.items():
        torch.testing.assert_close(
            padded[name], value, rtol=bound, atol=bound * float(largest(value))
        )


def longer(problem: Problem, function):
    """`function` on the problem `with_padding`, of which the caller sees nothing."""

    def padded(queries, items, candidates, **options):
        long = with_padding(replace(problem, queries=queries, items=items, candidates=candidates))
        options |= {"row_scale": long.row_scale}
        return function(long.queries, long.items, long.candidates, **options)

    return padded


def assert_no_worse(problem: Problem, function, **options) -> None:
    """Every output is within twice the eager reference's error, see tests/accuracy.py."""

    @cache
    def near(which: int) -> tuple[Outcome, Outcome]:
        tried = problem.nudged(which) if which else problem
        return tried.run(distilled_softmax), tried.to(torch.float64).run(distilled_softmax)

    eager, exact = near(0)
    for name, got in problem.run(function, **options).items():
        assert got.dtype == eager[name].dtype
        pairs = (near(which) for which in range(1 + NUDGES))
        assert_within(name, got, exact[name], (error(a[name], b[name]) for a, b in pairs))


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels of both engines on a GPU are listed instead of launched."""
    triton = pytest.importorskip("triton")
    launched: list[str] = []

    def run(self, *arguments, **options):
        launched.append(self.__name__)

    monkeypatch.setattr(triton.runtime.JITFunction, "run", run)
    for name in ("forward", "backward"):
        monkeypatch.setattr(rows, name, lambda *arguments, name=name: launched.append(name))
    return launched


def shaped(
    n_rows: int, n_columns: int, device: str = "meta"
) -> tuple[torch.Tensor, torch.Tensor, Candidates]:
    """States, embeddings and columns of a batch without data: K = 3, d = 768, bf16."""

    def empty(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    return (
        empty(3, n_rows, 768, dtype=torch.bfloat16).requires_grad_(),
        empty(3, n_columns, 768, dtype=torch.bfloat16).requires_grad_(),
        Candidates(
            log_p=empty(n_columns, dtype=torch.float32),
            counts=empty(n_columns),
            targets=empty(n_rows, dtype=torch.int64),
            row_user=empty(n_rows),
            history_offsets=empty(n_rows // 6 + 1),
            history=empty(n_rows + n_rows // 6),
        ),
    )


@pytest.fixture(scope="session")
def make_problem():
    return random_problem


@pytest.fixture(scope="session")
def shapes():
    return shaped


@pytest.fixture(scope="session")
def padding_has_no_part():
    return assert_padding_has_no_part


@pytest.fixture(scope="session")
def with_longer_operands():
    return longer


@pytest.fixture(scope="session")
def no_worse():
    return assert_no_worse


@pytest.fixture
def tile_search(monkeypatch, tmp_path):
    """Lets the tiles be searched, every run as fast as the other: (device name) -> the file."""
    from odmt_fast.kernels.launch import tuning

    def search(device_name):
        monkeypatch.setenv(tuning.ENVIRONMENT_VARIABLE, "1")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(tuning, "_found", {})
        monkeypatch.setattr(tuning, "_milliseconds", lambda run: float(run() is not None))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: device_name)
        return tmp_path / "bench/tuned" / f"{device_name.replace(' ', '_')}.json"

    return search
