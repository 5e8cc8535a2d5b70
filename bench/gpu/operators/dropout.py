"""Dropout against torch, eager and compiled: bound by copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.case import Case, Setting, Variant, Work
from odmt_fast.kernels.dropout import dropout

P = 0.1


def cases(setting: Setting) -> Iterator[Case]:
    """The tokens of the official batch in bf16."""
    shape = (12, 32) if setting.tiny else (722 * 69, 768)
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.bfloat16, device=setting.device)
    seed = torch.tensor([7], device=setting.device)

    def variant(
        name: str, function: Callable[[Tensor], Tensor], *, slow_start: bool = False
    ) -> Variant:
        leaf = x.clone().requires_grad_()
        note = "the backward reads a stored mask" if name == "torch, eager" else ""
        # Every variant draws its own random numbers.
        return Variant(
            name, lambda: function(leaf), (leaf,), (x,), None, note, slow_start=slow_start
        )

    def variants() -> Iterator[Variant]:
        yield variant("torch, eager", lambda x: F.dropout(x, P))
        yield variant("ours", lambda x: dropout(x, P, seed))
        compiled = setting.compiled(lambda x: F.dropout(x, P))
        yield variant("torch.compile", compiled, slow_start=True)

    moved = 2 * x.numel() * x.element_size()
    label = f"{shape[0]:,} rows of {shape[1]}, p {P}, bf16"
    yield Case("dropout", label, Work((0.0, 0.0), (moved, moved)), variants())
