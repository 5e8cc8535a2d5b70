"""The FLOP a step needs (DESIGN section 9): the floor, over a matmul rate (`bench.rates`)."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from odmt_fast.batch.batch import Batch
from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import Tokens
from odmt_fast.kernels.linear import linear
from odmt_fast.kernels.linear.libraries import narrow
from odmt_fast.models import work
from odmt_fast.models.work import Work
from odmt_fast.randomness import torch_generator


def needed_work(config: ModelConfig, batch: Batch, features: tuple[Tokens, ...]) -> Work:
    """FLOP of forward and backward that the batch needs, frozen features getting no gradient."""
    lengths = torch.ones_like(batch.items)
    for modality in features:
        lengths = lengths + modality.lengths
    return work.needed_work(
        config,
        [f.dim for f in features],
        rows=batch.n_rows,
        items=batch.items.shape[0],
        tokens=[f.count for f in features],
        squares=float((lengths**2).sum()),
    )


def matmul_rate(dtype: torch.dtype, device: str = "cpu", size: int = 4096) -> float:
    """FLOP/s of the best of a square and a tall product, by torch's matmul and by the engine's.

    The engine calls a faster library than torch does where there is one; a floor by the slower one
    would flatter it.
    """
    rates = []
    generator = torch_generator(0, "floor", device=device)
    for rows, inner, columns in ((size, size, size), (5 * size, 768, 3072)):
        a = torch.randn(rows, inner, device=device, generator=generator).to(dtype)
        b = torch.randn(columns, inner, device=device, generator=generator).to(dtype)
        # torch's bf16 is no floor where the CPU lacks the instructions: minutes a product.
        products = [linear] if narrow(a) else [lambda a, b: a @ b.t(), linear]
        for product in products:
            seconds = best_seconds(device, lambda: product(a, b))  # noqa: B023
            rates.append(2 * rows * inner * columns / seconds)
    return max(rates)


def best_seconds(device: str, work: Callable[[], object]) -> float:
    """Of one call: the best of six; on a GPU of six times four that are queued together."""
    calls, best = 4 if device == "cuda" else 1, float("inf")
    for _ in range(6):
        _wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            work()
        _wait(device)
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
