"""Sums over the rows, left^T right, with the same bits for any number of threads."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.linear.libraries import bmm

# MKL lets each thread sum a share of the rows from 1,024 on; these are enough for its full rate.
_SUMMED_ROWS = 512


def sum_of_row_products(left: Tensor, right: Tensor) -> Tensor:
    """left^T right [G, b, a] over the rows of left [G, R, b] and right [G, R, a].

    On a CPU in fp32 one thread sums an element, in blocks of rows: equal bits for any number of
    threads. In bf16 the library decides.
    """
    left = left.transpose(1, 2)
    rows = right.shape[1]
    if left.dtype != torch.float32 or left.device.type != "cpu" or rows <= _SUMMED_ROWS:
        return bmm(left, right)
    total = torch.bmm(left[..., :_SUMMED_ROWS], right[:, :_SUMMED_ROWS])
    for first in range(_SUMMED_ROWS, rows, _SUMMED_ROWS):
        part = slice(first, first + _SUMMED_ROWS)
        total.baddbmm_(left[..., part], right[:, part])
    return total
