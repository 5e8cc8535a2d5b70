"""Which items may be returned to whom: names given for all, or for every history apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from odmt_fast.data.sequences import Sequences

Names = Collection[str] | Sequence[Collection[str]]
"""Names of items for everybody, or a list of them for every history."""


@dataclass(frozen=True)
class Limits:
    """For n histories and a catalogue.

    Attributes:
        allowed: bool [n_items + 1], what may be returned to anybody; None = all.
        allow: whether `allowed` is what was allowed, not all but some.
        among: dense ids of all that may be returned to each; None = all.
        denied: dense ids of what may not be returned to each; None = nothing.
    """

    allowed: Tensor | None = None
    allow: bool = False
    among: Sequences | None = None
    denied: Sequences | None = None

    @classmethod
    def of(
        cls, allow: Names | None, deny: Names, rows: Mapping[str, int], histories: int
    ) -> Limits:
        """Those of names; names that are not in the catalogue change nothing.

        Args:
            allow, deny: see `Recommender`.
            rows: name -> dense id, of the whole catalogue.
            histories: how many there are.

        Raises:
            ValueError: a list of lists has not one for every history, or nothing of an `allow` for
                everybody may be returned.
        """
        among = _apart("allow", allow or (), rows, histories)
        denied = _apart("deny", deny, rows, histories)
        for_all = None if among is not None else allow
        if for_all is None and (denied is not None or not deny):
            return cls(None, False, among, denied)
        allowed = torch.zeros(len(rows) + 1, dtype=torch.bool)
        allowed[1:] = for_all is None
        allowed[_known(for_all or (), rows)] = True
        allowed[_known(deny if denied is None else (), rows)] = False
        if for_all and not allowed.any():
            raise ValueError(
                f"none of the {len(for_all):,} items of allow may be returned: they are not in the "
                f"catalogue of {len(rows):,}, or denied"
            )
        return cls(allowed, for_all is not None, among, denied)

    def to(self, device: torch.device) -> Limits:
        """The same, `allowed` on `device`."""
        if self.allowed is None:
            return self
        return replace(self, allowed=self.allowed.to(device))


def _apart(what: str, names: Names, rows: Mapping[str, int], histories: int) -> Sequences | None:
    """Dense ids for every history; None where the names are for everybody."""
    if isinstance(names, str):
        raise ValueError(
            f"{what} is {names!r}, where a list of item ids must be; write [{names!r}]"
        )
    if all(isinstance(name, str) for name in names):
        return None
    if len(names) != histories or any(isinstance(name, str) for name in names):
        raise ValueError(
            f"{what} has {len(names):,} entries for {histories:,} histories; give a list of item "
            "ids for every history, or one for all"
        )
    return Sequences.from_lists([_known(part, rows) for part in names])


def _known(names: object, rows: Mapping[str, int]) -> list[int]:
    assert isinstance(names, Collection)
    return [rows[name] for name in names if name in rows]
