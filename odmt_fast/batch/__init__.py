"""From user sequences to training batches: the order of the users, the indices, the prefetch."""

from __future__ import annotations

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.candidates import Candidates
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.loader import BatchLoader
from odmt_fast.batch.sampler import UserSampler

__all__ = ["Batch", "BatchLoader", "Candidates", "Collator", "UserSampler"]
