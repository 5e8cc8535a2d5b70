"""Recommendations by name: a model and a catalogue, asked with histories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import Ranker
from odmt_fast.retrieval.search import item_vectors, top_k, user_vectors

_BATCH = 512


@dataclass(frozen=True)
class Recommendation:
    """One item of a list.

    Attributes:
        id: the item's name in the source.
        title: its text; None where it has none.
        score: the ensemble's score.
    """

    id: str
    title: str | None
    score: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Recommender:
    """Top-k over a catalogue encoded once.

    Args:
        model: trained, in eval mode, its parameters where the search shall run.
        items: the catalogue the model was trained on.
        max_seq_len: input steps of the model; longer histories are cut to their end.
    """

    def __init__(self, model: Ranker, items: ItemTable, max_seq_len: int) -> None:
        self.model = model
        self.items = items
        self.max_seq_len = max_seq_len
        with torch.no_grad():
            self.catalogue = model.encode_catalogue()
        self.item_vectors = item_vectors(self.catalogue)
        if self.catalogue.shape[1] != len(items) + 1:
            raise ValueError(
                f"items has {len(items)} rows, the model knows {self.catalogue.shape[1] - 1}; "
                "pass the catalogue the model was trained on"
            )

    def user_vectors(self, histories: Sequences) -> Tensor:
        """[n_users, K d] states after the last item of each history.

        Raises:
            ValueError: a history is empty.
        """
        return torch.cat([vectors for vectors, _, _ in self._states(histories)])

    def recommend(self, histories: Sequences, k: int) -> list[list[Recommendation]]:
        """The k best new items for each history, best first.

        Args:
            histories: dense item ids of each user, oldest first; all of them are left out.
            k: items per user; fewer come back when the catalogue has fewer left.

        Raises:
            ValueError: a history is empty, or k is below 1.
        """
        lists: list[list[Recommendation]] = []
        for vectors, offsets, whole in self._states(histories):
            found, scores = top_k(vectors, self.item_vectors, k, offsets, whole)
            lists += [
                [
                    Recommendation(self.items.ids[i - 1], self.items.texts[i - 1], score)
                    for i, score in zip(row, values, strict=True)
                    if i > 0
                ]
                for row, values in zip(found.tolist(), scores.tolist(), strict=True)
            ]
        return lists

    def dense_ids(self, names: Sequence[str]) -> list[int]:
        """Dense ids of items named as in the source.

        Raises:
            ValueError: a name is not in the catalogue.
        """
        rows = {name: row + 1 for row, name in enumerate(self.items.ids)}
        unknown = [name for name in names if name not in rows]
        if unknown:
            raise ValueError(f"item {unknown[0]!r} is not in the catalogue of {len(rows)} items")
        return [rows[name] for name in names]

    def _states(self, histories: Sequences) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """User vectors, and the whole history as CSR, of batches of users."""
        lengths = histories.lengths
        if lengths.size and lengths.min() < 1:
            raise ValueError(f"the history of user {int(lengths.argmin())} is empty; give an item")
        device = self.catalogue.device
        for start in range(0, len(histories), _BATCH):
            bounds = histories.offsets[start : start + _BATCH + 1]
            part = Sequences(histories.items[bounds[0] : bounds[-1]], bounds - bounds[0])
            recent = part.tail(self.max_seq_len)
            with torch.no_grad():
                states = self.model.encode_users(
                    self.catalogue,
                    torch.tensor(recent.items, dtype=torch.int64, device=device),
                    torch.tensor(recent.offsets, device=device),
                )
            yield (
                user_vectors(states),
                torch.tensor(part.offsets, device=device),
                torch.tensor(part.items, dtype=torch.int64, device=device),
            )
