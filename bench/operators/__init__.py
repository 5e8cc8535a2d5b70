"""The operator benches, one list for every device: what is computed, by whom, and the least work.

`case` says what a case is; `bench.test_operators` runs them, on CUDA where it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from bench.operators.case import Case, Setting

OPERATORS = (
    "training_step",
    "packed_attention",
    "distilled_softmax",
    "linear",
    "feed_forward",
    "readout_attention",
    "residual_norm",
    "adamw",
    "dropout",
    "debiased_logits",
    "rank_of_target",
    "batch_index",
)
"""Modules in here with ``cases(setting)``, what matters most first."""


def all_cases(setting: Setting) -> Iterator[Case]:
    """The cases of every operator; none has made a tensor yet."""
    for operator in OPERATORS:
        yield from import_module(f"bench.operators.{operator}").cases(setting)
