"""An approximate index of FAISS over a catalogue: it finds candidates, which are scored exactly.

The ensemble is one inner product (docs/design.md, identity 7), so any index for inner products
serves it. An index covers the items it was built over; those added later are candidates of
everybody, so that adding items neither rebuilds it nor loses them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from odmt_fast.retrieval.candidates import top_k_among
from odmt_fast.retrieval.search import top_k

AUTO = "auto"
ENOUGH = 0.99
"""Recall up to which the lists that are probed are doubled where the index is chosen here."""
_PER_LIST = 39
"""Items of a list below which FAISS calls its clustering undertrained."""
_SHARE = 4
"""Where this part of the catalogue would have to be fetched, all of it is searched instead."""


@dataclass(frozen=True)
class Recall:
    """How many of the exact lists' items an index found.

    Attributes:
        value: mean over the users, 0 to 1.
        k: items of a list.
        users: whose lists were compared.
    """

    value: float
    k: int
    users: int


@dataclass(frozen=True, eq=False)
class Index:
    """An index of FAISS.

    Attributes:
        faiss: a ``faiss.Index`` for inner products; its entry i is row i + 1 of the item vectors.
        factory: what FAISS's ``index_factory`` was given.
        search: what FAISS's ``ParameterSpace`` was given, such as ``nprobe=16``; "" = nothing.
        recall: measured against the exact search.
    """

    faiss: Any
    factory: str
    search: str
    recall: Recall

    @classmethod
    def built(
        cls,
        items: Tensor,
        queries: Tensor,
        history_offsets: Tensor,
        history: Tensor,
        *,
        factory: str = AUTO,
        search: str | None = None,
        k: int = 10,
    ) -> Index:
        """Builds one and measures it.

        Args:
            items: float32 [n, D]; row 0 is padding.
            queries: float32 [B, D], of the users it is measured on.
            history_offsets, history: what is left out for each of them, see `top_k`.
            factory: of FAISS's ``index_factory``; "auto" = lists of vectors (``IVF``), as many of
                them probed as recall 0.99 takes.
            search: parameters of its search; None = FAISS's own, of "auto" those that are measured.
            k: items of a list.

        Raises:
            ImportError: faiss is not installed.
            ValueError: there is no user, or FAISS refuses `factory` or `search`.
        """
        faiss = _faiss()
        if not len(queries):
            raise ValueError(
                "an index is measured on the users of the run, and there is none with a history"
            )
        rows, width = len(items) - 1, items.shape[1]
        lists = max(1, min(round(4 * math.sqrt(rows)), rows // _PER_LIST))
        named = f"IVF{lists},Flat" if factory == AUTO else factory
        try:
            made = faiss.index_factory(width, named, faiss.METRIC_INNER_PRODUCT)
            vectors = items[1:].detach().cpu().float().contiguous().numpy()
            if not made.is_trained:
                made.train(vectors)
            made.add(vectors)
        except RuntimeError as error:
            raise ValueError(
                f"FAISS makes no index {named!r} over {rows:,} vectors of width {width}: "
                f"{_reason(error)}; choose another factory, or auto"
            ) from error
        exact = top_k(queries, items, k, history_offsets, history)[0]

        def measured(parameters: str) -> Index:
            index = cls(_tuned(made, parameters), named, parameters, Recall(0.0, k, len(queries)))
            found = index.top_k(queries, items, k, history_offsets, history)[0]
            hits = (exact.unsqueeze(2) == found.unsqueeze(1)) & (exact > 0).unsqueeze(2)
            shares = hits.any(2).sum(1) / (exact > 0).sum(1).clamp(min=1)
            return replace(index, recall=Recall(float(shares.mean()), k, len(queries)))

        if factory != AUTO or search is not None:
            return measured(search or "")
        probes = 1
        while (index := measured(f"nprobe={probes}")).recall.value < ENOUGH and probes < lists:
            probes = min(2 * probes, lists)
        return index

    @property
    def items(self) -> int:
        """Items that it covers: rows 1 to `items`."""
        return int(self.faiss.ntotal)

    def top_k(
        self,
        queries: Tensor,
        items: Tensor,
        k: int,
        history_offsets: Tensor,
        history: Tensor,
        *,
        allowed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Like the exact `top_k`; items of the exact lists may be missing, scores are exact.

        More are fetched than asked for, by what a history and `allowed` leave out. A user who is
        left with fewer than k is searched exactly, and so are all where so much is left out that a
        quarter of the catalogue would be fetched.
        """
        left_out = int(history_offsets.diff().max()) if len(queries) else 0
        if allowed is not None:
            left_out += int((~allowed[1 : self.items + 1]).sum())
        fetched = min(2 * k + left_out, self.items)
        if _SHARE * fetched >= len(items):
            return top_k(queries, items, k, history_offsets, history, allowed=allowed)
        plain = queries.detach().cpu().float().contiguous().numpy()
        near = torch.from_numpy(self.faiss.search(plain, fetched)[1]).to(queries.device) + 1
        later = torch.arange(self.items + 1, len(items), device=near.device)
        candidates = torch.cat([near, later.expand(len(near), -1)], dim=1)
        offsets = torch.arange(len(near) + 1, device=near.device) * candidates.shape[1]
        ids, scores = top_k_among(
            queries,
            items,
            k,
            offsets,
            candidates.flatten(),
            history_offsets,
            history,
            allowed=allowed,
        )
        short = (ids[:, -1] < 0).nonzero().squeeze(1)
        if len(short):
            lengths = history_offsets.diff()
            theirs = torch.isin(torch.arange(len(lengths), device=near.device), short)
            bounds = torch.cat([lengths.new_zeros(1), lengths[short].cumsum(0)])
            mine = history[theirs.repeat_interleave(lengths)]
            ids[short], scores[short] = top_k(
                queries[short], items, k, bounds, mine, allowed=allowed
            )
        return ids, scores

    def __str__(self) -> str:
        """For people: what it is, and its recall."""
        with_ = f" with {self.search}" if self.search else ""
        recall = self.recall
        return (
            f"approximate index {self.factory}{with_}: recall@{recall.k} {recall.value:.4f} of the "
            f"exact lists of {recall.users:,} users"
        )

    def to_bytes(self) -> bytes:
        """What ``faiss.read_index`` reads from a file."""
        content: bytes = _faiss().serialize_index(self.faiss).tobytes()
        return content

    @classmethod
    def of(cls, content: bytes, values: Mapping[str, Any]) -> Index:
        """The inverse of `to_bytes` and `to_json`.

        Raises:
            ImportError: faiss is not installed.
            ValueError: this version of FAISS does not read it.
        """
        faiss = _faiss()
        try:
            made = faiss.deserialize_index(np.frombuffer(content, np.uint8))
        except RuntimeError as error:
            raise ValueError(
                f"this faiss {faiss.__version__} does not read the index: {_reason(error)}; update "
                "faiss, export the run again, or search exactly"
            ) from error
        return cls(made, values["factory"], values["search"], Recall(**values["recall"]))

    def to_json(self) -> dict[str, Any]:
        """What a manifest says of it, but for its file."""
        recall = asdict(self.recall)
        return {"factory": self.factory, "search": self.search, "recall": recall}


def require_faiss() -> None:
    """Raises an ImportError that names the extra, where faiss is not installed."""
    _faiss()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError(
            "an approximate index needs faiss; pip install 'odmt_fast[faiss]'"
        ) from None
    return faiss


def _tuned(made: Any, parameters: str) -> Any:
    """`made`, which searches with `parameters` from now on; its file keeps them."""
    if parameters:
        try:
            _faiss().ParameterSpace().set_index_parameters(made, parameters)
        except RuntimeError as error:
            raise ValueError(
                f"FAISS does not know the parameters {parameters!r} of this index: "
                f"{_reason(error)}; give some such as nprobe=16 (IVF) or efSearch=64 (HNSW)"
            ) from error
    return made


def _reason(error: RuntimeError) -> str:
    """FAISS's own words, less where in its source they stand."""
    return str(error).rpartition(": ")[2].strip()
