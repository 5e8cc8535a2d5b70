"""Where the randomness of a training step comes from."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor
from torch.nn.functional import pad

_MADE = 64
"""Seeds made at a time: all of a step's by three launches."""


class Site(TypedDict):
    """What an operator needs for one dropout site; the seed is int64 [2], its first element 0."""

    dropout: float
    seed: Tensor | None


def counted_from(site: Site, element: int) -> Site:
    """The site of a part whose first element is the `element`-th of the whole, a multiple of 4."""
    seed = site["seed"]
    if seed is None or element == 0:
        return site
    return {**site, "seed": pad(seed[:1], (0, 1), value=element)}


class Noise:
    """Hands out one seed per dropout site: the step's base, counted on from site to site.

    Args:
        p: dropout probability; 0 draws nothing.
        base: int64 [1] on `device`, see ``Batch.noise``; None draws one from the device's default
            generator, which ``torch.manual_seed`` rules, without a synchronisation.
        device: where the seeds live.
    """

    def __init__(self, p: float, base: Tensor | None, device: torch.device) -> None:
        self._p, self._base, self._device = p, base, device
        self._seeds: list[Tensor] = []
        self._taken = 0

    def sites(self, count: int, p: float | None = None) -> tuple[Site, ...]:
        """The arguments of the next `count` sites, of probability `p` where that is their own."""
        p = self._p if p is None else p
        if p == 0:
            return tuple({"dropout": 0.0, "seed": None} for _ in range(count))
        if self._base is None:
            self._base = torch.randint(2**62, (1,), dtype=torch.int64, device=self._device)
        first, self._taken = self._taken, self._taken + count
        while len(self._seeds) < self._taken:
            done = len(self._seeds)
            keys = self._base + torch.arange(done, done + _MADE, device=self._base.device)
            self._seeds += pad(keys[:, None], (0, 1)).unbind()
        return tuple({"dropout": p, "seed": s} for s in self._seeds[first : self._taken])
