"""Recommendations by name: histories in, items out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from odmt_fast.data.dataset import items_of_frame
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.retrieval.parts import Parts
from odmt_fast.retrieval.search import item_vectors, top_k, user_vectors
from odmt_fast.retrieval.stored import Stored

_BATCH = 512


@dataclass(frozen=True)
class Recommendation:
    """One item of a list.

    Attributes:
        id: the item's name in the source.
        title: its text; None where it has none.
        score: the ensemble's score; of similar items the cosine.
    """

    id: str
    title: str | None
    score: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"id": self.id, "title": self.title, "score": self.score}


class Recommender(Stored):
    """Exact top-k over a catalogue encoded once.

    Items and users go by their names in the source. `allow` and `deny` are names of items: all that
    may be returned, and some that may not; names that are not in the catalogue change nothing.

    Args:
        parts: of a trained model; `load` reads them from a bundle.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._take(parts)

    def _take(self, parts: Parts) -> None:
        self.parts = parts
        self.item_vectors = item_vectors(parts.catalogue, parts.known_branches)
        self._rows = {name: row for row, name in enumerate(parts.items.ids, 1)}

    def add_items(
        self,
        items: Any,
        images: str | PathLike[str] | None = None,
        *,
        item: str = "item",
        texts: Sequence[str] = ("text",),
        image: str | None = None,
    ) -> None:
        """Puts items that nobody has bought into the catalogue, by their texts and pictures.

        They are recommended, and may stand in histories, from the next call on. The vectors of the
        others stay as they are, to the bit.

        Args:
            items: a frame with a row per item, or an `ItemTable`.
            images, item, texts, image: of a frame, see `Dataset.from_frames`.

        Raises:
            ValueError: an item is known already, or nothing is there that could encode it; see
                `Dataset.from_frames` and `ItemSide.encode`.
        """
        if not isinstance(items, ItemTable):
            items = items_of_frame(items, images, item=item, texts=texts, image=image)
        self._take(self.parts.with_items(items))

    @property
    def items(self) -> ItemTable:
        """The catalogue."""
        return self.parts.items

    def recommend(
        self,
        histories: Iterable[Sequence[str]],
        k: int = 10,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] = (),
    ) -> list[list[Recommendation]]:
        """The k best new items for each history, best first.

        Args:
            histories: items of each person, oldest first; all of them are left out.
            k: items per list; fewer come back when the catalogue has fewer left.
            allow, deny: see above.

        Raises:
            ValueError: a history is empty, an item of it is not in the catalogue, nothing of
                `allow` can be returned, or k is below 1.
        """
        asked = Sequences.from_lists([self.dense_ids(names) for names in histories])
        allowed = self._allowed(allow, deny)
        found: list[list[Recommendation]] = []
        for ids, scores in self._best(asked, k, allowed):
            found += self._lists(ids, scores)
        return found

    def recommend_all(
        self,
        k: int = 10,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] = (),
    ) -> Any:
        """The k best new items for every known user.

        Returns:
            A `pyarrow.Table`, a row per item: user (string), rank (int32, from 1), item (string),
            title (string), score (float).

        Raises:
            ValueError: no user is known, or see `recommend`.
        """
        import pyarrow as pa

        self._require_users()
        blocks = list(self._best(self.known.sequences, k, self._allowed(allow, deny)))
        ids, scores = (torch.cat(part).cpu() for part in zip(*blocks, strict=True))
        found = ids > 0
        users, ranks = found.nonzero(as_tuple=True)
        rows = pa.array((ids[found] - 1).numpy())
        return pa.table(
            {
                "user": pa.array(self.known.names, pa.string()).take(pa.array(users.numpy())),
                "rank": pa.array((ranks + 1).to(torch.int32).numpy()),
                "item": pa.array(self.items.ids, pa.string()).take(rows),
                "title": pa.array(self.items.texts, pa.string()).take(rows),
                "score": pa.array(scores[found].float().numpy()),
            }
        )

    def similar(
        self,
        items: Sequence[str],
        k: int = 10,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] = (),
    ) -> list[list[Recommendation]]:
        """The k other items nearest to each of `items`, by the cosine of their vectors.

        Raises:
            ValueError: an item is not in the catalogue, or k is below 1.
        """
        device = self.item_vectors.device
        asked = torch.tensor(self.dense_ids(items), dtype=torch.int64, device=device)
        vectors = normalize(self.item_vectors, dim=1)
        offsets = torch.arange(len(asked) + 1, device=asked.device)
        allowed = self._allowed(allow, deny)
        return self._lists(*top_k(vectors[asked], vectors, k, offsets, asked, allowed=allowed))

    def explain(self, history: Sequence[str], item: str) -> dict[str, float]:
        """What each branch adds to the score of `item` after `history`; the sum is the score.

        Raises:
            ValueError: the history is empty, or an item is not in the catalogue.
        """
        (row,) = self.dense_ids([item])
        asked = Sequences.from_lists([self.dense_ids(history)])
        ((states, _, _),) = self._states(asked)
        vectors = self.item_vectors[row].view(len(self.parts.branches), -1)
        shares = (states[:, 0] * vectors).sum(1)
        return dict(zip(self.parts.branches, shares.tolist(), strict=True))

    def user_vectors(self, histories: Sequences) -> Tensor:
        """[n_users, K d] after the last item of each history (dense ids).

        Raises:
            ValueError: a history is empty.
        """
        return torch.cat([user_vectors(states) for states, _, _ in self._states(histories)])

    def history(self, user: str) -> list[str]:
        """Items of a known user, oldest first.

        Raises:
            ValueError: the user is not known.
        """
        self._require_users()
        if user not in self.known.rows:
            raise ValueError(f"user {user!r} is not among the {len(self.known.names)} known users")
        row = self.known.rows[user]
        return [self.items.ids[item - 1] for item in self.known.sequences[row].tolist()]

    def dense_ids(self, names: Iterable[str]) -> list[int]:
        """Dense ids of items named as in the source.

        Raises:
            ValueError: a name is not in the catalogue.
        """
        if isinstance(names, str):
            raise ValueError(f"{names!r} stands where a list of item ids must; write [{names!r}]")
        names = list(names)
        unknown = next((name for name in names if name not in self._rows), None)
        if unknown is not None:
            text = "" if isinstance(unknown, str) else f"; ids are texts, such as {str(unknown)!r}"
            raise ValueError(
                f"item {unknown!r} is not in the catalogue of {len(self._rows)} items{text}"
            )
        return [self._rows[name] for name in names]

    def _allowed(self, allow: Collection[str] | None, deny: Collection[str]) -> Tensor | None:
        """bool [n_items + 1], which may be returned; None = all."""
        if allow is None and not deny:
            return None
        allowed = torch.zeros(len(self.items) + 1, dtype=torch.bool)
        allowed[1:] = allow is None
        allowed[[self._rows[name] for name in allow or () if name in self._rows]] = True
        allowed[[self._rows[name] for name in deny if name in self._rows]] = False
        if allow and not allowed.any():
            raise ValueError(
                f"none of the {len(allow):,} items of allow may be returned: they are not in the "
                f"catalogue of {len(self.items):,}, or denied"
            )
        return allowed.to(self.item_vectors.device)

    def _lists(self, ids: Tensor, scores: Tensor) -> list[list[Recommendation]]:
        return [
            [
                Recommendation(self.items.ids[i - 1], self.items.texts[i - 1], score)
                for i, score in zip(row, values, strict=True)
                if i > 0
            ]
            for row, values in zip(ids.tolist(), scores.tolist(), strict=True)
        ]

    def _best(
        self, histories: Sequences, k: int, allowed: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids and scores [B, k] of batches of users."""
        for states, offsets, whole in self._states(histories):
            yield top_k(user_vectors(states), self.item_vectors, k, offsets, whole, allowed=allowed)

    def _states(self, histories: Sequences) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """States [K, B, d], and the whole history as CSR, of batches of users."""
        lengths = histories.lengths
        if lengths.size and lengths.min() < 1:
            raise ValueError(f"the history of user {int(lengths.argmin())} is empty; give an item")
        catalogue = self.parts.catalogue
        for start in range(0, len(histories), _BATCH):
            bounds = histories.offsets[start : start + _BATCH + 1]
            part = Sequences(histories.items[bounds[0] : bounds[-1]], bounds - bounds[0])
            recent = part.tail(self.parts.settings.max_seq_len)
            with torch.no_grad():
                states = self.parts.users.encode(
                    catalogue,
                    torch.tensor(recent.items, dtype=torch.int64, device=catalogue.device),
                    torch.tensor(recent.offsets, device=catalogue.device),
                )
            yield (
                states,
                torch.tensor(part.offsets, device=catalogue.device),
                torch.tensor(part.items, dtype=torch.int64, device=catalogue.device),
            )
