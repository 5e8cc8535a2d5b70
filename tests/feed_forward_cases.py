"""Arguments of `feed_forward`."""

from __future__ import annotations

import torch
from torch import Tensor


def arguments(groups: int | None, rows: int, width: int, hidden: int) -> list[Tensor]:
    torch.manual_seed(rows)
    g = () if groups is None else (groups,)
    shapes = [(rows, width), (*g, hidden, width), (*g, hidden), (*g, width, hidden), (*g, width)]
    return [torch.randn(shape, dtype=torch.float64) / shape[-1] ** 0.5 for shape in shapes]
