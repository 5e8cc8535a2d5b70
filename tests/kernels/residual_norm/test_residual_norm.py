"""residual_norm: the law, the public function, the graph."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.dropout.reference import dropout_reference
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.kernels.residual_norm.configs import reviewed

EPS = 1e-6


def arguments(dtype: torch.dtype, groups: int | None = None) -> list[Tensor]:
    torch.manual_seed(0)
    shape = (5,) if groups is None else (groups, 5)
    weights = torch.promote_types(dtype, torch.float32)
    data = [torch.randn(6, 5).to(dtype) for _ in range(2)]
    affine = [torch.randn(shape, dtype=weights) for _ in range(2)]
    return [t.requires_grad_() for t in (*data, *affine)]


def test_equals_layer_norm_of_the_sum(seed: Tensor) -> None:
    x, residual, weight, bias = arguments(torch.float64)
    out = residual_norm(x, residual, weight, bias, eps=EPS, dropout=0.3, seed=seed)
    total = residual + dropout_reference(x, 0.3, seed)
    torch.testing.assert_close(out, F.layer_norm(total, (5,), weight, bias, EPS))


def test_groups_are_consecutive_rows() -> None:
    x, residual, weight, bias = arguments(torch.float64, groups=3)
    out = residual_norm(x, residual, weight, bias, eps=EPS)
    for g in range(3):
        rows = slice(2 * g, 2 * g + 2)
        alone = residual_norm(x[rows], residual[rows], weight[g], bias[g], eps=EPS)
        torch.testing.assert_close(out[rows], alone)


def test_more_rows_move_no_other_groups_noise(seed: Tensor) -> None:
    torch.manual_seed(0)
    x, residual = (torch.randn(1, 4, 5).expand(3, 4, 5) for _ in range(2))
    weight, bias = torch.ones(3, 5), torch.zeros(3, 5)

    def run(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = x.reshape(-1, 5), residual.reshape(-1, 5)
        return residual_norm(*rows, weight, bias, eps=EPS, dropout=0.3, seed=seed).view(x.shape)

    own = run(x, residual, weight, bias)
    longer = run(torch.cat((x, x), 1), torch.cat((residual, residual), 1), weight, bias)
    assert torch.equal(longer[:, :4], own)
    assert torch.equal(own[:1], run(x[:1], residual[:1], weight[0], bias[0]))
    assert not torch.equal(own[0], own[1])
    assert not torch.equal(own[1], own[2])


@pytest.mark.parametrize("groups", [None, 2])
def test_gradcheck(groups: int | None, seed: Tensor) -> None:
    def function(*tensors: Tensor) -> Tensor:
        return residual_norm(*tensors, eps=EPS, dropout=0.3, seed=seed)

    assert torch.autograd.gradcheck(function, arguments(torch.float64, groups))


@pytest.mark.skipif(extension_missing("cpu") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_custom_op(p: float, seed: Tensor) -> None:
    tensors = arguments(torch.float32, groups=3)
    torch.library.opcheck(
        torch.ops.odmt_fast.residual_norm.default, (*tensors, seed, EPS, p, "cpu")
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_compiled_equals_eager(p: float, dtype: torch.dtype, seed: Tensor) -> None:
    def function(*tensors: Tensor) -> Tensor:
        return residual_norm(*tensors, eps=EPS, dropout=p, seed=seed)

    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        tensors = arguments(dtype)
        out = run(*tensors)
        results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(eager, graph)


def test_gradient_of_some_arguments_only() -> None:
    x, residual, weight, bias = arguments(torch.float32)
    everything = torch.autograd.grad(
        residual_norm(x, residual, weight, bias, eps=EPS).square().sum(), (x, weight)
    )
    out = residual_norm(x, residual.detach(), weight, bias.detach(), eps=EPS)
    some = torch.autograd.grad(out.square().sum(), (x, weight))
    for a, b in zip(everything, some, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(2, 3, 5)}, r"x must be \[R, d\]"),
        ({"residual": torch.ones(6, 4)}, r"residual must be like x .*got torch.float32 \[6, 4\]"),
        ({"residual": torch.ones(6, 5).bfloat16()}, "residual must be like x"),
        ({"weight": torch.ones(4)}, r"weight must be \[d\]=\[5\]"),
        ({"bias": torch.ones(2, 5)}, "weight and bias alike"),
        ({"weight": torch.ones(5).half()}, "weight must be torch.float32 or x's torch.float32"),
        ({"weight": torch.ones(4, 5), "bias": torch.ones(4, 5)}, "6 rows cannot form the 4 equal"),
    ],
)
def test_wrong_arguments(change: dict[str, Tensor], message: str) -> None:
    good = {
        "x": torch.ones(6, 5),
        "residual": torch.ones(6, 5),
        "weight": torch.ones(5),
        "bias": torch.ones(5),
    }
    with pytest.raises(ValueError, match=message):
        residual_norm(**{**good, **change}, eps=EPS)


# Registers of a thread as compiled ahead of time for sm_80 to sm_100, the most of them.
@pytest.mark.parametrize(
    ("width", "registers"), [(384, 144), (512, 144), (768, 128), (1024, 128), (2048, 152)]
)
def test_the_backward_has_enough_bytes_on_the_way(width: int, registers: int) -> None:
    config = reviewed(1 << (width - 1).bit_length())
    step = 2 * config.block_rows * width * 2  # both tensors in bf16
    assert config.waves * (config.stages - 1) * step >= 30 * 1024
    # Every program is there from the beginning.
    assert config.waves * 32 * config.num_warps * registers <= 65_536
