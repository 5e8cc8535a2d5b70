"""gathered_rows: values, gradients by gradcheck, the checks."""

from __future__ import annotations

import pytest
import torch

from odmt_fast.kernels.gathered_rows import gathered_rows


def test_rows_of_every_group_follow_each_other() -> None:
    table, index = torch.randn(3, 5, 4), torch.tensor([4, 0, 4, 2])
    made = gathered_rows(table, index)
    assert torch.equal(made.view(3, 4, 4), table[:, index])
    narrow = gathered_rows(table.requires_grad_(), index, torch.bfloat16)
    narrow.float().sum().backward()
    assert narrow.dtype == torch.bfloat16 and table.grad.dtype == torch.float32
    assert table.grad[:, :, 0].tolist() == [[1.0, 0.0, 1.0, 0.0, 2.0]] * 3


def test_gradcheck() -> None:
    table = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([1, 1, 3, 1, 0])
    assert torch.autograd.gradcheck(lambda table: gathered_rows(table, index), [table])


def test_nothing_to_gather() -> None:
    table = torch.randn(2, 4, 3, requires_grad=True)
    made = gathered_rows(table, torch.zeros(0, dtype=torch.int64))
    made.sum().backward()
    assert made.shape == (0, 3) and not table.grad.any()


def test_wrong_arguments_are_named() -> None:
    table, index = torch.randn(2, 4, 3), torch.tensor([1])
    with pytest.raises(ValueError, match=r"table must be \[K, n, d\], got \[4, 3\]"):
        gathered_rows(table[0], index)
    with pytest.raises(ValueError, match=r"index must be int64 \[M\], got torch.int32"):
        gathered_rows(table, index.int())
    with pytest.raises(ValueError, match="holds no values"):
        gathered_rows(table.to("meta"), index)


def test_compiled() -> None:
    table, index = torch.randn(2, 4, 3), torch.tensor([1, 1, 3])
    results = []
    for function in (
        gathered_rows,
        torch.compile(gathered_rows, fullgraph=True, backend="aot_eager"),
    ):
        leaf = table.clone().requires_grad_()
        made = function(leaf, index)
        made.square().sum().backward()
        results.append((made.detach(), leaf.grad))
    for eager, compiled in zip(*results, strict=True):
        assert torch.equal(compiled, eager)
