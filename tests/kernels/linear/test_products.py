"""Linear maps by torch's products: as autograd would have it, but for copies and casts less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from odmt_fast.kernels.linear import op, products
from odmt_fast.kernels.linear.products import written_linear
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.models.block import Block


@pytest.fixture(autouse=True)
def no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "extension_missing", lambda _: "as on a GPU")
    monkeypatch.delenv("ODMT_FAST_BACKEND", raising=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(3, 9, 16, 64), (2, 70, 33, 5), (1, 1, 8, 8), (3, 700, 8, 8), (None, 9, 16, 64)]
)
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    shape: tuple[int | None, int, int, int],
    bias: bool,
    dtype: torch.dtype,
) -> None:
    groups, rows, inner, outer = shape
    torch.manual_seed(rows)
    of_group = () if groups is None else (groups,)
    shapes = [((groups or 1) * rows, inner), (*of_group, outer, inner), (*of_group, outer)]
    tensors = [torch.randn(s, dtype=torch.float64).to(dtype).double() for s in shapes[: 2 + bias]]

    def ours(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return written_linear(x, weight, bias)

    names = ("y", "dx", "dW", "db")
    if dtype != torch.float64:
        assert_no_worse(names, ours, linear_reference, tensors, dtype, with_gradients)
        return
    got, exact = (with_gradients(function, tensors, dtype) for function in (ours, linear_reference))
    for name, a, b in zip(names, got, exact, strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def as_on_a_gpu(multiply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.mm or bmm with the argument that only GPUs know: summed and written in `out_dtype`."""

    def product(
        left: Tensor,
        right: Tensor,
        *,
        out_dtype: torch.dtype | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        dtype = out_dtype or left.dtype
        return multiply(left.to(dtype), right.to(dtype), out=out)

    return product


@pytest.mark.parametrize("shape", [(3, 9, 16, 64), (None, 700, 8, 8)])
def test_a_narrow_product_is_not_rounded_before_it_is_a_master_weights_gradient(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int | None, int, int, int]
) -> None:
    groups, rows, inner, outer = shape
    of_group = () if groups is None else (groups,)
    x, dy = (torch.randn((groups or 1) * rows, n).bfloat16() for n in (inner, outer))
    weight = torch.randn(*of_group, outer, inner)
    rounded = products.weight_gradient(dy, x, weight.bfloat16(), torch.float32)
    for name in ("mm", "bmm"):
        monkeypatch.setattr(torch, name, as_on_a_gpu(getattr(torch, name)))
    monkeypatch.setattr(products, "wide_products_run", products.wide_products_run.__wrapped__)
    assert products.wide_products_run(x.device, x.dtype, torch.float32)
    got = products.weight_gradient(dy, x, weight.bfloat16(), torch.float32)
    exact = products.weight_gradient(dy.double(), x.double(), weight.double(), torch.float64)
    assert got.dtype == rounded.dtype == torch.float32 and got.is_contiguous()
    torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)
    assert (rounded - exact).abs().max() > 10 * (got - exact).abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [None, 3])
def test_no_weight_gradient_is_copied_to_its_parameter(
    groups: int | None, dtype: torch.dtype
) -> None:
    block = Block(16, 2, groups)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = torch.randn(12, 16, dtype=dtype)
    cu_seqlens = torch.tensor([0, 4, 8, 12], dtype=torch.int32)
    silent = {"dropout": 0.0, "seed": None}
    loss = block(x, cu_seqlens, max_seqlen=4, mask="causal", sites=(silent, silent, silent)).sum()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        loss.backward()
    accumulated = [e for e in recorded.events() if "AccumulateGrad" in e.name]
    assert len(accumulated) >= len(list(block.parameters()))
    for event in accumulated:
        assert not {child.name for child in event.cpu_children} & {"aten::clone", "aten::copy_"}
