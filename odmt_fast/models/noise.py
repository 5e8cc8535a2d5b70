"""Where the randomness of a training step comes from."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor


class Site(TypedDict):
    """What an operator needs for one dropout site."""

    dropout: float
    seed: Tensor | None


class Noise:
    """Hands out one seed per dropout site: the step's base, counted on from site to site.

    Args:
        p: dropout probability; 0 draws nothing.
        base: int64 [1] on `device`, see ``Batch.noise``; None draws one from the device's default
            generator, which ``torch.manual_seed`` rules, without a synchronisation.
        device: where the seeds live.
    """

    def __init__(self, p: float, base: Tensor | None, device: torch.device) -> None:
        self._p = p
        self._taken = 0
        if p > 0 and base is None:
            base = torch.randint(2**62, (1,), dtype=torch.int64, device=device)
        self._base = base

    def sites(self, count: int) -> tuple[Site, ...]:
        """The arguments of the next `count` sites."""
        if self._p == 0 or self._base is None:
            return tuple({"dropout": 0.0, "seed": None} for _ in range(count))
        first, self._taken = self._taken, self._taken + count
        seeds = self._base + torch.arange(first, self._taken, device=self._base.device)
        return tuple({"dropout": self._p, "seed": seed} for seed in torch.split(seeds, 1))
