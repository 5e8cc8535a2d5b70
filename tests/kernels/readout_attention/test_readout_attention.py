"""readout_attention: the law, the public function, the graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.dropout.reference import keep_mask
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.readout_attention.op import MASKS

LENGTHS = [3, 1, 4]
R, H = 3, 2


def segments(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def inputs(dtype: torch.dtype, d: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    queries = torch.randn(len(LENGTHS), R, H, d).to(dtype)
    hidden = torch.randn(sum(LENGTHS), d).to(dtype)
    return queries.requires_grad_(), hidden.requires_grad_()


@pytest.mark.parametrize("mask", MASKS)
def test_equals_the_definition(mask: str, seed: Tensor) -> None:
    queries, hidden = inputs(torch.float64)
    cu = segments(LENGTHS)
    out = readout_attention(
        queries, hidden, cu, max_seqlen=6, mask=mask, scale=0.3, dropout=0.4, seed=seed
    )
    for u, length in enumerate(LENGTHS):
        states = hidden[int(cu[u]) : int(cu[u + 1])]
        for r in range(R):
            read = states[:-1] if mask == "asymmetric" and r < R - 1 else states
            for h in range(H):
                if len(read) == 0:
                    assert torch.equal(out[u, r, h], torch.zeros(6, dtype=torch.float64))
                    continue
                p = torch.softmax(0.3 * (read @ queries[u, r, h]), 0)
                first = torch.tensor(((u * R + r) * H + h) * 512)
                p = p * keep_mask(first, length, 0.4, seed)[: len(read)] / 0.6
                torch.testing.assert_close(out[u, r, h], p @ read)


def test_is_attention_with_folded_projections() -> None:
    """q.(W_K h) = (W_K^T q).h and sum p W_V h = W_V sum p h."""
    torch.manual_seed(0)
    q, hidden = torch.randn(2, 4, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    w_k, w_v = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    plain = torch.softmax(0.5 * q @ (hidden @ w_k.T).T, -1) @ (hidden @ w_v.T)
    queries = (q @ w_k).view(1, 2, 1, 6)
    out = readout_attention(
        queries, hidden, segments([5]), max_seqlen=5, mask="symmetric", scale=0.5
    )
    torch.testing.assert_close(out.view(2, 6) @ w_v.T, plain)


@pytest.mark.parametrize("mask", MASKS)
def test_gradcheck(mask: str, seed: Tensor) -> None:
    def function(queries: Tensor, hidden: Tensor) -> Tensor:
        return readout_attention(
            queries,
            hidden,
            segments(LENGTHS),
            max_seqlen=4,
            mask=mask,
            scale=0.7,
            dropout=0.3,
            seed=seed,
        )

    assert torch.autograd.gradcheck(function, inputs(torch.float64, d=3))


@pytest.mark.skipif(extension_missing("cpu") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_custom_op(p: float, seed: Tensor) -> None:
    arguments = (*inputs(torch.float32), segments(LENGTHS), seed, 4, "asymmetric", 0.3, p, "cpu")
    torch.library.opcheck(torch.ops.odmt_fast.readout_attention.default, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_compiled_equals_eager(mask: str, dtype: torch.dtype, seed: Tensor) -> None:
    cu = segments(LENGTHS)

    def function(queries: Tensor, hidden: Tensor) -> Tensor:
        return readout_attention(
            queries, hidden, cu, max_seqlen=4, mask=mask, scale=0.3, dropout=0.3, seed=seed
        )

    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        tensors = inputs(dtype)
        out = run(*tensors)
        results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(eager, graph)


def test_forced_backend_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODMT_FAST_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match="readout_attention cannot run"):
        readout_attention(
            *inputs(torch.float64), segments(LENGTHS), max_seqlen=4, mask="symmetric", scale=1.0
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": "causal"}, "mask must be one of asymmetric, symmetric, got 'causal'"),
        ({"queries": torch.ones(2, 3, 8)}, r"queries must be \[U, R, H, d\], got \[2, 3, 8\]"),
        ({"hidden": torch.ones(8, 4)}, r"hidden must be \[P, d\] with d=8, got \[8, 4\]"),
        ({"hidden": torch.ones(8, 8).bfloat16()}, "hidden must be torch.float32 on cpu"),
        ({"hidden": torch.ones(8, 8).T}, "the last axis of hidden must be contiguous"),
        ({"cu_seqlens": segments([2, 2, 4])}, r"cu_seqlens must be \[U \+ 1\]=\[3\], got \[4\]"),
        ({"cu_seqlens": segments([3, 4])}, "from 0 to the 8 tokens"),
    ],
)
def test_wrong_arguments(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "queries": torch.ones(2, 3, 1, 8),
        "hidden": torch.ones(8, 8),
        "cu_seqlens": segments([4, 4]),
        "max_seqlen": 4,
        "mask": "symmetric",
        "scale": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        readout_attention(**{**good, **change})
