"""Recommendations by name: histories in, items out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from odmt_fast.data.dataset import items_of_frame
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.retrieval.approximate import AUTO, Index
from odmt_fast.retrieval.candidates import top_k_among
from odmt_fast.retrieval.limits import Limits, Names
from odmt_fast.retrieval.parts import Parts
from odmt_fast.retrieval.search import item_vectors, top_k, user_vectors
from odmt_fast.retrieval.stored import Stored

_BATCH = 512
_MEASURED = 1000


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
    """Top-k over a catalogue encoded once: exact, or by an index where one is asked for.

    Items and users go by their names in the source. `allow` and `deny` are names of items: all that
    may be returned, and some that may not; names that are not in the catalogue change nothing.
    Of `recommend` and `recommend_all` each may be a list of such lists, one for every history: then
    only what is allowed is scored.

    Args:
        parts: of a trained model; `load` reads them from a bundle.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.item_vectors = item_vectors(parts.catalogue, parts.known_branches)
        self._rows = {name: row for row, name in enumerate(parts.items.ids, 1)}

    def followed_by(self, parts: Parts) -> Self:
        """That of `parts`, in which further items stand behind those here: theirs are made alone.

        Args:
            parts: of `Parts.with_items` of those here.
        """
        start = len(self.items) + 1
        made = copy(self)
        made.parts = parts
        known = None if parts.known_branches is None else parts.known_branches.part(start)
        new = item_vectors(parts.catalogue[:, start:], known)
        made.item_vectors = torch.cat([self.item_vectors, new])
        made._rows = self._rows | {n: r for r, n in enumerate(parts.items.ids[start - 1 :], start)}
        return made

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
        grown = self.followed_by(self.parts.with_items(items))
        self.parts, self.item_vectors, self._rows = grown.parts, grown.item_vectors, grown._rows

    def with_index(self, factory: str = AUTO, search: str | None = None, k: int = 10) -> Self:
        """One that searches by an approximate index of FAISS, measured on up to 1,000 known users.

        Args:
            factory: of FAISS's ``index_factory``, such as "HNSW32"; "auto" = lists of vectors.
            search: parameters of its search, such as "efSearch=64".
            k: items of the lists on which its recall is measured.

        Raises:
            ImportError: faiss is not installed.
            ValueError: see `Index.built`.
        """
        users = self.known.sequences
        rows = users.lengths.nonzero()[0]
        some = np.zeros(len(users), bool)
        some[rows[:: max(1, -(-len(rows) // _MEASURED))]] = True
        asked = users.select(some)
        queries = self.user_vectors(asked) if len(asked) else self.item_vectors[:0]
        history = csr(asked, queries.device)
        index = Index.built(
            self.item_vectors, queries, *history, factory=factory, search=search, k=k
        )
        made = copy(self)
        made.parts = replace(self.parts, index=index)
        return made

    @property
    def items(self) -> ItemTable:
        """The catalogue."""
        return self.parts.items

    def recommend(
        self,
        histories: Iterable[Sequence[str]],
        k: int = 10,
        *,
        allow: Names | None = None,
        deny: Names = (),
    ) -> list[list[Recommendation]]:
        """The k best new items for each history, best first.

        Args:
            histories: items of each person, oldest first; all of them are left out.
            k: items per list; fewer come back when the catalogue has fewer left.
            allow, deny: see above.

        Raises:
            ValueError: a history is empty, an item of it is not in the catalogue, nothing of an
                `allow` for all can be returned, lists are given for another number of histories,
                or k is below 1.
        """
        asked = Sequences.from_lists([self.dense_ids(names) for names in histories])
        limits = Limits.of(allow, deny, self._rows, len(asked))
        found: list[list[Recommendation]] = []
        for ids, scores in self._best(asked, k, limits):
            found += self._lists(ids, scores)
        return found

    def recommend_all(
        self,
        k: int = 10,
        *,
        allow: Names | None = None,
        deny: Names = (),
    ) -> Any:
        """The k best new items for every known user.

        Returns:
            A `pyarrow.Table`, a row per item: user (string), rank (int32, from 1), item (string),
            title (string; "?" for what is no Unicode text), score (float).

        Raises:
            ValueError: no user is known, or see `recommend`.
        """
        import pyarrow as pa

        self._require_users()
        limits = Limits.of(allow, deny, self._rows, len(self.known.names))
        blocks = list(self._best(self.known.sequences, k, limits))
        ids, scores = (torch.cat(part).cpu() for part in zip(*blocks, strict=True))
        found = ids > 0
        users, ranks = found.nonzero(as_tuple=True)
        rows = pa.array((ids[found] - 1).numpy())
        # Arrow's strings are UTF-8, which has no lone surrogates; a title may come with one.
        titles = [text and text.encode(errors="replace").decode() for text in self.items.texts]
        return pa.table(
            {
                "user": pa.array(self.known.names, pa.string()).take(pa.array(users.numpy())),
                "rank": pa.array((ranks + 1).to(torch.int32).numpy()),
                "item": pa.array(self.items.ids, pa.string()).take(rows),
                "title": pa.array(titles, pa.string()).take(rows),
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
        allowed = Limits.of(allow, deny, self._rows, len(asked)).to(device).allowed
        return self._lists(*top_k(vectors[asked], vectors, k, offsets, asked, allowed=allowed))

    def explain(self, history: Sequence[str], item: str) -> dict[str, float]:
        """What each branch adds to the score of `item` after `history`; the sum is the score.

        Raises:
            ValueError: the history is empty, or an item is not in the catalogue.
        """
        (row,) = self.dense_ids([item])
        asked = Sequences.from_lists([self.dense_ids(history)])
        ((_, states, _),) = self._states(asked)
        vectors = self.item_vectors[row].view(len(self.parts.branches), -1)
        shares = (states[:, 0] * vectors).sum(1)
        return dict(zip(self.parts.branches, shares.tolist(), strict=True))

    def user_vectors(self, histories: Sequences) -> Tensor:
        """[n_users, K d] after the last item of each history (dense ids).

        Raises:
            ValueError: a history is empty.
        """
        return torch.cat([user_vectors(states) for _, states, _ in self._states(histories)])

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
        self, histories: Sequences, k: int, limits: Limits
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids and scores [B, k] of batches of users."""
        index, items, device = self.parts.index, self.item_vectors, self.item_vectors.device
        limits = limits.to(device)
        for start, states, past in self._states(histories):
            queries, left_out = user_vectors(states), past
            if limits.denied is not None:
                left_out = past.joined(limits.denied.part(start, _BATCH))
            offsets, history = csr(left_out, device)
            if limits.among is not None:
                among = csr(limits.among.part(start, _BATCH), device)
                yield top_k_among(
                    queries, items, k, *among, offsets, history, allowed=limits.allowed
                )
            elif index is not None and not limits.allow:
                yield index.top_k(queries, items, k, offsets, history, allowed=limits.allowed)
            else:
                yield top_k(queries, items, k, offsets, history, allowed=limits.allowed)

    def _states(self, histories: Sequences) -> Iterator[tuple[int, Tensor, Sequences]]:
        """First user, states [K, B, d] and whole histories of batches of users."""
        lengths = histories.lengths
        if lengths.size and lengths.min() < 1:
            raise ValueError(f"the history of user {int(lengths.argmin())} is empty; give an item")
        catalogue = self.parts.catalogue
        for start in range(0, len(histories), _BATCH):
            part = histories.part(start, _BATCH)
            offsets, recent = csr(part.tail(self.parts.settings.max_seq_len), catalogue.device)
            with torch.no_grad():
                states = self.parts.users.encode(catalogue, recent, offsets)
            yield start, states, part


def csr(sequences: Sequences, device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets and items, int64 on `device`."""
    return (
        torch.tensor(sequences.offsets, device=device),
        torch.tensor(sequences.items, dtype=torch.int64, device=device),
    )
