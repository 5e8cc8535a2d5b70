"""The Transformer operators on CUDA tensors: accuracy, determinism, streams."""

from __future__ import annotations

import pytest
import torch
from gpu.problems import (
    ITEMS,
    SMALL,
    USERS,
    Problem,
    assert_no_worse,
    attention,
    drop,
    norm,
    readout,
)

from odmt_fast.kernels.launch.backends import choose_backend

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("poisoned_empty")]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGE = [
    attention(ITEMS * 4, 384, "asymmetric", 0.1, fused=True),
    attention(ITEMS, 384, "symmetric", 0.0),
    attention(USERS * 8, 384, "causal", 0.1, fused=True),
    attention((70, 128), 48, "asymmetric", 0.3),
    attention((130, 1), 64, "causal", 0.3, heads=1),
    attention((200, 256), 64, "asymmetric", 0.1),
    attention((300, 512), 32, "symmetric", 0.3, heads=1),
    attention((7, 3), 768, "causal", 0.0, heads=1),
    readout(ITEMS * 4, 768, "asymmetric", 0.1),
    readout((70,), 123, "symmetric", 0.3),
    readout((9, 4), 24, "symmetric", 0.3, rows=(5, 4)),
    readout((512, 3), 40, "asymmetric", 0.3),
    norm(3 * 257, 768, 3, 0.1),
    norm(1000, 768, 1, 0.0),
    norm(33, 4, 1, 0.3),
    drop((100, 768), 0.1),
    drop((1,), 0.1),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", SMALL, ids=str)
def test_small_problems_are_no_worse_than_eager(
    problem: Problem, dtype: torch.dtype, device: torch.device
) -> None:
    rounded = problem.to(device, dtype)
    assert_no_worse(rounded, rounded.to(device, torch.float64))


# Every kernel and dtype is compiled anew: bf16 is what trains, the others are sampled.
@pytest.mark.parametrize(
    ("problem", "dtype"),
    [
        *((problem, torch.bfloat16) for problem in LARGE),
        *((problem, dtype) for problem in LARGE[::4] for dtype in (torch.float32, torch.float16)),
        # Long segments in float32 are multiplied without the matrix units.
        *((problem, torch.float32) for problem in (LARGE[5], LARGE[11])),
    ],
    ids=str,
)
def test_no_worse_than_eager(problem: Problem, dtype: torch.dtype, device: torch.device) -> None:
    rounded = problem.to(device, dtype)
    assert_no_worse(rounded, rounded.to(device, torch.float64))


@pytest.mark.parametrize("problem", [*SMALL, LARGE[0], LARGE[8], LARGE[12]], ids=str)
def test_equal_runs_give_equal_bits(problem: Problem, device: torch.device) -> None:
    problem = problem.to(device, torch.bfloat16)
    first = problem.run(problem.kernel)
    for _ in range(3):
        for a, b in zip(first, problem.run(problem.kernel), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("problem", SMALL, ids=str)
def test_runs_on_the_current_stream(problem: Problem, device: torch.device) -> None:
    problem = problem.to(device, torch.float32)
    expected = problem.run(problem.kernel)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        # A kernel on another stream would read the leaves' copies before they are made.
        torch.cuda._sleep(20_000_000)
        got = problem.run(problem.kernel)
    stream.synchronize()
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "op", ["dropout", "residual_norm", "packed_attention", "readout_attention"]
)
def test_cuda_tensors_go_to_triton(op: str) -> None:
    assert choose_backend(op, "cuda", torch.bfloat16) == "triton"
    assert choose_backend(op, "cuda", torch.float64) == "reference"
