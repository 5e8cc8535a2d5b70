"""Readout attention against its reference, eager and compiled: bound by copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.case import Case, Setting, Variant, Work
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference

READOUTS, HEADS = 3, 2


def cases(setting: Setting) -> Iterator[Case]:
    """The items of the official batch, and many."""
    width = 32 if setting.tiny else 768
    for items in (4,) if setting.tiny else (722, 5000):
        yield case(setting, items, *((3, 9) if setting.tiny else (57, 81)), width)


def case(setting: Setting, items: int, shortest: int, longest: int, width: int) -> Case:
    """Items of uniform lengths in bf16."""
    torch.manual_seed(0)
    lengths = torch.randint(shortest, longest + 1, (items,))
    cu = F.pad(lengths.cumsum(0), (1, 0)).to(setting.device, torch.int32)
    bf16 = {"dtype": torch.bfloat16, "device": setting.device}
    queries = torch.randn(items, READOUTS, HEADS, width, **bf16)
    hidden = torch.randn(int(lengths.sum()), width, **bf16)
    upstream = torch.randn_like(queries)
    arguments = {"max_seqlen": longest, "mask": "asymmetric", "scale": (width // HEADS) ** -0.5}
    rows, tokens = queries.numel() * 2, hidden.numel() * 2
    product = 2.0 * float(lengths.sum()) * READOUTS * HEADS * width
    work = Work((2 * product, 5 * product), (tokens + 2 * rows, 2 * tokens + 3 * rows))

    def variant(name: str, function: Callable[..., Tensor], **more: Any) -> Variant:
        leaves = tuple(x.clone().requires_grad_() for x in (queries, hidden))
        return Variant(
            name,
            lambda: function(*leaves, cu, **arguments),
            leaves,
            (upstream,),
            **more,
        )

    def variants() -> Iterator[Variant]:
        seed = torch.tensor([7], device=setting.device)
        yield variant("reference, eager", readout_attention_reference)
        yield variant("ours", readout_attention)
        dropped = partial(readout_attention, dropout=0.1, seed=seed)
        yield variant("ours, dropout 0.1", dropped, comparable=None)
        compiled = setting.compiled(readout_attention_reference)
        yield variant("reference, torch.compile", compiled, slow_start=True)

    label = f"{items:,} items of {shortest}-{longest} tokens, {READOUTS} readouts, d {width}, bf16"
    return Case("readout_attention", label, work, variants())
