"""packed_attention in C++ against its law in float64: ragged segments, fused views, every mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.packed_attention import cpu
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference

NoWorse = Callable[[str, Tensor, Tensor, Tensor], None]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def cumulate(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def make(lengths: list[int], heads: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(qkv [P, 3, H, D] fused, dout [P, H, D])."""
    g = torch.Generator().manual_seed(sum(lengths) * width)
    qkv = torch.randn(sum(lengths), 3, heads, width, generator=g)
    return qkv.to(dtype), torch.randn(sum(lengths), heads, width, generator=g).to(dtype)


def run(
    qkv: Tensor, dout: Tensor, lengths: list[int], mask: str, p: float, seed: Tensor | None,
    groups: int = 1,
) -> list[Tensor]:  # fmt: skip
    """[out, dq, dk, dv] of the C++ code."""
    settings = (cumulate(lengths), max(lengths), mask, qkv.shape[-1] ** -0.5, p, seed, groups)
    q, k, v = qkv.unbind(1)
    out, saved = cpu.forward(q, k, v, *settings)
    return [out, *cpu.backward(dout, q, k, v, *settings, saved)]


def law(
    qkv: Tensor, dout: Tensor, lengths: list[int], mask: str, p: float, seed: Tensor | None,
    dtype: torch.dtype, groups: int = 1,
) -> list[Tensor]:  # fmt: skip
    leaves = [t.to(dtype).detach().requires_grad_() for t in qkv.unbind(1)]
    out = packed_attention_reference(
        *leaves, cumulate(lengths), max(lengths), mask, qkv.shape[-1] ** -0.5, p, seed, groups
    )
    return [out.detach(), *torch.autograd.grad(out, leaves, dout.to(dtype))]


@DTYPES
@pytest.mark.parametrize(
    "lengths, heads, width, mask, p",
    [
        ([1], 1, 8, "asymmetric", 0.0),
        ([1, 2, 5, 17], 2, 32, "causal", 0.1),
        ([16, 33, 0, 32, 48, 15], 1, 20, "symmetric", 0.0),
        ([81, 51, 64], 2, 96, "asymmetric", 0.1),
        ([7, 0, 100], 2, 17, "causal", 0.3),
    ],
    ids=str,
)
def test_forward_and_backward(
    isa: str, lengths: list[int], heads: int, width: int, mask: str, p: float, dtype: torch.dtype,
    seed: Tensor, no_worse: NoWorse,
) -> None:  # fmt: skip
    qkv, dout = make(lengths, heads, width, dtype)
    got = run(qkv, dout, lengths, mask, p, seed)
    gold = law(qkv, dout, lengths, mask, p, seed, torch.float64)
    naive = law(qkv, dout, lengths, mask, p, seed, dtype)
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), got, gold, naive, strict=True):
        no_worse(name, a, b, c)


@DTYPES
def test_the_official_shape(isa: str, dtype: torch.dtype, seed: Tensor, no_worse: NoWorse) -> None:
    lengths = [81, 51, 66]
    qkv, dout = make(lengths, 2, 384, dtype)
    got = run(qkv, dout, lengths, "asymmetric", 0.1, seed)
    gold = law(qkv, dout, lengths, "asymmetric", 0.1, seed, torch.float64)
    naive = law(qkv, dout, lengths, "asymmetric", 0.1, seed, dtype)
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), got, gold, naive, strict=True):
        no_worse(name, a, b, c)


@DTYPES
def test_groups(isa: str, dtype: torch.dtype, seed: Tensor, no_worse: NoWorse) -> None:
    lengths = [5, 1, 8, 0] * 3
    qkv, dout = make(lengths, 2, 24, dtype)
    got = run(qkv, dout, lengths, "causal", 0.3, seed, 3)
    gold = law(qkv, dout, lengths, "causal", 0.3, seed, torch.float64, 3)
    naive = law(qkv, dout, lengths, "causal", 0.3, seed, dtype, 3)
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), got, gold, naive, strict=True):
        no_worse(name, a, b, c)


@DTYPES
def test_the_longest_segment(dtype: torch.dtype, seed: Tensor, no_worse: NoWorse) -> None:
    qkv, dout = make([512, 3], 1, 16, dtype)
    got = run(qkv, dout, [512, 3], "symmetric", 0.1, seed)
    gold = law(qkv, dout, [512, 3], "symmetric", 0.1, seed, torch.float64)
    naive = law(qkv, dout, [512, 3], "symmetric", 0.1, seed, dtype)
    for name, a, b, c in zip(("out", "dq", "dk", "dv"), got, gold, naive, strict=True):
        no_worse(name, a, b, c)


def test_the_dropped_probabilities_are_those_of_the_law(isa: str, seed: Tensor) -> None:
    """With one-hot values the output is the probability matrix itself."""
    n, heads = 40, 2
    q = torch.randn(n, heads, n)
    v = torch.eye(n).unsqueeze(1).expand(n, heads, n).contiguous()
    settings = (cumulate([n]), n, "symmetric", 0.1, 0.4, seed, 1)
    out, _ = cpu.forward(q, q, v, *settings)
    expected = packed_attention_reference(q.double(), q.double(), v.double(), *settings)
    assert torch.equal(out == 0, expected == 0)


def test_masked_keys_do_not_count() -> None:
    """The ID token of a segment is read by itself only; causal rows read no later token."""
    qkv, dout = make([9], 1, 16, torch.float32)
    q, k, v = qkv.unbind(1)
    for mask, changed, unmoved in (("asymmetric", 8, slice(0, 8)), ("causal", 5, slice(0, 5))):
        settings = (cumulate([9]), 9, mask, 0.25, 0.0, None, 1)
        out, _ = cpu.forward(q, k, v, *settings)
        other_k, other_v = k.clone(), v.clone()
        other_k[changed] += 5
        other_v[changed] -= 7
        moved, _ = cpu.forward(q, other_k, other_v, *settings)
        assert torch.equal(out[unmoved], moved[unmoved])
        assert not torch.equal(out[changed], moved[changed])


@DTYPES
def test_large_logits_stay_finite(isa: str, dtype: torch.dtype) -> None:
    qkv, dout = make([20, 33], 1, 32, dtype)
    for x in run(qkv * 60, dout, [20, 33], "symmetric", 0.0, None):
        assert bool(x.isfinite().all())


@DTYPES
def test_gradients_into_one_buffer(isa: str, dtype: torch.dtype, seed: Tensor) -> None:
    """Views of one fused gradient receive the same numbers, and nothing else is written."""
    lengths = [5, 30, 1]
    qkv, dout = make(lengths, 2, 40, dtype)
    q, k, v = qkv.unbind(1)
    settings = (cumulate(lengths), 30, "asymmetric", 0.2, 0.1, seed, 1)
    _, saved = cpu.forward(q, k, v, *settings)
    apart = cpu.backward(dout, q, k, v, *settings, saved)
    fused = torch.full((36, 4, 2, 40), 7.0, dtype=dtype)
    cpu.backward(dout, q, k, v, *settings, saved, out=tuple(fused[:, :3].unbind(1)))
    assert torch.equal(fused[:, :3], torch.stack(apart, 1))
    assert bool((fused[:, 3] == 7).all())


@DTYPES
def test_threads_do_not_matter(
    on_threads: Callable[[int], None], dtype: torch.dtype, seed: Tensor
) -> None:
    lengths = [1 + i * 7 % 60 for i in range(40)]
    qkv, dout = make(lengths, 2, 64, dtype)
    on_threads(1)
    one = run(qkv, dout, lengths, "asymmetric", 0.1, seed)
    on_threads(2)
    two = run(qkv, dout, lengths, "asymmetric", 0.1, seed)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_no_segments() -> None:
    qkv = torch.empty(0, 3, 2, 8)
    out, _ = cpu.forward(
        *qkv.unbind(1), torch.zeros(1, dtype=torch.int32), 0, "symmetric", 1.0, 0.0, None, 1
    )
    assert out.shape == (0, 2, 8)


def test_errors_name_the_segment_and_the_mask() -> None:
    q = torch.randn(600, 1, 8)
    with pytest.raises(ValueError, match="segment 0 has length 600"):
        cpu.forward(q, q, q, cumulate([600]), 600, "symmetric", 1.0, 0.0, None, 1)
    with pytest.raises(
        ValueError, match="mask must be asymmetric, symmetric or causal, got diagonal"
    ):
        cpu.forward(q, q, q, cumulate([300, 300]), 300, "diagonal", 1.0, 0.0, None, 1)
