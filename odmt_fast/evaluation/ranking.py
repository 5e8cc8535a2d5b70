"""Leave-one-out ranking of the whole catalogue, for a model or for plain scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from odmt_fast.config import EvaluationConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation.result import EvaluationResult
from odmt_fast.evaluation.users import UserBatch, user_batches
from odmt_fast.kernels.rank_of_target import Repeats, rank_of_score, rank_of_target
from odmt_fast.models.base import SequentialModel
from odmt_fast.models.ensemble import KnownBranches, item_vectors, user_vectors


class NonFiniteVectorsError(ValueError):
    """A model whose vectors hold NaN or infinity cannot rank."""


class Ranker(Protocol):
    """What evaluation and retrieval need of a model."""

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the K branches."""

    def encode_catalogue(self) -> Tensor:
        """Embeddings of all items [K, n_items + 1, d], without gradient; row 0 is padding."""

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor, /) -> Tensor:
        """States [K, B, d] after the last input of each user (items [N], offsets [B + 1])."""


def evaluate(
    model: Ranker,
    sequences: Sequences,
    history: Sequences,
    settings: EvaluationConfig | None = None,
    *,
    popularity: np.ndarray | None = None,
) -> EvaluationResult:
    """Ranks every user's last item among all items, per branch and for the ensemble.

    Args:
        model: with its parameters where the ranking shall run; evaluated in eval mode.
        sequences: inputs and, last, the target of each user (``split.valid`` or ``split.test``).
        history: items left out when ranking (``split.valid_history`` or ``split.test_history``).
        settings: cut-offs, batch size, the rules for repeated targets and for the ensemble; None =
            the defaults. ``settings.targets`` is for whoever chooses `sequences`.
        popularity: float [n_items + 1]; adds the "popularity" ranking as a yardstick.

    Raises:
        ValueError: the sequences do not fit together, or ``settings.ensemble`` is "known" and the
            model is no `SequentialModel`.
        NonFiniteVectorsError: the model yields NaN or inf.
    """
    settings = settings or EvaluationConfig()
    with evaluating(model) as catalogue:
        together = known_ensemble(model, catalogue, settings)

        def rank(batch: UserBatch, repeats: Repeats) -> tuple[Tensor, Tensor]:
            states = model.encode_users(catalogue, batch.items, batch.offsets)
            _check_finite("user states", states, model.branches)
            states = states.to(catalogue.dtype)
            ranks, ties = _ranked(states, catalogue, batch, repeats)
            if together is not None:
                last = _ranked(user_vectors(states).unsqueeze(0), together, batch, repeats)
                ranks, ties = (
                    torch.cat([whole[:-1], own])
                    for whole, own in zip((ranks, ties), last, strict=True)
                )
            return ranks, ties

        names = model.branches
        if len(names) > 1:
            names = (*names, "ensemble")
        n_items = catalogue.shape[1] - 1
        return _evaluate(
            rank, names, sequences, history, n_items, settings, catalogue.device, popularity
        )


@contextmanager
def evaluating(model: Ranker) -> Iterator[Tensor]:
    """The catalogue's embeddings; within, `model` is in eval mode and no gradient is kept.

    Raises:
        ValueError: they hold NaN or inf.
    """
    module = model if isinstance(model, torch.nn.Module) else None
    training = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        with torch.no_grad():
            catalogue = model.encode_catalogue()
            _check_finite("item embeddings", catalogue, model.branches)
            yield catalogue
    finally:
        if module is not None:
            module.train(training)


def evaluate_scores(
    name: str,
    score: Callable[[UserBatch], Tensor],
    sequences: Sequences,
    history: Sequences,
    n_items: int,
    settings: EvaluationConfig | None = None,
) -> EvaluationResult:
    """The same evaluation for anything that scores all items: `score` returns [B, n_items + 1]."""

    def rank(batch: UserBatch, repeats: Repeats) -> tuple[Tensor, Tensor]:
        scores = score(batch).unsqueeze(0)
        return rank_of_score(scores, batch.targets, batch.history_offsets, batch.history, repeats)

    settings = settings or EvaluationConfig()
    return _evaluate(rank, (name,), sequences, history, n_items, settings, torch.device("cpu"))


def _evaluate(
    rank: Callable[[UserBatch, Repeats], tuple[Tensor, Tensor]],
    names: tuple[str, ...],
    sequences: Sequences,
    history: Sequences,
    n_items: int,
    settings: EvaluationConfig,
    device: torch.device,
    popularity: np.ndarray | None = None,
) -> EvaluationResult:
    rule = "miss" if settings.compat == "official" else settings.repeat_targets
    repeats: Repeats = "miss" if rule == "miss" else "rank"
    places = None if popularity is None else places_of(popularity).to(device)
    ranks, ties, targets, repeated = [], [], [], []
    for batch in user_batches(sequences, history, settings.batch_size, device):
        found = rank(batch, repeats)
        if places is not None:
            by_popularity = _rank_by_popularity(places, batch, repeats)
            found = (
                torch.cat([found[0], by_popularity[0]]),
                torch.cat([found[1], by_popularity[1]]),
            )
        ranks.append(found[0].cpu())
        ties.append(found[1].cpu())
        targets.append(batch.targets.cpu())
        repeated.append(batch.repeated.cpu())
    if not ranks:
        raise ValueError("sequences has no user; nothing can be ranked")
    result = EvaluationResult(
        names=names if popularity is None else (*names, "popularity"),
        k=settings.k,
        ranks=torch.cat(ranks, dim=1),
        ties=torch.cat(ties, dim=1),
        targets=torch.cat(targets),
        rows=torch.arange(len(sequences)),
        input_lengths=torch.from_numpy(np.diff(sequences.offsets) - 1),
        repeated=torch.cat(repeated),
        n_items=n_items,
        repeat_targets=rule,
    )
    if rule != "skip":
        return result
    if bool(result.repeated.all()):
        raise ValueError("repeat_targets='skip' leaves no user; use 'rank' or 'miss'")
    return result.select(~result.repeated)


def _ranked(
    queries: Tensor, items: Tensor, batch: UserBatch, repeats: Repeats
) -> tuple[Tensor, Tensor]:
    offsets, history = batch.history_offsets, batch.history
    return rank_of_target(queries, items, batch.targets, offsets, history, repeats=repeats)


def known_ensemble(model: Ranker, catalogue: Tensor, settings: EvaluationConfig) -> Tensor | None:
    """[1, n_items + 1, K d], vectors whose inner product is the ensemble's score where it differs
    from the mean of the branches."""
    if settings.ensemble == "mean" or len(model.branches) == 1:
        return None
    if not isinstance(model, SequentialModel):
        raise ValueError(
            "evaluation.ensemble='known' needs a SequentialModel, which says what its branches "
            f"know; {type(model).__name__} does not: use 'mean'"
        )
    return item_vectors(catalogue, KnownBranches.of(model, catalogue)).unsqueeze(0)


def places_of(popularity: np.ndarray) -> Tensor:
    """float32 [n], ordered and equal where the float64 popularities are: few enough to be exact."""
    return torch.from_numpy(np.unique(popularity, return_inverse=True)[1].astype(np.float32))


def _rank_by_popularity(
    places: Tensor, batch: UserBatch, repeats: Repeats
) -> tuple[Tensor, Tensor]:
    """Ranks [1, B] when every user's score of an item is its popularity."""
    everybody = places.new_ones(1, batch.targets.shape[0], 1)
    return _ranked(everybody, places.view(1, -1, 1), batch, repeats)


def _check_finite(what: str, values: Tensor, branches: tuple[str, ...]) -> None:
    finite = values.isfinite().flatten(1).all(1).tolist()
    if not all(finite):
        bad = ", ".join(name for name, fine in zip(branches, finite, strict=True) if not fine)
        raise NonFiniteVectorsError(
            f"{what} of {bad} hold NaN or inf; the training diverged: lower the learning rate, or "
            "resume from an earlier checkpoint"
        )
