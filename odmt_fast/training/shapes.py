"""Whether the batches of a run are padded to a few shapes, and to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from odmt_fast.batch.capacities import Array, Capacities
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.sampler import UserSampler
from odmt_fast.config import Config, ModelConfig
from odmt_fast.features.tokens import TokenSource
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.work import needed_work
from odmt_fast.training.captured import capture_missing

SAMPLED = 512
"""Batches that capacities are chosen by, the first of a run; later ones may not fit."""

# oneDNN makes its bf16 products for every shape anew, about 45 a step. Up to 1.4e11 FLOP a step
# padding was measured to be faster; the dummies of about twice that cost what it saves
# (docs/performance_notes.md).
_MOST_WORK = 2e11


def chosen_capacities(
    model: nn.Module,
    collate: Collator,
    sources: Sequence[TokenSource],
    config: Config,
    device: torch.device,
    processes: int = 1,
) -> Capacities | None:
    """What the batches are padded to, a function of the configuration and the data.

    Steps that are captured need few shapes, and on a CPU those of bf16 that are no large work gain
    by them. None where batches run as they are: everywhere else, and with a loss that would count
    the dummies.
    """
    loss = getattr(model, "loss", None)
    if not (isinstance(loss, Loss) and loss.weighs_rows):
        return None
    captured = capture_missing(config, device, processes) is None
    if not captured and (device.type != "cpu" or config.training.precision != "bf16"):
        return None
    sampler = UserSampler(collate.users, config.training.batch_size, config.training.seed)
    sizes = collate.first_sizes(sampler, SAMPLED)
    if not sizes:
        return None
    dims = [source.dim for source in sources]

    def cost(rows: Array, items: Array, tokens: Array) -> NDArray[np.float64]:
        return step_flop(config.model, dims, rows, items, tokens)

    capacities = Capacities.choose(sizes, collate.limits, cost)
    if captured:
        return capacities
    largest = capacities.buckets[-1]
    work = cost(*(np.array([n]) for n in (largest.rows, largest.items, largest.tokens)))
    return capacities if float(work[0]) <= _MOST_WORK else None


def step_flop(
    config: ModelConfig, dims: Sequence[int], rows: Array, items: Array, tokens: Array
) -> NDArray[np.float64]:
    """FLOP of steps of `rows` [n], `items` [n] and `tokens` [n, modalities] of width `dims`."""
    read = tokens.sum(axis=1) + items
    work = needed_work(
        config,
        dims,
        rows=rows,
        items=items,
        tokens=list(tokens.T),
        squares=read * read / items,  # all items of the mean length
    )
    total: NDArray[np.float64] = work.total.astype(np.float64)
    return total
