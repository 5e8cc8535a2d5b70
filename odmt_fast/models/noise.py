"""Where the randomness of a training step comes from."""

from __future__ import annotations

from copy import copy
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
        self._p, self._seeds = p, _Seeds(base, device)

    def at(self, p: float) -> Noise:
        """The sites that follow, of probability `p`: both count on from the same seed."""
        found = copy(self)
        found._p = p
        return found

    def sites(self, count: int) -> tuple[Site, ...]:
        """The arguments of the next `count` sites."""
        if self._p == 0:
            return tuple({"dropout": 0.0, "seed": None} for _ in range(count))
        return tuple({"dropout": self._p, "seed": seed} for seed in self._seeds.next(count))


class _Seeds:
    """The seeds of a step, made as they are asked for."""

    def __init__(self, base: Tensor | None, device: torch.device) -> None:
        self._base, self._device = base, device
        self._made: list[Tensor] = []
        self._taken = 0

    def next(self, count: int) -> list[Tensor]:
        if self._base is None:
            self._base = torch.randint(2**62, (1,), dtype=torch.int64, device=self._device)
        first, self._taken = self._taken, self._taken + count
        while len(self._made) < self._taken:
            done = len(self._made)
            keys = self._base + torch.arange(done, done + _MADE, device=self._base.device)
            self._made += pad(keys[:, None], (0, 1)).unbind()
        return self._made[first : self._taken]
