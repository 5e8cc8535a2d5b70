"""What the rows of a batch are scored against: columns with a weight and a correction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.batch_index import BatchIndex
from odmt_fast.randomness import stream


class CandidateColumns(NamedTuple):
    """The columns of a batch; those of its own items come first, in their order.

    Attributes:
        items: int64 [U], distinct item ids.
        counts: int32 [U], how often each was put there.
        log_q: fp32 [U], what a loss subtracts from the scores; None = the log of the item's share.
        own_targets: whether it is subtracted from all but the row's target.
    """

    items: Tensor
    counts: Tensor
    log_q: Tensor | None
    own_targets: bool = False


class Candidates:
    """Turns the distinct items of a batch into its columns, as ``model.candidates`` says.

    With N occurrences in the batch, item shares p, and n draws, each of item c with probability
    ``r_c ~ p_c ** draw_power``, column c was to be expected m_c times:

    * ``in_batch``: ``N p_c``, the items of the batch.
    * ``mixed``: ``N p_c + n r_c``, these and the draws.
    * ``sampled``: ``n r_c``, the draws alone. Items of the batch have count 0: they are read and
      are targets, but in nobody else's way.
    * ``full``: 1, the whole catalogue.

    The correction of a column, ``model.logq``, is the log of

    * ``q_c = m_c / (N + n)``, the probability that what is put there is c (``official`` and
      ``positive_uncorrected``, which differ in the target: `odmt_fast.models.losses.columns`),
    * ``m_c`` (``recsys25``),
    * 1 (``none``, and in ``full``, where nothing is left to chance).

    Draws repeat; one may be an item that the user had before the steps of the batch.

    Args:
        config: the settings ``candidates``, ``draws``, ``draw_power`` and ``logq``.
        shares: fp64 [n_items + 1], share of each item in the training interactions.
        seed: of the run; with epoch and step it decides the draws.
        offered: bool [n_items + 1], what may be drawn or stand in the whole catalogue
            (`Split.offered`); None = every item.
    """

    def __init__(
        self,
        config: ModelConfig,
        shares: NDArray[np.float64],
        seed: int,
        offered: NDArray[np.bool_] | None = None,
    ) -> None:
        self._offered = np.ones(len(shares), bool) if offered is None else offered
        self._config, self._shares, self._seed = config, shares, seed
        self._draws = config.draws if config.candidates in ("mixed", "sampled") else 0
        odds = shares**config.draw_power  # 0 ** 0 is 1: what was never bought is drawn too
        odds[~self._offered] = odds[0] = 0.0
        self._odds = odds / odds.sum()
        ladder = self._odds.cumsum()
        self._ladder = ladder / ladder[-1]  # ends in 1, at the last item that can be drawn

    def __call__(self, index: BatchIndex, epoch: int, step: int) -> CandidateColumns:
        """The columns of a batch, which step `step` of epoch `epoch` trains on."""
        kind, logq = self._config.candidates, self._config.logq
        if kind == "full":
            others = self._offered.copy()
            others[index.items.numpy()] = others[0] = False
            items = torch.cat([index.items, torch.from_numpy(np.flatnonzero(others))])
            return CandidateColumns(
                items, items.new_ones(len(items)).int(), torch.zeros(len(items))
            )
        if (kind, logq) == ("in_batch", "official"):
            return CandidateColumns(index.items, index.counts, None)
        occurrences = 0 if kind == "sampled" else len(index.occurrences)
        counts = index.counts if occurrences else torch.zeros_like(index.counts)
        items, counts = _joined(index.items, counts, self.draw(epoch, step))
        ids = items.numpy()
        expected = occurrences * self._shares[ids] + self._draws * self._odds[ids]
        total = {"none": expected, "recsys25": 1}.get(logq, occurrences + self._draws)
        return CandidateColumns(
            items,
            counts,
            torch.from_numpy(np.log(expected / total)).float(),
            own_targets=logq in ("positive_uncorrected", "recsys25"),
        )

    def draw(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The draws of a step: item ids, int64 [n]."""
        bits = np.random.PCG64(stream(self._seed, "candidates", epoch, step))
        # NumPy promises raw bits never to change; 53 of them are a fraction in [0, 1).
        fractions = (bits.random_raw(self._draws) >> np.uint64(11)) * 2.0**-53
        return np.searchsorted(self._ladder, fractions, side="right")


def _joined(items: Tensor, counts: Tensor, draws: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Sorted `items` [U] and counts [U] with the draws: what is new comes behind, sorted."""
    ids, times = np.unique(draws, return_counts=True)
    own = items.numpy()
    places = np.searchsorted(own, ids)
    known = places < len(own)
    known[known] = own[places[known]] == ids[known]
    counts = torch.cat([counts, torch.from_numpy(times[~known]).int()])
    counts[torch.from_numpy(places[known])] += torch.from_numpy(times[known]).int()
    return torch.cat([items, torch.from_numpy(ids[~known])]), counts
