"""What the searches of a catalogue share: which items count for whom, and the checks of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Excluded(NamedTuple):
    """Items left out, for B users and n rows of items.

    Attributes:
        offsets: int64 [B + 1], CSR offsets of `items`.
        items: int64 [H], rows of items, ascending and distinct within each user.
        allowed: bool [n], the rows that take part at all; None = all.
    """

    offsets: Tensor
    items: Tensor
    allowed: Tensor | None

    @property
    def owners(self) -> Tensor:
        """int64 [H], the user of each entry."""
        users = torch.arange(self.offsets.shape[0] - 1, device=self.offsets.device)
        return users.repeat_interleave(self.offsets.diff())


def excluded(
    history_offsets: Tensor, history: Tensor, allowed: Tensor | None, n_items: int
) -> Excluded:
    """Sorts each user's history and drops its repeats; the values are checked before."""
    users = torch.arange(history_offsets.shape[0], device=history.device)
    owners = users[:-1].repeat_interleave(history_offsets.diff())
    pairs = torch.unique(owners * n_items + history)
    offsets = torch.searchsorted(pairs, users * n_items)
    return Excluded(offsets, pairs % n_items, allowed)


def check_excluded(
    op: str,
    queries: Tensor,
    items: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
) -> None:
    """Raise unless shapes, dtypes and devices fit queries [.., B, d] and items [.., n, d]."""
    users, n_items = queries.shape[-2], items.shape[-2]
    integers = (torch.int32, torch.int64)
    check_entries(op, "history_offsets", history_offsets, integers, users + 1, queries)
    check_entries(op, "history", history, integers, None, queries)
    if allowed is not None:
        check_entries(op, "allowed", allowed, (torch.bool,), n_items, queries)


def check_entries(
    op: str, name: str, x: Tensor, dtypes: tuple[torch.dtype, ...], length: int | None, like: Tensor
) -> None:
    """Raise unless x is one-dimensional, of a dtype, and of a length (None: any), beside `like`."""
    if x.dtype not in dtypes or x.dim() != 1 or length not in (None, x.shape[0]):
        raise ValueError(
            f"{op}: {name} must be {' or '.join(map(str, dtypes))} "
            f"[{'H' if length is None else length}] for B={like.shape[-2]} users, got {x.dtype} "
            f"{list(x.shape)}"
        )
    if x.device != like.device:
        raise ValueError(f"{op}: {name} is on {x.device}, queries on {like.device}")


def check_values(
    op: str,
    n_items: int,
    history_offsets: Tensor,
    history: Tensor,
    targets: Tensor | None,
    vectors: dict[str, Tensor],
) -> None:
    """Raise for what a search would silently get wrong; one wait for the device."""
    wrong = {
        "history": (history < 0) | (history >= n_items),
        "history_offsets": history_offsets.diff() < 0,
        "first offset": history_offsets[0] != 0,
        "last offset": history_offsets[-1] != history.shape[0],
        **{name: ~_extremes(x).isfinite() for name, x in vectors.items()},
    }
    if targets is not None:
        wrong = {"targets": (targets < 1) | (targets >= n_items), **wrong}
    found = torch.stack([entries.any() for entries in wrong.values()]).tolist()
    name = next((name for name, is_wrong in zip(wrong, found, strict=True) if is_wrong), None)
    if name is None:
        return
    if name in vectors:
        refuse_infinite(op, name, vectors[name])
    if name == "history_offsets":
        user = int(wrong[name].nonzero()[0])
        raise ValueError(
            f"{op}: history_offsets must ascend, got {int(history_offsets[user])} before "
            f"{int(history_offsets[user + 1])} at user {user}"
        )
    if name == "history" or targets is not None and name == "targets":
        values, low = (history, 0) if targets is None or name == "history" else (targets, 1)
        entry = int(wrong[name].nonzero()[0])
        raise ValueError(
            f"{op}: {name}[{entry}] is {int(values[entry])}, not an item of {low}..{n_items - 1}"
        )
    raise ValueError(
        f"{op}: history_offsets must run from 0 to H={history.shape[0]}, got "
        f"{int(history_offsets[0])} to {int(history_offsets[-1])}"
    )


def refuse_infinite(op: str, name: str, x: Tensor) -> None:
    """Raise if an element of x is NaN or infinite, naming its place."""
    places = (~x.isfinite()).nonzero()
    if places.shape[0] == 0:
        return
    place = places[0].tolist()
    raise ValueError(
        f"{op}: {name}{place} is {float(x[tuple(place)])}; a search needs finite vectors, "
        "those of a diverged or damaged model are not"
    )


def _extremes(x: Tensor) -> Tensor:
    """The smallest and the largest element, both NaN if any is: one pass, no copy."""
    return torch.stack(x.aminmax()) if x.numel() else x.new_zeros(2)
