"""packed_self_attention is packed_attention of its slices, with the gradient in one tensor."""

from __future__ import annotations

import pytest
import torch

from odmt_fast.kernels.packed_attention import packed_attention, packed_self_attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("mask", ["id_aware", "full", "causal"])
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


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"qkv must be \[P, 3, H, D\], got \[4, 2, 2, 16\]"):
        packed_self_attention(
            torch.zeros(4, 2, 2, 16),
            torch.tensor([0, 4], dtype=torch.int32),
            max_seqlen=4,
            mask="full",
            scale=1.0,
        )
