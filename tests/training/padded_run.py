"""A model and the batches of its run, all full ones of one shape."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.capacities import Capacities, Sizes
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.loader import BatchLoader
from odmt_fast.batch.packet import send
from odmt_fast.batch.padding import sizes_of
from odmt_fast.config import ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models import SequentialModel
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.zoo import build

N_ITEMS, S, USERS = 30, 5, 3


def make(name: str = "odmt", backbone: str = "sasrec", **settings: object) -> SequentialModel:
    """A model of text and image, small."""
    generator = torch.Generator().manual_seed(5)
    sources = {}
    for modality, longest in (("text", 4), ("image", 3)):
        features = torch.randn(N_ITEMS + 1, longest, 5, generator=generator)
        lengths = torch.randint(1, longest + 1, (N_ITEMS + 1, 1), generator=generator)
        sources[modality] = TokenTable.from_padded(features, torch.arange(longest) < lengths)
    values = {"width": 8, "max_seq_len": S, "dropout": 0.2, "alpha": 4.0, **settings}
    config = ModelConfig(name=name, backbone=backbone, **values)
    shares = torch.rand(N_ITEMS + 1, generator=generator) + 0.1
    return build(config, shares, sources, generator=generator)


def loader(model: SequentialModel) -> BatchLoader:
    """Batches of three users; all but an epoch's last one fit the only capacity."""
    draws = np.random.default_rng(2)
    users = [draws.integers(1, N_ITEMS + 1, n).tolist() for n in (6, 3, 2, 5, 6, 4, 3, 5, 2, 6, 4)]
    collate = Collator(Sequences.from_lists(users), S, model.sources)
    plain = [sizes_of(b) for b in BatchLoader(collate, batch_size=USERS, seed=1).epoch(1)]
    largest = Sizes(
        users=USERS + 3,
        rows=max(size.rows for size in plain) + 3,
        items=N_ITEMS + 16,
        history=max(size.history for size in plain),
        tokens=tuple(2 * (N_ITEMS + 16) for _ in model.sources),
    )
    capacities = Capacities(USERS, collate.limits, (largest,))
    assert isinstance(model.loss, Loss)
    return BatchLoader(
        collate, batch_size=USERS, seed=1, capacities=capacities, kd_weight=model.loss.kd_weight
    )


def batches(model: SequentialModel, epochs: int = 2) -> Iterator[tuple[Batch, int]]:
    """Every batch in its block, and the epoch."""
    with loader(model) as coming:
        for epoch in range(1, epochs + 1):
            for batch in coming.epoch(epoch):
                yield send(batch, torch.device("cpu"))[0], epoch
