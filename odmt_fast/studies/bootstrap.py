"""The paired bootstrap over users: how sure a difference of two rankings is.

Both rankings rank the same targets. A draw takes as many users as there are, with replacement, and
all targets of each; a metric is the mean over the targets of the draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odmt_fast.randomness import numpy_generator

DRAWS = 10_000
_BLOCK = 1 << 23  # counts in memory at a time
_DECIMALS = 12  # sums of equal gains in another order differ below


@dataclass(frozen=True)
class Difference:
    """A metric of one ranking less that of the other.

    Attributes:
        value: over all targets.
        low: 2.5 % of the draws lie below.
        high: 2.5 % of the draws lie above.
        p: two-sided, of no difference; at least 2 / (draws + 1).
    """

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    users: NDArray[np.int64],
    *,
    seed: int,
    draws: int = DRAWS,
) -> Difference:
    """Whether ``ours.mean() - theirs.mean()`` is more than the luck of who was asked.

    Users who differ alike, with equally many targets, are one group: how often each group is drawn
    is one multinomial draw, the very distribution of drawing users one by one.

    Args:
        ours: [B], what each target adds to the metric.
        theirs: [B], of the other ranking.
        users: [B], whose target it is, 0..U-1.
        seed: of the draws; every call with the same one draws alike.
        draws: number of them.

    Raises:
        ValueError: the three do not have the same length of at least 1, or `draws` is below 1.
    """
    if not len(ours) == len(theirs) == len(users) > 0:
        raise ValueError(f"{len(ours)}, {len(theirs)} and {len(users)} targets; none may be absent")
    if draws < 1:
        raise ValueError(f"draws={draws} must be at least 1")
    sums = np.bincount(users, ours - theirs)
    targets = np.bincount(users).astype(np.float64)
    groups, sizes = np.unique(
        np.stack([sums.round(_DECIMALS), targets])[:, targets > 0], axis=1, return_counts=True
    )
    generator = numpy_generator(seed, "bootstrap")
    means = np.empty(draws)
    step = max(1, _BLOCK // len(sizes))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        drawn = generator.multinomial(sizes.sum(), sizes / sizes.sum(), size=count)
        means[start : start + count] = (drawn @ groups[0]) / (drawn @ groups[1])
    means = means.round(_DECIMALS)
    low, high = np.quantile(means, (0.025, 0.975))
    tail = 1 + min(int((means <= 0).sum()), int((means >= 0).sum()))
    value = round(float((ours - theirs).mean()), _DECIMALS)
    return Difference(value, float(low), float(high), min(1.0, 2 * tail / (draws + 1)))
