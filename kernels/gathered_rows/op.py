"""gathered_rows: checks, backend choice, autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.backend import choose, runs_anywhere, triton_missing
from odmt_fast.kernels.gathered_rows.reference import gathered_rows_reference
from odmt_fast.kernels.launch.backends import TRITON_DTYPES, dtype_missing
from odmt_fast.kernels.launch.checks import check_floating
from odmt_fast.kernels.linear.copies import cast

OP = "gathered_rows"


def gathered_rows(table: Tensor, index: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """table[k, index] for every k, one after the other; the backward sums equal rows.

    Args:
        table: [K, n, d]; a master of any floating dtype.
        index: int64 [M] on the table's device, 0..n - 1, not looked at.
        dtype: of the result; None is the table's.

    Returns:
        [K M, d]. The table's gradient keeps its own dtype.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.
        RuntimeError: the forced backend cannot run here.
    """
    check_floating(OP, "table", table)
    if table.dim() != 3:
        raise ValueError(f"{OP}: table must be [K, n, d], got {list(table.shape)}")
    if index.dim() != 1 or index.dtype != torch.int64:
        raise ValueError(f"{OP}: index must be int64 [M], got {index.dtype} {list(index.shape)}")
    if index.device != table.device:
        raise ValueError(f"{OP}: index is on {index.device}, the table on {table.device}")
    dtype = dtype or table.dtype
    if _backend(table, dtype) == "reference":
        return gathered_rows_reference(cast(table, dtype), index)
    made: Tensor = _Gathered.apply(table, index, dtype)  # type: ignore[no-untyped-call]
    return made


def _backend(table: Tensor, dtype: torch.dtype) -> str:
    def triton(device_type: str) -> str | None:
        if torch.compiler.is_compiling():
            return "under torch.compile the compiler fuses the reference"
        dtypes = dtype_missing(dtype, TRITON_DTYPES) or dtype_missing(table.dtype, TRITON_DTYPES)
        return dtypes or triton_missing(device_type)

    return choose(OP, table.device.type, {"triton": triton, "reference": runs_anywhere})


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size, ctx.dtype = table.shape[:2], table.dtype
        rows = cast(table, dtype).index_select(1, index)
        return rows.view(table.shape[0] * len(index), table.shape[2])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        from odmt_fast.kernels.gathered_rows.bwd import row_sums

        (index,) = ctx.saved_tensors
        sums = row_sums(grad.contiguous(), index.contiguous(), *ctx.size, ctx.dtype)
        return sums, None, None
