"""Building the batch: users per second on one core."""

from __future__ import annotations

from typing import Any

import torch

from bench.results import save, timed
from odmt_fast.kernels.batch_index import batch_index


def test_batch_index(benchmark: Any) -> None:
    users, length = 4096, 13
    generator = torch.Generator().manual_seed(1)
    weights = 1 / torch.arange(1, 20_001, dtype=torch.float64)
    ids = torch.multinomial(weights, users * length, True, generator=generator) + 1
    lengths = torch.full((users,), length)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        benchmark(batch_index, ids, lengths, length - 1)
    finally:
        torch.set_num_threads(threads)
    seconds = benchmark.stats.stats.median
    row = {"users": users, "length": length, "seconds": seconds, "users_per_s": users / seconds}
    benchmark.extra_info.update(row)
    save(timed("batch_index"), [row])
