"""The searches' C++ (csrc/search.inl): scores stand in registers, are compared there, and are gone.

Any number of threads gives the same ranks: a score is one chain of multiply-adds, wherever its item
and its user lie in the tiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.launch.catalogue import Excluded, refuse_infinite
from odmt_fast.kernels.rank_of_target.reference import Repeats, rankings


def rank_of_target(
    queries: Tensor, items: Tensor, targets: Tensor, excluded: Excluded, repeats: Repeats
) -> tuple[Tensor, Tensor]:
    """Ranks and ties of float32 or bfloat16 vectors; the items' values are checked on the way."""
    queries, items, targets = queries.contiguous(), items.contiguous(), targets.contiguous()
    ranks = torch.empty(rankings(queries.shape[0]), queries.shape[1], dtype=torch.int64)
    ties = torch.empty_like(ranks)
    search = Search(queries, items, excluded)
    finite = _C.rank_of_target(
        search.argument,
        targets.data_ptr(),
        repeats == "miss",
        ranks.data_ptr(),
        ties.data_ptr(),
        torch.get_num_threads(),
    )
    if not finite:
        refuse_infinite("rank_of_target", "items", items)
    return ranks, ties


class Search:
    """What csrc/search.h::Search is given; keeps alive what the addresses point at.

    Args:
        queries: [K, B, d], contiguous float32 or bfloat16.
        items: [K, n, d], the same.
    """

    def __init__(self, queries: Tensor, items: Tensor, excluded: Excluded) -> None:
        offsets, history = excluded.offsets.contiguous(), excluded.items.contiguous()
        # Empty, their addresses are not read.
        allowed = rows = history.new_empty(0)
        if excluded.allowed is not None:
            allowed = excluded.allowed.contiguous()
            rows = allowed[1:].nonzero().flatten() + 1
        self._kept = queries, items, offsets, history, rows, allowed
        branches, users, width = queries.shape
        self.argument = (
            queries.dtype == torch.bfloat16,
            branches,
            users,
            items.shape[1],
            width,
            queries.data_ptr(),
            items.data_ptr(),
            allowed.data_ptr() if excluded.allowed is not None else 0,
            rows.data_ptr(),
            rows.shape[0],
            offsets.data_ptr(),
            history.data_ptr(),
        )
