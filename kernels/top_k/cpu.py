"""Top-k in C++ (csrc/search.inl): only scores above their user's bar leave the registers."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.launch.catalogue import Excluded, refuse_infinite
from odmt_fast.kernels.rank_of_target.cpu import Search


def top_k(queries: Tensor, items: Tensor, k: int, excluded: Excluded) -> tuple[Tensor, Tensor]:
    """Of float32 or bfloat16 vectors; the items' values are checked on the way."""
    queries, items = queries.contiguous(), items.contiguous()
    ids = torch.empty(queries.shape[0], k, dtype=torch.int64)
    scores = torch.empty(queries.shape[0], k, dtype=torch.float32)
    search = Search(queries[None], items[None], excluded)
    threads = torch.get_num_threads()
    if not _C.top_k(search.argument, k, ids.data_ptr(), scores.data_ptr(), threads):
        refuse_infinite("top_k", "items", items)
    return ids, scores
