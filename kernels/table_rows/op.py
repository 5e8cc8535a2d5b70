"""table_rows: checks, backend choice; no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.backend import choose, triton_missing
from odmt_fast.kernels.table_rows.reference import table_rows_reference

OP = "table_rows"


def table_rows(table: Tensor, rows: Tensor) -> Tensor:
    """The rows of a frozen table, on the device that the row numbers are on.

    Args:
        table: [n, d], contiguous, any dtype; beside `rows`, or in page-locked host memory while
            these are on a GPU, which then reads what it needs over the bus itself.
        rows: int64 [P], 0..n - 1, not looked at.

    Returns:
        [P, d] in the table's dtype, without gradient.

    Raises:
        ValueError: shapes, dtypes or places that do not fit.
        RuntimeError: the forced backend cannot run here.
    """
    if table.dim() != 2 or not table.is_contiguous():
        raise ValueError(f"{OP}: table must be contiguous [n, d], got {list(table.shape)}")
    if rows.dim() != 1 or rows.dtype != torch.int64:
        raise ValueError(f"{OP}: rows must be int64 [P], got {rows.dtype} {list(rows.shape)}")
    apart = table.device != rows.device
    if apart and not (rows.is_cuda and table.is_pinned()):
        raise ValueError(
            f"{OP}: table is on {table.device}, rows on {rows.device}; put both on one device, or "
            "the table in page-locked memory and the rows on a GPU"
        )
    if apart and (reason := triton_missing(rows.device.type)) is not None:
        raise RuntimeError(f"{OP}: the table is in host memory, which a kernel reads: {reason}")

    def reference(device_type: str) -> str | None:
        return "the table is not where the rows are" if apart else None

    candidates = {"reference": reference, "triton": triton_missing}
    if choose(OP, rows.device.type, candidates) == "reference":
        return table_rows_reference(table, rows)
    from odmt_fast.kernels.table_rows.fwd import table_rows_fwd

    return table_rows_fwd(table, rows)
