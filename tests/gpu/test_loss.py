"""The loss on CUDA tensors: both engines, every dtype, against the float64 law."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from gpu.problems import Problem, assert_no_worse
from torch import Tensor

from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE
from odmt_fast.kernels.debiased_logits import debiased_logits
from odmt_fast.kernels.debiased_logits.reference import debiased_logits as logits_reference
from odmt_fast.kernels.distilled_softmax import Candidates, distilled_softmax
from odmt_fast.kernels.distilled_softmax.op import MEMORY_BUDGET_BYTES
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax as loss_reference
from odmt_fast.models.losses.distilled import edges

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("poisoned_empty")]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def candidates_of(users: int, longest: int, n_columns: int) -> Candidates:
    """Users of 2..longest random items, repeats within and between users."""
    generator = torch.Generator().manual_seed(users)
    lengths = torch.randint(2, longest + 1, (users,), generator=generator).tolist()
    sequences = [torch.randint(0, n_columns, (n,), generator=generator) for n in lengths]
    histories = [s.unique() for s in sequences]
    return Candidates(
        log_p=torch.randn(n_columns, generator=generator).log_softmax(0),
        counts=torch.randint(1, 4, (n_columns,), generator=generator).int(),
        targets=torch.cat([s[1:] for s in sequences]),
        row_user=torch.arange(users).repeat_interleave(torch.tensor(lengths) - 1).int(),
        history_offsets=torch.tensor([0, *map(len, histories)]).cumsum(0).int(),
        history=torch.cat(histories).int(),
    )


def problem_of(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    law: Callable[..., Tensor | tuple[Tensor, ...]],
    shape: tuple[int, int, int, int, int],
) -> Problem:
    """Branches, users, longest, columns, width; several outputs are one after the other."""
    branches, users, longest, n_columns, width = shape
    candidates = candidates_of(users, longest, n_columns)
    torch.manual_seed(1)
    queries = 0.5 * torch.randn(branches, candidates.targets.numel(), width)
    items = 0.5 * torch.randn(branches, n_columns, width)

    def on(own: Callable[..., Tensor | tuple[Tensor, ...]], u: Tensor, e: Tensor) -> Tensor:
        out = own(u, e, Candidates(*(column.to(u.device) for column in candidates)))
        return out if isinstance(out, Tensor) else torch.cat(out)

    outputs = on(law, queries, items)
    return Problem(
        "-".join(map(str, shape)),
        (queries, items),
        torch.randn(outputs.shape),
        partial(on, function),
        partial(on, law),
    )


def loss_problem(
    shape: tuple[int, int, int, int, int], tau: float = 0.3, **options: object
) -> Problem:
    """distilled_softmax over the official edges."""
    settings = {"tau": tau, "edges": edges(shape[0])}
    return problem_of(
        partial(distilled_softmax, **settings, **options),
        partial(loss_reference, **settings),
        shape,
    )


def as_on(problem: Problem, device: torch.device, dtype: torch.dtype) -> Problem:
    """On the device; outputs are fp32 (fp64 for fp64), so is their gradient."""
    wide = torch.promote_types(dtype, torch.float32)
    moved = problem.to(device, dtype)
    return Problem(
        moved.name, moved.leaves, problem.upstream.to(device, wide), moved.kernel, moved.reference
    )


@pytest.fixture(params=["cuda", "triton"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Stored logits, and none stored."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, request.param)
    return str(request.param)


SHAPES = [(3, 8, 7, 101, 40), (3, 40, 13, 300, 768), (1, 1, 2, 1, 16), (5, 6, 9, 70, 24)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_small_losses_are_no_worse_than_eager(
    engine: str, shape: tuple[int, int, int, int, int], dtype: torch.dtype, device: torch.device
) -> None:
    rounded = as_on(loss_problem(shape), device, dtype)
    assert_no_worse(rounded, as_on(rounded, device, torch.float64))


def test_chunks_of_stored_logits(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cuda")
    problem = loss_problem((3, 40, 13, 300, 64), memory_budget=3 * 300 * 4 * 7)
    problem = as_on(problem, device, torch.float32)
    assert_no_worse(problem, as_on(problem, device, torch.float64))


def test_many_columns(engine: str, device: torch.device) -> None:
    problem = as_on(loss_problem((3, 60, 13, 9000, 64), tau=0.1), device, torch.bfloat16)
    assert_no_worse(problem, as_on(problem, device, torch.float64))


def test_memory_at_8192_users(engine: str, device: torch.device) -> None:
    n_columns, width = 14_000, 768
    candidates = Candidates(*(column.to(device) for column in candidates_of(8192, 13, n_columns)))
    bf16 = {"dtype": torch.bfloat16, "device": device, "requires_grad": True}
    queries = torch.randn(3, candidates.targets.numel(), width, **bf16)
    items = torch.randn(3, n_columns, width, **bf16)
    gradients = 2 * (queries.numel() + items.numel())
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    ce, kd = distilled_softmax(queries, items, candidates, tau=0.3, edges=edges(3))
    (ce.sum() + 0.5 * kd.sum()).backward()
    torch.cuda.synchronize(device)
    beyond = torch.cuda.max_memory_allocated(device) - before
    sums = 3 * 2 * items.numel()  # d(items) in fp32, and what a chunk adds to it
    stored = MEMORY_BUDGET_BYTES + gradients + sums + 2**26
    assert beyond < {"triton": 2.2 * gradients, "cuda": stored}[engine]


def test_equal_runs_give_equal_bits(engine: str, device: torch.device) -> None:
    problem = as_on(loss_problem((3, 40, 13, 300, 768)), device, torch.bfloat16)
    first = problem.run(problem.kernel)
    for _ in range(3):
        for a, b in zip(first, problem.run(problem.kernel), strict=True):
            assert torch.equal(a, b)


def test_compiled_equals_eager(engine: str, device: torch.device) -> None:
    problem = as_on(loss_problem((3, 8, 7, 101, 40)), device, torch.bfloat16)
    candidates = Candidates(*(column.to(device) for column in candidates_of(8, 7, 101)))
    pairs = edges(3)

    def loss(queries: Tensor, items: Tensor) -> Tensor:
        return torch.cat(distilled_softmax(queries, items, candidates, tau=0.3, edges=pairs))

    compiled = torch.compile(loss, fullgraph=True)
    for a, b in zip(problem.run(compiled), problem.run(problem.kernel), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_small_debiased_logits_are_no_worse_than_eager(
    dtype: torch.dtype, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cuda")
    problem = problem_of(debiased_logits, logits_reference, (3, 8, 7, 101, 40))
    rounded = as_on(problem, device, dtype)
    assert_no_worse(rounded, as_on(rounded, device, torch.float64))
