"""The Transformer operators on CUDA tensors: accuracy, determinism, torch.compile, streams."""

from __future__ import annotations

import pytest
import torch
from gpu.problems import Problem, assert_no_worse, attention, drop, norm, readout

from odmt_fast.kernels.launch.backends import choose_backend

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("poisoned_empty")]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ITEMS = (69, 81, 57, 1, 0, 70)
USERS = (5, 1, 3, 0, 12, 9, 1, 2)

torch.manual_seed(0)
SMALL = [
    attention(USERS, 24, "causal", 0.3),
    readout((5, 1, 0, 30, 2), 40, "id_aware", 0.3),
    norm(12, 50, 3, 0.3),
    drop((5, 1003), 0.5),
]
LARGE = [
    attention(ITEMS * 4, 384, "id_aware", 0.1, fused=True),
    attention(ITEMS, 384, "full", 0.0),
    attention(USERS * 8, 384, "causal", 0.1, fused=True),
    attention((70, 128), 48, "id_aware", 0.3),
    attention((130, 1), 64, "causal", 0.3, heads=1),
    attention((200, 256), 64, "id_aware", 0.1),
    attention((300, 512), 32, "full", 0.3, heads=1),
    attention((7, 3), 768, "causal", 0.0, heads=1),
    readout(ITEMS * 4, 768, "id_aware", 0.1),
    readout((70,), 123, "full", 0.3),
    readout((9, 4), 24, "full", 0.3, rows=(5, 4)),
    readout((512, 3), 40, "id_aware", 0.3),
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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", LARGE, ids=str)
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
def test_compiled_equals_eager(problem: Problem, device: torch.device) -> None:
    problem = problem.to(device, torch.bfloat16)
    compiled = torch.compile(problem.kernel, fullgraph=True)
    for a, b in zip(problem.run(compiled), problem.run(problem.kernel), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("problem", SMALL, ids=str)
def test_runs_on_the_current_stream(problem: Problem, device: torch.device) -> None:
    problem = problem.to(device, torch.float32)
    expected = problem.run(problem.kernel)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        # The result is late unless the kernels wait for the leaves' copies behind the spin.
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
