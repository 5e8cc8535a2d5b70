"""Leave-one-out: the last item of a user is the test, the one before it the validation.

Source: official utils/load_data.py::read_behaviors, DESIGN section 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.sequences import Sequences, read_only


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test sequences of the same users, in the same order.

    With u the last S + 3 items of a user (S = `max_seq_len`):

    Attributes:
        train: ``u[:-2]``, at most S + 1 items, so at most S inputs and S targets.
        valid: ``u[-(S + 2):-1]``; the last is the target, the others (at most S) are the inputs.
        test: ``u[-(S + 1):]``, likewise.
        valid_history: what is excluded when the validation target is ranked.
        test_history: what is excluded when the test target is ranked.
        popularity: float64 [n_items + 1], share of each item in `train`; entry 0 (padding) is 1.
            Items that occur only in targets have share 0 and never become a training column.

    Raises:
        ValueError: a popularity that is no such share, naming the item.
    """

    train: Sequences
    valid: Sequences
    test: Sequences
    valid_history: Sequences
    test_history: Sequences
    popularity: NDArray[np.float64]

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


def popularity(train: Sequences, n_items: int) -> NDArray[np.float64]:
    """float64 [n_items + 1], share of each item among the occurrences in `train`; entry 0 is 1."""
    counts = train.counts(n_items)
    shares = np.divide(counts, max(int(counts.sum()), 1), dtype=np.float64)
    shares[0] = 1.0
    return shares
