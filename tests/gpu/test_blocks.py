"""The written backwards on CUDA tensors: blocks, packed tokens, gathered rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gpu.problems import Problem
from item_tokens_cases import given as tokens_given
from torch import Tensor
from transformer_block_cases import Case, problem

from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear.products import wide_products_run

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("poisoned_empty")]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def block(case: Case, device: torch.device) -> Problem:
    """Of heads as wide as the kernels take."""
    given = problem(case, width=64, hidden=256)
    there = given.changed(
        cu_seqlens=given.cu_seqlens.to(device),
        readouts=given.readouts.to(device),
        seeds=tuple(None if seed is None else seed.to(device) for seed in given.seeds),
    )
    rows = given.readouts.numel() if case.readouts else len(given.x)
    return Problem(
        str(case),
        (given.x, *given.weights),
        torch.randn(rows, 64),
        there.run,
        there.run,
        parameters=len(given.weights),
    )


def tokens(p: float, device: torch.device) -> Problem:
    """Of items with some tokens and with many."""
    given = tokens_given(((2, 1, 3, 150), (1, 1, 4, 2)), width=64, dims=(48, 32, 64))
    there = given._replace(lengths=tuple(length.to(device) for length in given.lengths))

    def run(*tensors: Tensor) -> Tensor:
        return there.run(*tensors, p=p, seed=torch.tensor([-(10**15), 0], device=device))

    leaves = (*given.values, *given.weights, *given.biases)
    upstream = torch.randn(sum(len(value) for value in given.values), 64)
    return Problem(f"tokens-p{p}", leaves, upstream, run, run, parameters=6)


def gathered(device: torch.device) -> Problem:
    """Of more steps than rows, some rows never."""
    index = (torch.rand(700) ** 2 * 40).long().to(device)

    def run(table: Tensor) -> Tensor:
        return gathered_rows(table, index)

    return Problem("gathered", (torch.randn(3, 41, 300),), torch.randn(2100, 300), run, run)


MAKERS: list[Callable[[torch.device], Problem]] = [
    lambda device: block(Case(None, "asymmetric", 0.1), device),
    lambda device: block(Case(3, "causal", 0.1), device),
    lambda device: block(Case(None, "asymmetric", 0.1, readouts=3), device),
    lambda device: block(Case(None, "symmetric", 0.0, readouts=2), device),
    lambda device: tokens(0.0, device),
    lambda device: tokens(0.1, device),
    gathered,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", MAKERS)
def test_no_worse_than_the_operators_by_reference(
    make: Callable[[torch.device], Problem],
    dtype: torch.dtype,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = make(device).to(device, dtype)
    got, again = (given.run(given.kernel) for _ in range(2))
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    naive = given.run(given.reference)
    wide = given.to(device, torch.float64)
    exact = wide.run(wide.reference)
    for number, (a, same, b, gold) in enumerate(zip(got, again, naive, exact, strict=True)):
        assert a.dtype == b.dtype and torch.equal(a, same), number
        # An activation rounded across zero is a jump in the gradient, for both: the whole counts.
        errors = [float((x.double() - gold).norm()) for x in (a, b)]
        assert errors[0] <= 2 * errors[1] + 1e-6 * float(gold.norm()), (number, errors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_torch_writes_narrow_products_in_fp32(dtype: torch.dtype, device: torch.device) -> None:
    assert wide_products_run(device, dtype, torch.float32)
