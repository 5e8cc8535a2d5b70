"""Every random stream: a function of the run's seed, what is drawn, the epoch and the step.

Nothing in this package draws from a default generator of torch, NumPy or ``random``, so a stream
depends neither on what ran before nor on what runs beside it.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream(seed: int, what: str, epoch: int = 0, step: int = 0) -> int:
    """The seed of one stream, in 0..2^62 - 1: int64 has room to count on from it.

    Equal on every machine and in every version: a run may be resumed after an upgrade.

    Args:
        seed: of the run (``training.seed``); taken modulo 2^64.
        what: is drawn, such as "dropout".
        epoch: from 1, where the stream belongs to one.
        step: of the epoch, or whatever else counts the streams of a name.
    """
    words = (seed % 2**64, epoch, step)
    digest = hashlib.blake2b(struct.pack("<QQQ", *words) + what.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def numpy_generator(seed: int, what: str, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """A NumPy generator (PCG64) at the start of a `stream`."""
    return np.random.Generator(np.random.PCG64(stream(seed, what, epoch, step)))


def torch_generator(
    seed: int, what: str, epoch: int = 0, step: int = 0, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator of `device` at the start of a `stream`."""
    import torch  # the generated shop needs no torch

    return torch.Generator(device).manual_seed(stream(seed, what, epoch, step))
