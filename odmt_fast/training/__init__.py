"""Training: the step, the loop, precision, checkpoints that survive anything, logs."""

from __future__ import annotations

from odmt_fast.training.checkpoint import load_weights
from odmt_fast.training.errors import CheckpointError, NonFiniteLossError, ResumeError
from odmt_fast.training.memory import keep_freed_memory, release_freed_memory
from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import PlainReporter, Reporter, StepReport, default_reporter
from odmt_fast.training.run import TrainingResult, train

__all__ = [
    "CheckpointError",
    "EpochRecord",
    "NonFiniteLossError",
    "PlainReporter",
    "Reporter",
    "ResumeError",
    "StepReport",
    "TrainingResult",
    "default_reporter",
    "keep_freed_memory",
    "load_weights",
    "release_freed_memory",
    "train",
]
