"""User encoders in float64 and packed users, for the tests of the backbones."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Histories, UserEncoder
from odmt_fast.models.zoo import BACKBONES

WIDTH, STEPS, ITEMS = 8, 7, 9
LENGTHS = (3, 1, 7, 2, 7)
SILENT = Noise(0.0, None, torch.device("cpu"))


def encoder(backbone: str, branches: int = 1, layers: int = 2, steps: int = STEPS) -> UserEncoder:
    """Every parameter away from where it starts, biases and norms too."""
    config = ModelConfig(width=WIDTH, max_seq_len=steps, user_layers=layers, user_heads=2)
    made = BACKBONES[backbone](config, branches).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        made.initialise(generator)
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return made


def table(branches: int = 1, seed: int = 1) -> Tensor:
    """Item embeddings [K, U, d]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(branches, ITEMS, WIDTH, dtype=torch.float64, generator=generator)


def users(*lengths: int, steps: int = STEPS, seed: int = 2) -> Histories:
    """Packed users of these lengths, with random items."""
    length = torch.tensor(lengths, dtype=torch.int64)
    ends = length.cumsum(0)
    total = int(ends[-1])
    owner = torch.arange(len(lengths)).repeat_interleave(length)
    inputs = torch.randint(ITEMS, (total,), generator=torch.Generator().manual_seed(seed))
    return Histories(
        inputs=inputs,
        positions=torch.arange(total) - ends[owner] + steps,
        row_user=owner.to(torch.int32),
        cu_seqlens=torch.nn.functional.pad(ends, (1, 0)).to(torch.int32),
        max_seqlen=int(length.max()),
    )


def one_by_one(rows: Histories) -> list[Histories]:
    """Each user of `rows` alone."""
    bounds = rows.cu_seqlens.tolist()
    return [
        Histories(
            inputs=rows.inputs[start:end],
            positions=rows.positions[start:end],
            row_user=torch.zeros(end - start, dtype=torch.int32),
            cu_seqlens=torch.tensor([0, end - start], dtype=torch.int32),
            max_seqlen=end - start,
        )
        for start, end in zip(bounds, bounds[1:], strict=False)
    ]
