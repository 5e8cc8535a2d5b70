"""Which branch earned the hit: every target counted once, by the branches that found it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch

from odmt_fast.evaluation.result import EvaluationResult


@dataclass(frozen=True)
class Share:
    """Targets that the same branches found.

    Attributes:
        branches: those that did; none of them where it is empty.
        targets: how many.
        ensemble: how many of these the ensemble found.
    """

    branches: tuple[str, ...]
    targets: int
    ensemble: int


@dataclass(frozen=True)
class Credit:
    """Of an evaluation with several branches, at a cut-off.

    A target is found where it stands within the first k whatever becomes of equal scores.

    Attributes:
        k: the cut-off.
        branches: all of them.
        shares: one for each set of branches, most targets that one branch alone found first; sets
            without a target are left out.
    """

    k: int
    branches: tuple[str, ...]
    shares: tuple[Share, ...]

    @classmethod
    def of(cls, result: EvaluationResult, k: int) -> Credit | None:
        """That of `result`; None where it has one branch alone."""
        if "ensemble" not in result.names:
            return None
        found = dict(zip(result.names, result.ranks + result.ties <= k, strict=True))
        ensemble = found.pop("ensemble")
        found.pop("popularity", None)
        branches = tuple(found)
        sets = [
            c for size in (*range(1, len(branches) + 1), 0) for c in combinations(branches, size)
        ]
        shares = []
        for chosen in sets:
            same = torch.ones_like(ensemble)
            for name, hit in found.items():
                same &= hit == (name in chosen)
            if count := int(same.sum()):
                shares.append(Share(chosen, count, int((same & ensemble).sum())))
        return cls(k, branches, tuple(shares))

    @property
    def targets(self) -> int:
        """All that were ranked."""
        return sum(share.targets for share in self.shares)

    def label(self, share: Share) -> str:
        """Who found it, in words."""
        if not share.branches:
            return "no branch"
        if len(share.branches) == 1:
            return f"{share.branches[0]} alone"
        if share.branches == self.branches:
            return "all branches"
        return " and ".join(share.branches)

    def table(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Header and rows of text, ready for any table renderer."""
        rows = tuple(
            (
                self.label(share),
                f"{share.targets:,}",
                f"{share.targets / self.targets:.1%}",
                f"{share.ensemble:,}",
                f"{share.targets - share.ensemble:,}",
            )
            for share in self.shares
        )
        return ("found by", "targets", "of all", "ensemble too", "ensemble not"), rows

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "k": self.k,
            "targets": self.targets,
            "shares": [
                {
                    "branches": list(share.branches),
                    "targets": share.targets,
                    "ensemble": share.ensemble,
                }
                for share in self.shares
            ],
        }
