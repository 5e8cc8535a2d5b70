"""Launches of the item_tokens kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.item_tokens.fwd import item_layout, item_rows
from odmt_fast.kernels.launch.aot import AotCase, meta

ITEMS, TOKENS = 784, 54_891


def _launch() -> None:
    lengths = meta(ITEMS, dtype=torch.int64)
    _, _, sources = item_layout((lengths, lengths), TOKENS)
    x, seed = meta(TOKENS, 768), meta(2, dtype=torch.int64)
    for back in (False, True):
        item_rows(x, sources, 0.1, seed, back=back)


AOT_CASES = (AotCase(f"{ITEMS} items, {TOKENS:,} tokens of 768 bf16", _launch, official=True),)
