"""What is trained on, validated and tested: leave-one-out, or a split that was made already.

Leave-one-out: the last item of a user is the test, the one before it the validation. Source:
official utils/load_data.py::read_behaviors. Made already: the parts are those of the source or of
`HoldOut`, and every held-out interaction is a target, ranked after all that its user did before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.sequences import Sequences, read_only
from odmt_fast.randomness import numpy_generator

SplitKind = Literal["leave-one-out", "ready-made"]
TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test sequences.

    Leave-one-out they are those of the same users, in the same order. With u the last S + 3 items
    of a user (S = `max_seq_len`):

    Attributes:
        train: ``u[:-2]``, at most S + 1 items, so at most S inputs and S targets.
        valid: ``u[-(S + 2):-1]``; the last is the target, the others (at most S) are the inputs.
        test: ``u[-(S + 1):]``, likewise.
        valid_history: what is excluded when the validation target is ranked.
        test_history: what is excluded when the test target is ranked.
        popularity: float64 [n_items + 1], share of each item in `train`; entry 0 (padding) is 1.
            Items that occur only in targets have share 0 and never become a training column.
        kind: who made it. In a ready-made one `train` has the last S + 1 training items of every
            user, `valid` and `test` one sequence for each target, in the order of the users and
            times, with its history at the same place.

    Raises:
        ValueError: a popularity that is no such share, naming the item.
    """

    train: Sequences
    valid: Sequences
    test: Sequences
    valid_history: Sequences
    test_history: Sequences
    popularity: NDArray[np.float64]
    kind: SplitKind = "leave-one-out"

    def __post_init__(self) -> None:
        object.__setattr__(self, "popularity", read_only(self.popularity, np.float64))
        shares = self.popularity
        trained = self.train.counts(len(shares) - 1) > 0
        wrong = ~(np.isfinite(shares) & (shares >= 0.0)) | (trained & (shares == 0.0))
        if wrong.any():
            item = int(wrong.argmax())
            raise ValueError(
                f"popularity[{item}] is {shares[item]}; the share of an item in the training "
                "interactions is finite, and above 0 where the item occurs in them"
            )

    def part(self, name: str) -> tuple[Sequences, Sequences]:
        """The sequences of "valid" or "test", and what is excluded where their last is ranked.

        Raises:
            ValueError: there is no such part.
        """
        parts = {
            "valid": (self.valid, self.valid_history),
            "test": (self.test, self.test_history),
        }
        if name not in parts:
            raise ValueError(f"--part {name} does not exist; use valid or test")
        return parts[name]

    def validated(self, most: int | None) -> tuple[Sequences, Sequences]:
        """``part("valid")``, or `most` targets of it, drawn by the data's size alone.

        Runs of all seeds and models are so chosen by the same targets.
        """
        n = len(self.valid)
        if most is None or most >= n:
            return self.part("valid")
        drawn = np.zeros(n, bool)
        drawn[numpy_generator(0, "validation targets").permutation(n)[:most]] = True
        return self.valid.select(drawn), self.valid_history.select(drawn)

    def with_targets(self, valid: NDArray[np.bool_], test: NDArray[np.bool_]) -> Split:
        """The same with some of the targets alone (bool, one for each)."""
        return replace(
            self,
            valid=self.valid.select(valid),
            valid_history=self.valid_history.select(valid),
            test=self.test.select(test),
            test_history=self.test_history.select(test),
        )

    @property
    def offered(self) -> NDArray[np.bool_]:
        """bool [n_items + 1], items that training may put beside a target.

        Leave-one-out that is all of them. Otherwise those it trains on: the rest may be of a later
        time than all training, or was held out of it (`HoldOut`).
        """
        return (self.popularity > 0.0) | (self.kind == "leave-one-out")


def leave_one_out(
    sequences: Sequences, n_items: int, max_seq_len: int, *, full_history: bool = True
) -> Split:
    """Splits whole sequences as the official code does.

    Args:
        sequences: whole sequences, at least 3 items each.
        n_items: size of the catalogue.
        max_seq_len: S, the input steps of the model.
        full_history: exclude all items before the target when ranking; False restores the
            official behaviour, which knows only the last S + 3 items of a user.

    Raises:
        ValueError: a sequence is shorter than 3, there is none, or an id is beyond `n_items`.
    """
    if max_seq_len < 1:
        raise ValueError(f"max_seq_len must be at least 1, got {max_seq_len}")
    lengths = sequences.lengths
    if not lengths.size:
        raise ValueError("sequences is empty: no user is left to split")
    if lengths.min() < 3:
        user = int(lengths.argmin())
        raise ValueError(
            f"sequences of at least 3 items can be split, user {user} has {lengths[user]}; "
            "raise min_seq_len"
        )
    sequences.counts(n_items)  # refuses ids beyond the catalogue, in the held-out items too
    recent = sequences.tail(max_seq_len + 3)
    train = recent.cut(None, -2)
    history = sequences if full_history else recent
    return Split(
        train=train,
        valid=recent.cut(-(max_seq_len + 2), -1),
        test=recent.tail(max_seq_len + 1),
        valid_history=history.cut(None, -2),
        test_history=history.cut(None, -1),
        popularity=popularity(train, n_items),
    )


def ready_made(
    sequences: Sequences,
    parts: NDArray[np.int8],
    n_items: int,
    max_seq_len: int,
    *,
    full_history: bool = True,
) -> Split:
    """The split that `parts` (int8 [N], see `Interactions.parts`) tells.

    A held-out interaction with none before it has no input, and is not ranked.

    Args:
        sequences: whole sequences.
        parts: of their entries.
        n_items: size of the catalogue.
        max_seq_len: S, the input steps of the model.
        full_history: exclude all items before the target when ranking, else the inputs only.

    Raises:
        ValueError: no target of a part can be ranked, or an id is beyond `n_items`.
    """
    if max_seq_len < 1:
        raise ValueError(f"max_seq_len must be at least 1, got {max_seq_len}")
    sequences.counts(n_items)
    parts = parts_of(sequences, parts)
    owners = sequences.user_of_item()
    before = np.arange(parts.size) - sequences.offsets[:-1][owners]

    def targets(part: int, most: int | None) -> Sequences:
        """Every target of a part, after at most so many (None: all) interactions before it."""
        ends = _targets(sequences, parts, part)
        inputs = before[ends] if most is None else np.minimum(before[ends], most)
        return _windows(sequences, ends + 1, inputs + 1)

    rows = {part: targets(part, max_seq_len) for part in (VALID, TEST)}
    for part, name in ((VALID, "validation"), (TEST, "test")):
        if not len(rows[part]):
            raise ValueError(
                f"the split has no {name} interaction with others of its user before it; lower the "
                "filters of odmt-fast prepare, or let it split leave-one-out"
            )
    most = None if full_history else max_seq_len
    counts = np.bincount(owners[parts == TRAIN], minlength=len(sequences))
    train = Sequences.from_lengths(sequences.items[parts == TRAIN], counts).tail(max_seq_len + 1)
    return Split(
        train=train,
        valid=rows[VALID],
        test=rows[TEST],
        valid_history=targets(VALID, most).cut(None, -1),
        test_history=targets(TEST, most).cut(None, -1),
        popularity=popularity(train, n_items),
        kind="ready-made",
    )


def users_of_targets(
    sequences: Sequences, parts: NDArray[np.int8] | None, part: Literal["valid", "test"]
) -> NDArray[np.int64]:
    """int64 [B], the user of each sequence in `Split.valid` or `Split.test`."""
    if parts is None:
        return np.arange(len(sequences))
    places = _targets(sequences, parts, VALID if part == "valid" else TEST)
    return sequences.user_of_item()[places]


def _targets(sequences: Sequences, parts: NDArray[np.int8], part: int) -> NDArray[np.int64]:
    """Places of the entries of `part` that have one of their user before them."""
    first = np.zeros(parts.size, dtype=bool)
    first[sequences.offsets[:-1][sequences.lengths > 0]] = True
    return np.flatnonzero((parts == part) & ~first)


def split_kind(parts: NDArray[np.int8] | None) -> SplitKind:
    """How a dataset with such `parts` is split."""
    return "leave-one-out" if parts is None else "ready-made"


def parts_of(sequences: Sequences, parts: NDArray[np.int8]) -> NDArray[np.int8]:
    """`parts` as a read-only array.

    Raises:
        ValueError: they are not one of 0, 1, 2 for every entry, ascending within a user.
    """
    parts = read_only(parts, np.int8)
    if parts.shape != sequences.items.shape:
        raise ValueError(f"parts has {parts.size} entries, the sequences {sequences.items.size}")
    falls = np.flatnonzero(np.diff(parts) < 0) + 1
    if parts.size and (parts.min() < TRAIN or parts.max() > TEST):
        raise ValueError(f"parts must be {TRAIN}, {VALID} or {TEST}")
    if not np.isin(falls, sequences.offsets).all():
        raise ValueError("parts must ascend within every user: training, validation, test")
    return parts


def _windows(
    sequences: Sequences, ends: NDArray[np.int64], lengths: NDArray[np.int64]
) -> Sequences:
    """For each end the `lengths` entries of ``sequences.items`` before it."""
    shift = np.repeat(ends - np.cumsum(lengths), lengths)
    return Sequences.from_lengths(sequences.items[np.arange(shift.size) + shift], lengths)


def popularity(train: Sequences, n_items: int) -> NDArray[np.float64]:
    """float64 [n_items + 1], share of each item among the occurrences in `train`; entry 0 is 1."""
    counts = train.counts(n_items)
    shares = np.divide(counts, max(int(counts.sum()), 1), dtype=np.float64)
    shares[0] = 1.0
    return shares
