"""packed_self_attention is packed_attention of its slices, with the gradient in one tensor."""

from __future__ import annotations

import pytest
import torch

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.packed_attention import packed_attention, packed_self_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mask", ["asymmetric", "symmetric", "causal"])
def test_equals_the_three_tensors(dtype: torch.dtype, mask: str) -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([5, 1, 17, 3])
    cu_seqlens = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    data = torch.randn(26, 3, 2, 16, dtype=dtype)
    settings = {
        "max_seqlen": 17,
        "mask": mask,
        "scale": 0.25,
        "dropout": 0.2,
        "seed": torch.tensor([7]),
    }
    results = []
    for fused in (True, False):
        qkv = data.clone().requires_grad_()
        if fused:
            out = packed_self_attention(qkv, cu_seqlens, **settings)
        else:
            out = packed_attention(*qkv.unbind(1), cu_seqlens, **settings)
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out).to(dtype))
        results.append((out.detach(), qkv.grad))
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.skipif(extension_missing("cpu") is not None, reason="the C++ extension is not built")
def test_custom_op(seed: torch.Tensor) -> None:
    qkv = torch.randn(7, 3, 2, 8, requires_grad=True)
    cu_seqlens = torch.tensor([0, 4, 4, 7], dtype=torch.int32)
    arguments = (qkv, cu_seqlens, seed, 4, "asymmetric", 0.3, 0.2, 1, "cpu")
    torch.library.opcheck(torch.ops.odmt_fast.packed_self_attention.default, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_compiled_equals_eager(dtype: torch.dtype, seed: torch.Tensor) -> None:
    cu_seqlens = torch.tensor([0, 4, 4, 7], dtype=torch.int32)
    data = torch.randn(7, 3, 2, 8, dtype=dtype)

    def function(qkv: torch.Tensor) -> torch.Tensor:
        return packed_self_attention(
            qkv, cu_seqlens, max_seqlen=4, mask="causal", scale=0.3, dropout=0.2, seed=seed
        )

    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        qkv = data.clone().requires_grad_()
        out = run(qkv)
        results.append((out, *torch.autograd.grad(out.square().sum(), qkv)))
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(eager, graph)


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"qkv must be \[P, 3, H, D\], got \[4, 2, 2, 16\]"):
        packed_self_attention(
            torch.zeros(4, 2, 2, 16),
            torch.tensor([0, 4], dtype=torch.int32),
            max_seqlen=4,
            mask="symmetric",
            scale=1.0,
        )
