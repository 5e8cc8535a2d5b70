"""HR@K and NDCG@K of one target per user, from its rank and its ties.

With t ties the target's place is any of rank..rank + t; the metric is the mean over these t + 1
places, which is what a random order of equal scores yields on average. Without ties these are the
usual values (official utils/metrics.py::metrics_topK).
"""

from __future__ import annotations

import torch
from torch import Tensor


def hit_rate(ranks: Tensor, ties: Tensor, k: int) -> Tensor:
    """Chance that the target stands within the first k: float64, shape of `ranks` (int64)."""
    return _mean_gain(torch.ones(k, dtype=torch.float64), ranks, ties)


def ndcg(ranks: Tensor, ties: Tensor, k: int) -> Tensor:
    """Mean of ``[place <= k] / log2(place + 1)``: float64, shape of `ranks` (int64)."""
    places = torch.arange(1, k + 1, dtype=torch.float64)
    return _mean_gain(1 / torch.log2(places + 1), ranks, ties)


METRICS = {"hr": hit_rate, "ndcg": ndcg}
"""What stands before ``@K`` in a metric's name."""


def gains(metric: str, ranks: Tensor, ties: Tensor) -> Tensor:
    """What each target adds to ``hr@K`` or ``ndcg@K``: float64, shape of `ranks` (int64).

    Raises:
        ValueError: there is no such metric.
    """
    kind, _, k = metric.partition("@")
    if kind not in METRICS or not k.isdigit() or int(k) < 1:
        raise ValueError(f"{metric!r} is not a metric; use hr@K or ndcg@K")
    return METRICS[kind](ranks, ties, int(k))


def _mean_gain(of_place: Tensor, ranks: Tensor, ties: Tensor) -> Tensor:
    """Mean of ``of_place[place - 1]`` (0 past its end) over the places rank..rank + ties."""
    # total[m] = gain of the first m places; a difference of two of them sums a range.
    total = torch.cat([of_place.new_zeros(1), of_place.cumsum(0)])
    last = of_place.shape[0]
    through = total[(ranks + ties).clamp(max=last)]
    before = total[(ranks - 1).clamp(max=last)]
    return (through - before) / (ties + 1)
