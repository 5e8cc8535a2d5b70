"""A modality of somebody else: precomputed vectors as a token store of one token an item."""

from __future__ import annotations

from pathlib import Path

import torch

from odmt_fast.features.index import Plan
from odmt_fast.features.writer import StoreWriter


def write_audio(path: Path, items: tuple[str, ...]) -> None:
    plan = Plan(
        modality="audio",
        encoder={"name": "random vectors"},
        dtype="float32",
        dim=6,
        shard_items=10,
        items=items,
        missing=(),
        inputs=items,
    )
    writer = StoreWriter.begin(path, plan)
    generator = torch.Generator().manual_seed(1)
    for number in writer.pending():
        shard = plan.shards[number]
        writer.write(number, [torch.randn(1, 6, generator=generator) for _ in shard])
    writer.finish()
