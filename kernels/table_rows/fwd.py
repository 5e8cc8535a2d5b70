"""Rows of a table in a GPU's memory or in page-locked memory of the host.

Shapes    table [n, D] contiguous, any dtype;  rows [P] int64
Returns   [P, D] beside the rows
Memory    one read and one write of every element; from the host in whole lines of 512 bytes, so
          that the bus carries nothing twice
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.launch.device import on_device_of

# The bus is the bound; some rows a program keep enough of its lines in flight.
BLOCK_R = 8
MOST_COLUMNS = 256


@triton.jit(do_not_specialize=["P"])
def table_rows_kernel(
    table_ptr, rows_ptr, out_ptr, P, D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr
):
    o_r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    m_r = o_r < P
    m_x = m_r[:, None] & (o_d < D)[None, :]
    b_row = tl.load(rows_ptr + o_r, mask=m_r, other=0)
    b_x = tl.load(table_ptr + b_row[:, None] * D + o_d[None, :], mask=m_x)
    tl.store(out_ptr + o_r[:, None] * D + o_d[None, :], b_x, mask=m_x)


def table_rows_fwd(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Launch; see `op.table_rows`."""
    n, width = len(rows), table.shape[1]
    out = torch.empty((n, width), dtype=table.dtype, device=rows.device)
    if out.numel() == 0:
        return out
    block_d = min(MOST_COLUMNS, triton.next_power_of_2(width))
    with on_device_of(rows):
        table_rows_kernel[(triton.cdiv(n, BLOCK_R), triton.cdiv(width, block_d))](
            table, rows, out, n, D=width, BLOCK_R=BLOCK_R, BLOCK_D=block_d, num_warps=4
        )
    return out
