"""packed_attention by xformers on CUDA tensors: no worse than eager, and what it cannot do."""

from __future__ import annotations

import pytest
import torch
from gpu.problems import ITEMS, USERS, Problem, assert_no_worse, attention

from odmt_fast.kernels import backend

pytestmark = pytest.mark.gpu

PROBLEMS = [
    attention((3, 1, 0, 4), 16, "asymmetric", 0.0),
    attention((1, 1), 16, "asymmetric", 0.0),
    attention((9, 5), 24, "symmetric", 0.0),
    attention(ITEMS, 384, "asymmetric", 0.0, fused=True),
    attention(USERS, 384, "causal", 0.0, fused=True),
]


@pytest.fixture(autouse=True)
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xformers.ops")
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "xformers")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_no_worse_than_eager(problem: Problem, dtype: torch.dtype, device: torch.device) -> None:
    rounded = problem.to(device, dtype)
    assert_no_worse(rounded, rounded.to(device, torch.float64))


def test_dropout_and_float64_are_refused(device: torch.device) -> None:
    dropped = attention((3, 4), 16, "causal", 0.1).to(device, torch.bfloat16)
    with pytest.raises(RuntimeError, match="xformers draws dropout from torch's generator"):
        dropped.run(dropped.kernel)
    wide = attention((3, 4), 16, "causal", 0.0).to(device, torch.float64)
    with pytest.raises(RuntimeError, match="it takes torch.float32"):
        wide.run(wide.kernel)
