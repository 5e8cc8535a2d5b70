"""What the lists show: how much of the catalogue, how evenly, how popular, how new."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.config import EvaluationConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation.ranking import Ranker, evaluating, known_ensemble, places_of
from odmt_fast.evaluation.users import user_batches
from odmt_fast.kernels.top_k import top_k
from odmt_fast.models.ensemble import item_vectors, user_vectors


@dataclass(frozen=True)
class Exposure:
    """Of the first K places of all lists of one ranking.

    Attributes:
        coverage: share of the catalogue that stands in any of them.
        gini: of the places among the items of the catalogue: 0 where all have as many, near 1 where
            few have all of them.
        popularity: mean of ln(1 + training interactions) of what stands there.
        cold: share of the places that items without a training interaction have.
    """

    coverage: float
    gini: float
    popularity: float
    cold: float

    @classmethod
    def of(cls, places: NDArray[np.int64], bought: NDArray[np.int64]) -> Exposure:
        """From how many places each item has and how often it was bought in training.

        Args:
            places: int64 [n_items + 1]; entry 0 is padding.
            bought: int64 [n_items + 1], likewise.
        """
        had, times = places[1:], bought[1:]
        total, n = int(had.sum()), had.size
        if not total:
            return cls(coverage=0.0, gini=0.0, popularity=0.0, cold=0.0)
        order = np.arange(1, n + 1)
        return cls(
            coverage=float((had > 0).sum()) / n,
            gini=float(2 * (order * np.sort(had)).sum() / (n * total) - (n + 1) / n),
            popularity=float((had * np.log1p(times)).sum() / total),
            cold=float(had[times == 0].sum()) / total,
        )

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def exposures(
    model: Ranker,
    sequences: Sequences,
    history: Sequences,
    k: int,
    settings: EvaluationConfig,
    bought: NDArray[np.int64],
) -> dict[str, Exposure]:
    """Exposure of the best `k` new items of every user, by ranking; arguments as for `evaluate`.

    Args:
        model: with its parameters where the search shall run.
        sequences: inputs and, last, the target of each user.
        history: items left out.
        k: places of a list.
        settings: batch size and the ensemble.
        bought: int64 [n_items + 1], training interactions of every item; ranks as "popularity".
    """
    counts: dict[str, Tensor] = {}
    with evaluating(model) as catalogue:
        together = known_ensemble(model, catalogue, settings)
        vectors = item_vectors(catalogue) if together is None else together[0]
        popular = places_of(bought).to(catalogue.device).unsqueeze(1)
        for batch in user_batches(sequences, history, settings.batch_size, catalogue.device):
            states = model.encode_users(catalogue, batch.items, batch.offsets).to(catalogue.dtype)
            searched = dict(zip(model.branches, zip(states, catalogue, strict=True), strict=True))
            if len(model.branches) > 1:
                searched["ensemble"] = (user_vectors(states), vectors)
            searched["popularity"] = (popular.new_ones(len(batch.targets), 1), popular)
            for name, (queries, items) in searched.items():
                ids, _ = top_k(queries, items, k, batch.history_offsets, batch.history)
                found = torch.bincount(ids[ids > 0].cpu(), minlength=len(bought))
                counts[name] = counts.get(name, torch.zeros_like(found)) + found
    return {name: Exposure.of(found.numpy(), bought) for name, found in counts.items()}
