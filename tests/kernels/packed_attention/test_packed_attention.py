"""packed_attention: the law, the public function, the graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.dropout.reference import keep_mask
from odmt_fast.kernels.packed_attention import packed_attention
from odmt_fast.kernels.packed_attention.op import MASKS

LENGTHS = [3, 1, 0, 4]


def segments(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def inputs(dtype: torch.dtype, heads: int = 2, d: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Views of a fused [P, 3, H, D] projection."""
    torch.manual_seed(0)
    fused = torch.randn(sum(LENGTHS), 3, heads, d).to(dtype).requires_grad_()
    return fused[:, 0], fused[:, 1], fused[:, 2]


def one_segment(q: Tensor, k: Tensor, v: Tensor, mask: str, scale: float, keep: Tensor) -> Tensor:
    """[L, D] of one head, row by row, from the definition of the masks."""
    length = len(q)
    rows = []
    for i in range(length):
        if mask == "causal":
            keys = range(i + 1)
        elif mask == "asymmetric" and i < length - 1:
            keys = range(length - 1)
        else:
            keys = range(length)
        p = torch.softmax(torch.stack([scale * (q[i] @ k[j]) for j in keys]), 0)
        rows.append(sum(p[n] * keep[i, j] * v[j] for n, j in enumerate(keys)))
    return torch.stack(rows)


@pytest.mark.parametrize("mask", MASKS)
def test_equals_the_definition(mask: str, seed: Tensor) -> None:
    q, k, v = inputs(torch.float64)
    cu = segments(LENGTHS)
    out = packed_attention(q, k, v, cu, max_seqlen=6, mask=mask, scale=0.3, dropout=0.4, seed=seed)
    for start, stop in zip(cu.tolist(), cu.tolist()[1:], strict=False):
        for h in range(2 if stop > start else 0):
            first = (torch.arange(start, stop) * 2 + h) * 512
            keep = keep_mask(first, stop - start, 0.4, seed) / 0.6
            x = (t[start:stop, h] for t in (q, k, v))
            torch.testing.assert_close(out[start:stop, h], one_segment(*x, mask, 0.3, keep))


@pytest.mark.parametrize("mask", MASKS)
def test_gradcheck(mask: str, seed: Tensor) -> None:
    def function(*qkv: Tensor) -> Tensor:
        return packed_attention(
            *qkv, segments([3, 1, 0, 2]), max_seqlen=3, mask=mask, scale=0.7, dropout=0.3, seed=seed
        )

    qkv = [torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(function, qkv)


@pytest.mark.parametrize("mask", MASKS)
def test_more_segments_move_no_other_groups_noise(mask: str, seed: Tensor) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 5, 2, 8).expand(3, 5, 2, 8)  # three equal groups
    settings = {"max_seqlen": 3, "mask": mask, "scale": 0.3, "dropout": 0.4, "seed": seed}
    results = []
    for lengths, rows in (([3, 2], x), ([3, 2, 3, 2], torch.cat((x, x), 1))):
        flat = rows.flatten(0, 1)
        out = packed_attention(flat, flat, flat, segments(lengths * 3), groups=3, **settings)
        results.append(out.view(3, -1, 2, 8)[:, :5])
    own, longer = results
    assert torch.equal(longer, own)
    assert torch.equal(own[0], packed_attention(*(x[0],) * 3, segments([3, 2]), **settings))
    assert not torch.equal(own[0], own[1])
    assert not torch.equal(own[1], own[2])


def test_segments_do_not_leak() -> None:
    q, k, v = (x.detach().clone() for x in inputs(torch.float64))
    out = packed_attention(q, k, v, segments(LENGTHS), max_seqlen=4, mask="symmetric", scale=1.0)
    for x in (q, k, v):
        x[3:] = float("nan")
    poisoned = packed_attention(
        q, k, v, segments(LENGTHS), max_seqlen=4, mask="symmetric", scale=1.0
    )
    assert torch.equal(out[:3], poisoned[:3])


def test_no_tokens() -> None:
    q = torch.ones(0, 2, 8, requires_grad=True)
    out = packed_attention(q, q, q, segments([0, 0]), max_seqlen=4, mask="symmetric", scale=1.0)
    out.sum().backward()
    assert out.shape == (0, 2, 8)


@pytest.mark.skipif(extension_missing("cpu") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_custom_op(p: float, seed: Tensor) -> None:
    settings = (4, "asymmetric", 0.3, p, 1, "cpu")
    arguments = (*inputs(torch.float32), segments(LENGTHS), seed, *settings)
    torch.library.opcheck(torch.ops.odmt_fast.packed_attention.default, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_compiled_equals_eager(mask: str, dtype: torch.dtype, seed: Tensor) -> None:
    cu = segments(LENGTHS)

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention(
            q, k, v, cu, max_seqlen=4, mask=mask, scale=0.3, dropout=0.3, seed=seed
        )

    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        qkv = inputs(dtype)
        out = run(*qkv)
        results.append((out, *torch.autograd.grad(out.square().sum(), qkv)))
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(eager, graph)


def test_forced_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    cu = segments(LENGTHS)

    def run(dtype: torch.dtype) -> Tensor:
        return packed_attention(*inputs(dtype), cu, max_seqlen=4, mask="symmetric", scale=0.3)

    default = run(torch.float32)
    monkeypatch.setenv("ODMT_FAST_BACKEND", "reference")
    torch.testing.assert_close(run(torch.float32), default)
    monkeypatch.setenv("ODMT_FAST_BACKEND", "cpu")
    with pytest.raises(RuntimeError, match="cannot run: (it takes torch.float32|the compiled)"):
        run(torch.float64)


def test_forced_triton_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("ODMT_FAST_BACKEND", "triton")
    x = inputs(torch.float32)
    with pytest.raises(RuntimeError, match="CUDA tensors|not installed"):
        packed_attention(*x, segments(LENGTHS), max_seqlen=4, mask="symmetric", scale=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": "banded"}, "mask must be one of asymmetric, symmetric, causal, got 'banded'"),
        ({"q": torch.ones(8, 16)}, r"q must be \[P, H, D\], got \[8, 16\]"),
        ({"k": torch.ones(8, 2, 4)}, r"k must be like q .*got torch.float32 \[8, 2, 4\]"),
        ({"v": torch.ones(8, 8, 2).mT}, "the last axis of v must be contiguous"),
        ({"cu_seqlens": torch.tensor([0, 8])}, r"cu_seqlens must be int32 \[segments \+ 1\]"),
        ({"cu_seqlens": segments([3, 4])}, "from 0 to the 8 tokens, got 0 to 7"),
        ({"cu_seqlens": segments([3, 5])}, "0 to max_seqlen=4 tokens, got 3 to 5"),
        ({"max_seqlen": 513}, r"max_seqlen must be in \[0, 512\], got 513"),
        ({"dropout": 0.1}, "needs a seed"),
        ({"groups": 3}, "groups=3 cannot be equal parts of 8 tokens"),
    ],
)
def test_wrong_arguments(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        **dict.fromkeys(("q", "k", "v"), torch.ones(8, 2, 8)),
        "cu_seqlens": segments([4, 4]),
        "max_seqlen": 4,
        "mask": "symmetric",
        "scale": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        packed_attention(**{**good, **change})
