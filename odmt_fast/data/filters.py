"""From what a reader found to a dataset: short users, the k-core, unused items, dense ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.holdout import HoldOut, hold_out
from odmt_fast.data.interactions import Interactions
from odmt_fast.data.items import ItemTable
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import TRAIN

Repeats = Literal["keep", "drop", "collapse"]


@dataclass(frozen=True)
class Filters:
    """What is left out. The defaults are the official behaviour.

    Attributes:
        min_seq_len: users with fewer items are dropped (official min_seq_len), before anything
            else is counted; at least 3, the least a leave-one-out split can cut.
        k_core: users and items with fewer than this many interactions are dropped, again and again
            until none is left; 1 keeps all.
        keep_last: cut every sequence to its last this many items, and drop the items that then
            occur nowhere; None keeps whole sequences. ``max_seq_len + 3`` gives the catalogue and
            the item numbers of the official code.
        repeats: "keep", "drop" or "collapse"; see `settle_repeats`. Before everything else.
        keep_unbought: keep items that no interaction is left of, where they have a text or picture
            and the k-core did not drop them; they are ranked with the others.

    Raises:
        ValueError: a value is out of range.
    """

    min_seq_len: int = 5
    k_core: int = 1
    keep_last: int | None = None
    repeats: Repeats = "keep"
    keep_unbought: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("min_seq_len", self.min_seq_len, 3),
            ("k_core", self.k_core, 1),
            ("keep_last", 3 if self.keep_last is None else self.keep_last, 3),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.repeats not in get_args(Repeats):
            raise ValueError(
                f"--repeats {self.repeats} does not exist; use {', '.join(get_args(Repeats))}"
            )


@dataclass(frozen=True, eq=False)
class Log:
    """What a reader hands over: everything the source holds, nothing filtered.

    Attributes:
        users: user names, distinct, in order of first appearance.
        items: the whole catalogue, in the order of the item table.
        sequences: per user the items (1 + row of `items`), in time order; may be empty.
        report: counts of the reading.
        repeated: bool [N], of the entries of ``sequences.items``: exact repeats of an earlier row;
            None where the source has no times to tell.
        parts: int8 [N], of the entries of ``sequences.items``: see `Interactions.parts`.
        times: [N], likewise, numbers that sort by time; None where the source has none.
    """

    users: tuple[str, ...]
    items: ItemTable
    sequences: Sequences
    report: Report
    repeated: NDArray[np.bool_] | None = None
    parts: NDArray[np.int8] | None = None
    times: NDArray[Any] | None = None


def settle_repeats(log: Log, how: Repeats) -> Log:
    """`log` with what `how` leaves out of its repeats; all of them are counted.

    Args:
        log: what a reader handed over.
        how: "keep" leaves everything, "drop" leaves out exact repeats of a row (same user, item and
            time), "collapse" makes runs of one item one interaction, whatever their times.
    """
    sequences = log.sequences
    running = np.zeros(sequences.items.size, bool)
    running[1:] = sequences.items[1:] == sequences.items[:-1]
    starts = sequences.offsets[:-1]
    running[starts[starts < running.size]] = False
    exact = np.zeros(running.size, bool) if log.repeated is None else log.repeated
    left_out = {"keep": np.zeros(running.size, bool), "drop": exact, "collapse": running}[how]
    report = replace(
        log.report, runs_repeated=int(running.sum()), repeats_dropped=int(left_out.sum())
    )
    return replace(_only(log, ~left_out), repeated=None, report=report)


def assemble(log: Log, filters: Filters, holdout: HoldOut | None = None) -> Interactions:
    """Filters `log` and gives the items that remain dense ids, in the order of the item table.

    Args:
        log: what a reader handed over.
        filters: what is left out.
        holdout: what is kept from training; None is the official behaviour.

    Raises:
        DataError: nothing is left.
        ValueError: see `hold_out`.
    """
    report = log.report
    n_items = len(log.items)
    lengths = log.sequences.lengths
    long_enough = lengths >= filters.min_seq_len
    counts: dict[str, Any] = {
        "users_read": len(log.users),
        "items_read": n_items,
        "users_empty": int((lengths == 0).sum()),
        "users_too_short": int((~long_enough & (lengths > 0)).sum()),
    }
    users = np.flatnonzero(long_enough)
    sequences = log.sequences.select(long_enough)
    kept = np.repeat(long_enough, lengths)  # entries of the log

    core_users, core_items = core(
        sequences, n_items, least_user=max(filters.k_core, filters.min_seq_len), k=filters.k_core
    )
    seen = sequences.counts(n_items) > 0
    counts["users_below_core"] = int((~core_users).sum())
    counts["items_below_core"] = int((seen & ~core_items).sum())
    inside = np.repeat(core_users, sequences.lengths) & core_items[sequences.items]
    sequences = sequences.keep(inside).select(core_users)
    kept[kept] = inside
    users = users[core_users]

    if filters.keep_last is not None:
        before = sequences.items.size
        left = sequences.offsets[1:][sequences.user_of_item()] - np.arange(before)
        sequences = sequences.tail(filters.keep_last)
        kept[kept] = left <= filters.keep_last
        counts["interactions_cut"] = before - sequences.items.size

    held = hold_out(
        sequences,
        None if log.parts is None else log.parts[kept],
        None if log.times is None else log.times[kept],
        log.items.ids,
        holdout or HoldOut(),
    )
    counts |= held.counts
    sequences, parts = held.sequences, held.parts
    if parts is not None:
        first = sequences.offsets[:-1][sequences.lengths > 0]
        counts["targets_first"] = int((parts[first] > TRAIN).sum())
    used = sequences.counts(n_items) > 0
    used[held.cold] = True
    if filters.keep_unbought:
        unbought = ~used & ~(seen & ~core_items) & _described(log.items)
        counts["items_unbought"] = int(unbought.sum())
        used |= unbought
    counts["items_unused"] = n_items - int(used.sum()) - counts["items_below_core"]
    unknown = report.interactions_unknown
    if not log.users or (unknown and not log.sequences.items.size):
        raise DataError(
            report.source,
            f"all {unknown:,} interactions name items that are not in the item table; compare the "
            "item ids of the two files"
            if unknown
            else "there is no interaction: the file has no rows",
        )
    if not users.size:
        raise DataError(
            report.source,
            f"no user is left of {len(log.users)} ({counts['users_empty']} empty, "
            f"{counts['users_too_short']} shorter than min_seq_len={filters.min_seq_len}, "
            f"{counts['users_below_core']} below k_core={filters.k_core}); lower the filters",
        )
    dense = np.cumsum(used, dtype=np.int32)  # id 0 is unused, so the first used id becomes 1
    items = log.items.take(np.flatnonzero(used) - 1)
    no_text = np.array([text is None for text in items.texts])
    no_image = np.array([image is None for image in items.images])
    return Interactions(
        users=tuple(log.users[u] for u in users.tolist()),
        items=items,
        sequences=Sequences(dense[sequences.items], sequences.offsets),
        report=replace(
            report,
            **counts,
            items_without_text=int(no_text.sum()),
            items_without_image=int(no_image.sum()),
            items_bare=int((no_text & no_image).sum()),
            users=int(users.size),
            items=len(items),
            interactions=int(sequences.items.size),
        ),
        parts=parts,
    )


def _described(items: ItemTable) -> NDArray[np.bool_]:
    """bool [n + 1], which ids have a text or a picture."""
    pairs = zip(items.texts, items.images, strict=True)
    return np.array([False, *(text is not None or image is not None for text, image in pairs)])


def without_items(log: Log, rows: Sequence[int]) -> Log:
    """`log` without the interactions of the items at `rows` (0-based) of the item table."""
    keep = np.ones(len(log.items) + 1, bool)
    keep[np.asarray(rows, np.int64) + 1] = False
    return _only(log, keep[log.sequences.items])


def core(
    sequences: Sequences, n_items: int, *, least_user: int, k: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The k-core: the largest set in which every user and every item keeps enough interactions.

    Args:
        sequences: the interactions.
        n_items: size of the catalogue.
        least_user: interactions a user needs.
        k: interactions an item needs.

    Returns:
        Which users (bool [n_users]) and which ids (bool [n_items + 1], entry 0 False) stay.
    """
    user_of = sequences.user_of_item()
    items = sequences.items
    while True:
        per_user = np.bincount(user_of, minlength=len(sequences))
        per_item = np.bincount(items, minlength=n_items + 1)
        keep_user, keep_item = per_user >= least_user, per_item >= k
        keep_item[0] = False
        keep = keep_user[user_of] & keep_item[items]
        if keep.all():
            return keep_user, keep_item
        user_of, items = user_of[keep], items[keep]


def _only(log: Log, keep: NDArray[np.bool_]) -> Log:
    """`log` with the interactions where `keep` (bool [N]) holds; its users stay."""
    parts = None if log.parts is None else log.parts[keep]
    times = None if log.times is None else log.times[keep]
    return replace(log, sequences=log.sequences.keep(keep), parts=parts, times=times)
