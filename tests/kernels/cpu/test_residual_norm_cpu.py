"""residual_norm in C++ against its law in float64: values, gradients, groups, dropout, threads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.residual_norm import cpu
from odmt_fast.kernels.residual_norm.reference import residual_norm_reference

EPS = 1e-6
NoWorse = Callable[[str, Tensor, Tensor, Tensor], None]


def law(
    inputs: tuple[Tensor, ...], dout: Tensor, p: float, seed: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """[out, dx, dresidual, dweight, dbias] of the reference in `dtype`."""
    x, residual, weight, bias = inputs
    wide = torch.promote_types(dtype, torch.float32)
    leaves = [
        t.to(kind).detach().requires_grad_()
        for t, kind in ((x, dtype), (residual, dtype), (weight, wide), (bias, wide))
    ]
    out = residual_norm_reference(*leaves, EPS, p, seed)
    return [out.detach(), *torch.autograd.grad(out, leaves, dout.to(dtype))]


def make(rows: int, d: int, groups: int, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor]:
    g = torch.Generator().manual_seed(rows * d)
    x, residual, dout = (torch.randn(rows, d, generator=g).to(dtype) for _ in range(3))
    shape = (d,) if groups == 0 else (groups, d)
    weight, bias = (torch.randn(shape, generator=g) for _ in range(2))
    return (x, residual + 3, weight, bias), dout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "rows, d, groups, p",
    [(1, 1, 0, 0.0), (5, 16, 1, 0.1), (37, 51, 0, 0.3), (36, 64, 3, 0.1), (600, 96, 2, 0.0),
     (64, 768, 0, 0.1), (0, 8, 0, 0.0)],
)  # fmt: skip
def test_forward_and_backward(
    isa: str, rows: int, d: int, groups: int, p: float, dtype: torch.dtype, seed: Tensor,
    no_worse: NoWorse,
) -> None:  # fmt: skip
    inputs, dout = make(rows, d, groups, dtype)
    out, total, mean, rstd = cpu.forward(*inputs, EPS, p, seed)
    got = [out, *cpu.backward(dout, total, mean, rstd, inputs[2], p, seed)]
    gold = law(inputs, dout, p, seed, torch.float64)
    naive = law(inputs, dout, p, seed, dtype)
    for name, a, b, c in zip(
        ("out", "dx", "dresidual", "dweight", "dbias"), got, gold, naive, strict=True
    ):
        no_worse(name, a, b, c)
    if p > 0:
        # dx is zero exactly where the law dropped x.
        assert torch.equal(got[1] == 0, gold[1] == 0)
    else:
        assert got[1] is got[2]


def test_weights_in_the_dtype_of_the_data(seed: Tensor) -> None:
    (x, residual, weight, bias), dout = make(20, 32, 0, torch.bfloat16)
    weight, bias = weight.bfloat16(), bias.bfloat16()
    out, total, mean, rstd = cpu.forward(x, residual, weight, bias, EPS, 0.0, None)
    expected = residual_norm_reference(x, residual, weight, bias, EPS)
    torch.testing.assert_close(out, expected, rtol=2e-2, atol=2e-2)
    grads = cpu.backward(dout, total, mean, rstd, weight, 0.0, None)
    assert all(g.dtype == torch.bfloat16 for g in grads)


def test_threads_do_not_matter(on_threads: Callable[[int], None], seed: Tensor) -> None:
    inputs, dout = make(3000, 80, 3, torch.float32)
    results = []
    for threads in (1, 2, 3):
        on_threads(threads)
        out, total, mean, rstd = cpu.forward(*inputs, EPS, 0.1, seed)
        results.append([out, *cpu.backward(dout, total, mean, rstd, inputs[2], 0.1, seed)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_large_offsets_keep_their_variance() -> None:
    """Statistics are formed around the mean, not as a difference of large squares."""
    x = torch.randn(4, 256, dtype=torch.float64)
    shifted = (x + 4096).float()
    weight, bias = torch.ones(256), torch.zeros(256)
    out = cpu.forward(torch.zeros_like(shifted), shifted, weight, bias, EPS, 0.0, None)[0]
    expected = torch.nn.functional.layer_norm(shifted.double(), (256,), eps=EPS)
    torch.testing.assert_close(out.double(), expected, rtol=1e-3, atol=1e-3)
