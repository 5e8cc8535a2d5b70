"""Debiased logits against their reference, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.gpu.case import Case, Setting, Variant, Work
from bench.gpu.operators.batches import LossProblem
from odmt_fast.kernels.debiased_logits import debiased_logits
from odmt_fast.kernels.debiased_logits.reference import debiased_logits as reference


def cases(setting: Setting) -> Iterator[Case]:
    """Batches of users."""
    for users in (4,) if setting.tiny else (128, 1024):
        yield case(setting, users)


def case(setting: Setting, users: int) -> Case:
    """One batch."""
    problem = LossProblem.of(setting, users)
    branches, rows, _ = problem.queries.shape
    shape = (branches, rows, problem.items.shape[1])
    upstream = torch.randn(shape, device=setting.device)

    def variant(name: str, function: Callable[..., Tensor], *, slow_start: bool = False) -> Variant:
        leaves = problem.leaves()
        return Variant(
            name,
            lambda: function(*leaves, problem.columns),
            leaves,
            (upstream,),
            slow_start=slow_start,
        )

    def variants() -> Iterator[Variant]:
        yield variant("reference, eager", reference)
        yield variant("ours", debiased_logits)
        yield variant("reference, torch.compile", setting.compiled(reference), slow_start=True)

    logits, inputs = upstream.numel() * 4, problem.input_bytes
    work = Work((problem.product, 2 * problem.product), (inputs + logits, 2 * inputs + logits))
    return Case("debiased_logits", f"{users:,} users: {problem.label}", work, variants())
