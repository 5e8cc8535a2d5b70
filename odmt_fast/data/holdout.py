"""What a dataset keeps from training: everything after a time, and items nobody shall have bought.

Both make the parts of a ready-made split (`Interactions.parts`), so that training, ranking and
baselines treat them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import TEST, TRAIN, VALID
from odmt_fast.randomness import stream

Division = Literal["leave-one-out", "time"]


@dataclass(frozen=True)
class HoldOut:
    """How held-out interactions are chosen. The defaults are the official behaviour.

    Attributes:
        split: "leave-one-out" (or as the source was split), or "time": training, validation and
            test follow each other in time, the same times for everybody.
        valid_share: of a split by time, the least share of the interactions that validate.
        test_share: the least share that test.
        cold_items: share of the items that training knows nothing of: their purchases before the
            test are left out, as if they came to the shop when the test began.
        seed: decides, with its name alone, which item is held out before which.

    Raises:
        ValueError: a value is out of range.
    """

    split: Division = "leave-one-out"
    valid_share: float = 0.1
    test_share: float = 0.1
    cold_items: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.split not in get_args(Division):
            raise ValueError(
                f"--split {self.split} does not exist; use {', '.join(get_args(Division))}"
            )
        for flag, share in (("--valid-share", self.valid_share), ("--test-share", self.test_share)):
            if not 0.0 < share < 1.0:
                raise ValueError(f"{flag} {share} must be between 0 and 1, such as 0.1")
        if self.valid_share + self.test_share >= 1.0:
            raise ValueError(
                f"--valid-share {self.valid_share} and --test-share {self.test_share} leave nothing"
                " to train on; lower them"
            )
        if not 0.0 <= self.cold_items < 1.0:
            raise ValueError(
                f"--cold-items {self.cold_items} must be at least 0 and below 1, such as 0.1"
            )


@dataclass(frozen=True, eq=False)
class Held:
    """Sequences with what is held out.

    Attributes:
        sequences: without the purchases of cold items before the test.
        parts: int8 [N] of their entries, see `Interactions.parts`; None = leave-one-out.
        cold: int64 [C], ids of the items held out of training, ascending.
        counts: as the fields of a report.
    """

    sequences: Sequences
    parts: NDArray[np.int8] | None
    cold: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: dict[str, Any] = field(default_factory=dict)


def hold_out(
    sequences: Sequences,
    parts: NDArray[np.int8] | None,
    times: NDArray[Any] | None,
    ids: Sequence[str],
    how: HoldOut,
) -> Held:
    """Chooses what is held out.

    Args:
        sequences: whole sequences, in the order of their times.
        parts: int8 [N], of their entries where the source was split already.
        times: [N], of their entries, where the source has them.
        ids: the name of item i at i - 1.
        how: what is wanted.

    Raises:
        ValueError: there are no times or parts already, or a part of a split by time is empty.
    """
    held = Held(sequences, parts)
    if how.split == "time":
        if parts is not None:
            raise ValueError("--split time: the source is split already; leave the option out")
        if times is None:
            raise ValueError(
                "--split time: the source has no times; name their column (--time-column), or "
                "leave the option out"
            )
        parts, told = parts_by_time(times, how)
        held = Held(sequences, parts, counts={"division": told})
    return _without_cold(held, ids, how) if how.cold_items else held


def parts_by_time(times: NDArray[Any], how: HoldOut) -> tuple[NDArray[np.int8], str]:
    """Parts int8 [N] of interactions at `times` ([N]), and the rule in words.

    Equal times are never parted: they go to the later part, which so gets its share at least.

    Raises:
        ValueError: too many interactions at one time leave a part empty.
    """
    if not times.size:
        return np.empty(0, np.int8), ""
    ordered = np.sort(times)
    shares = (how.test_share + how.valid_share, how.test_share)
    valid, test = (ordered[int(np.floor(times.size * (1.0 - share)))] for share in shares)
    parts = np.full(times.size, TRAIN, np.int8)
    parts[times >= valid], parts[times >= test] = VALID, TEST
    for part, name in ((TRAIN, "training"), (VALID, "validation")):
        if not (parts == part).any():
            raise ValueError(
                f"--split time leaves no {name} interaction: too many are at one time "
                f"({shown_time(valid)}); change --valid-share or --test-share"
            )
    at_cut = int(((times == valid) | (times == test)).sum())
    return parts, (
        f"split by time: validation from {shown_time(valid)}, test from {shown_time(test)}; equal "
        f"times go to the later part ({at_cut:,} interactions are at one of the two)"
    )


def shown_time(value: float) -> str:
    """A time as a date, where it is a count of s, ms, us or ns since 1970; else the number."""
    for power in (0, 3, 6, 9):
        if 10**8 <= (seconds := float(value) / 10**power) < 10**10:
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{value:,}"


def cold_order(ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Places of `ids` in the order they are held out, a function of the seed and the names."""
    draws = np.array([stream(seed, f"cold item {name}") for name in ids], np.uint64)
    return np.argsort(draws, kind="stable")


def _without_cold(held: Held, ids: Sequence[str], how: HoldOut) -> Held:
    sequences, parts = held.sequences, held.parts
    if parts is None:
        parts = _parts_leaving_one_out(sequences)
    bought = np.flatnonzero(sequences.counts(len(ids)))
    order = cold_order([ids[item - 1] for item in bought.tolist()], how.seed)
    cold = np.sort(bought[order[: round(how.cold_items * bought.size)]])
    keep = ~np.isin(sequences.items, cold) | (parts == TEST)
    return Held(
        sequences.keep(keep),
        parts[keep],
        cold,
        {**held.counts, "items_cold": cold.size, "interactions_cold": int((~keep).sum())},
    )


def _parts_leaving_one_out(sequences: Sequences) -> NDArray[np.int8]:
    left = sequences.offsets[1:][sequences.user_of_item()] - np.arange(sequences.items.size)
    return np.select([left == 1, left == 2], [TEST, VALID], TRAIN).astype(np.int8)
