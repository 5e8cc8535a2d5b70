"""Rank of the target among a whole catalogue, without sorting (DESIGN identity 6)."""

from __future__ import annotations

from odmt_fast.kernels.rank_of_target.op import rank_of_target
from odmt_fast.kernels.rank_of_target.reference import Repeats, rank_of_score

__all__ = ["Repeats", "rank_of_score", "rank_of_target"]
