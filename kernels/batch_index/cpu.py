"""batch_index in C++ (csrc/batch_index.cpp): about 10 ns per occurrence, without the GIL."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.batch_index.reference import BatchIndex


def batch_index(item_ids: Tensor, lengths: Tensor, max_seq_len: int) -> BatchIndex:
    """See `op.batch_index`; the values are checked here, in C++."""
    item_ids, lengths = item_ids.contiguous(), lengths.contiguous()
    n, users = len(item_ids), len(lengths)
    rows = max(n - users, 0)
    items, occurrences = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.int64)
    inputs, targets, positions = (torch.empty(rows, dtype=torch.int64) for _ in range(3))
    counts, history = torch.empty(n, dtype=torch.int32), torch.empty(n, dtype=torch.int32)
    cu_seqlens = torch.empty(users + 1, dtype=torch.int32)
    history_offsets = torch.empty(users + 1, dtype=torch.int32)
    row_user = torch.empty(rows, dtype=torch.int32)
    arrays = (
        items,
        counts,
        occurrences,
        cu_seqlens,
        inputs,
        targets,
        row_user,
        positions,
        history_offsets,
        history,
    )
    distinct, entries, max_seqlen = _C.batch_index(
        item_ids.data_ptr(),
        item_ids.dtype == torch.int64,
        n,
        lengths.data_ptr(),
        lengths.dtype == torch.int64,
        users,
        max_seq_len,
        [array.data_ptr() for array in arrays],
    )
    index = BatchIndex(*arrays, max_seqlen)
    return index._replace(
        items=items[:distinct], counts=counts[:distinct], history=history[:entries]
    )
