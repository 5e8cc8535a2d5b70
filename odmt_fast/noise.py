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
    """Hands out one seed per dropout site, in the order the sites are reached.

    All seeds are drawn at once from the device's default generator, so that a step costs
    one random call, never a synchronisation, and is reproduced by restoring the generator.

    Args:
        p: dropout probability; 0 draws nothing.
        sites: how many sites the step has.
        device: where the seeds live.
    """

    def __init__(self, p: float, sites: int, device: torch.device) -> None:
        self._p = p
        self._seeds: list[Tensor] = []
        if p > 0:
            seeds = torch.randint(2**63 - 1, (sites,), dtype=torch.int64, device=device)
            self._seeds = list(torch.split(seeds, 1))

    def site(self) -> Site:
        """The next site's arguments."""
        return {"dropout": self._p, "seed": self._seeds.pop(0) if self._p > 0 else None}
