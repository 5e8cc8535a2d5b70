"""FLOP that a training step needs, forward and backward; recomputation is not counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from odmt_fast.config import ModelConfig


@dataclass(frozen=True)
class Work:
    """FLOP of a step by stage; of many steps where the sizes were arrays."""

    items: Any
    users: Any
    loss: Any

    @property
    def total(self) -> Any:
        """FLOP of the whole step."""
        return self.items + self.users + self.loss


def needed_work(
    config: ModelConfig,
    dims: Sequence[int],
    *,
    rows: Any,
    items: Any,
    tokens: Sequence[Any],
    squares: Any,
) -> Work:
    """Of ODMT with frozen tokens, which get no gradient; of a model of IDs where there are none.

    Args:
        config: the architecture.
        dims: width of the tokens of each modality.
        rows: M, a number or an array, as the following.
        items: U.
        tokens: P of each modality.
        squares: sum over the items of the square of their tokens, the ID token included.
    """
    d = config.width
    branches = len(dims) + 1
    users = branches * 6 * rows * 12 * d * d * config.user_layers
    loss = 6 * branches * rows * items * d
    if not dims:
        return Work(items=0 * items, users=users, loss=loss)
    projections = 6 * items * config.id_features * d
    for own, dim in zip(tokens, dims, strict=True):
        projections = projections + 4 * own * dim * d
    read = sum(tokens)
    full = 6 * (read + items) * 12 * d * d + 12 * squares * d
    readout = 6 * items * 12 * branches * d * d + 24 * branches * d * read
    heads = 12 * branches * d * d * items
    return Work(
        items=projections + (config.imt_layers - 1) * full + readout + heads,
        users=users,
        loss=loss,
    )
