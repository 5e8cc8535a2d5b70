"""Ranking the whole catalogue: HR@K and NDCG@K of every branch, the ensemble and popularity."""

from __future__ import annotations

from odmt_fast.evaluation.credit import Credit
from odmt_fast.evaluation.exposure import Exposure, exposures
from odmt_fast.evaluation.ranking import Ranker, evaluate, evaluate_scores
from odmt_fast.evaluation.report import EvaluationReport
from odmt_fast.evaluation.result import EvaluationResult
from odmt_fast.evaluation.slices import by_input_length, by_popularity, by_training
from odmt_fast.evaluation.users import UserBatch, user_batches

__all__ = [
    "Credit",
    "EvaluationReport",
    "EvaluationResult",
    "Exposure",
    "Ranker",
    "UserBatch",
    "by_input_length",
    "by_popularity",
    "by_training",
    "evaluate",
    "evaluate_scores",
    "exposures",
    "user_batches",
]
