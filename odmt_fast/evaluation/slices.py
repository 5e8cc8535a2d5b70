"""Cutting a result by what the target or the user is like."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from odmt_fast.evaluation.result import EvaluationResult


def by_popularity(
    result: EvaluationResult, popularity: np.ndarray, parts: int = 4
) -> dict[str, EvaluationResult]:
    """Users grouped by how popular their target is, rarest first.

    Args:
        result: of any ranking.
        popularity: float [n_items + 1], share of the training interactions.
        parts: groups of about equally many users.
    """
    values = torch.tensor(popularity, dtype=torch.float64)[result.targets]
    return _by_quantile(result, values, parts, "popularity")


def by_training(result: EvaluationResult, popularity: np.ndarray) -> dict[str, EvaluationResult]:
    """Targets that occur in the training interactions, and cold ones, which do not.

    Arguments as for `by_popularity`; where there is but one kind the answer is empty.
    """
    cold = torch.tensor(popularity, dtype=torch.float64)[result.targets] == 0.0
    if not bool(cold.any()) or bool(cold.all()):
        return {}
    return {"items of the training": result.select(~cold), "cold items": result.select(cold)}


def by_input_length(result: EvaluationResult, parts: int = 3) -> dict[str, EvaluationResult]:
    """Users grouped by how many inputs they have, shortest first."""
    return _by_quantile(result, result.input_lengths.double(), parts, "inputs")


def _by_quantile(
    result: EvaluationResult, values: Tensor, parts: int, what: str
) -> dict[str, EvaluationResult]:
    edges = values.quantile(torch.linspace(0, 1, parts + 1, dtype=torch.float64))
    edges = torch.unique(edges)
    group = torch.bucketize(values, edges[1:-1], right=True)
    groups: dict[str, EvaluationResult] = {}
    for index in range(max(1, edges.shape[0] - 1)):
        users = group == index
        if bool(users.any()):
            low, high = values[users].min().item(), values[users].max().item()
            groups[f"{what} {low:.3g} to {high:.3g}"] = result.select(users)
    return groups
