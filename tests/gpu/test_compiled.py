"""The Transformer operators under torch.compile on CUDA tensors."""

from __future__ import annotations

import pytest
import torch
from gpu.problems import SMALL, Problem

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("problem", SMALL, ids=str)
def test_compiled_equals_eager(problem: Problem, device: torch.device) -> None:
    problem = problem.to(device, torch.bfloat16)
    compiled = torch.compile(problem.kernel, fullgraph=True)
    for a, b in zip(problem.run(compiled), problem.run(problem.kernel), strict=True):
        torch.testing.assert_close(a, b)
