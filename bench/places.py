"""Where the targets stood, within a row of a study: what a paired comparison needs, in a few KB.

The first `K` places are kept, all that the metrics of the tables look at. With them in the
committed results a comparison can be made again without the runs, on any machine.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.evaluation import EvaluationResult
from odmt_fast.evaluation.metrics import gains

K = 10
METRICS = (f"hr@{K}", f"ndcg@{K}")

Gains = Mapping[str, NDArray[np.float64]]
"""Metric -> [B], what each target adds to it."""


def gains_of(result: EvaluationResult) -> Gains:
    """Of the best ranking."""
    row = result.names.index(result.best)
    return _gains(result.ranks[row], result.ties[row])


def packed(result: EvaluationResult) -> str:
    """Rank and ties of every target under the best ranking, as a string for JSON."""
    row = result.names.index(result.best)
    ranks = result.ranks[row].clamp(max=K + 1)
    ties = torch.where(ranks > K, 0, result.ties[row])
    places = torch.stack([ranks, ties]).numpy().astype("<u4")
    return base64.b85encode(zlib.compress(places.tobytes(), level=9)).decode()


def unpacked(text: str) -> Gains:
    """The gains of a result that was `packed`."""
    places = np.frombuffer(zlib.decompress(base64.b85decode(text)), "<u4").reshape(2, -1)
    ranks, ties = torch.from_numpy(places.astype(np.int64))
    return _gains(ranks, ties)


def _gains(ranks: torch.Tensor, ties: torch.Tensor) -> Gains:
    return {metric: gains(metric, ranks, ties).numpy() for metric in METRICS}
