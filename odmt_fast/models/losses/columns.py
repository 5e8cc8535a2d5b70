"""The columns of the loss: what the rows of a batch are scored against, and by which correction.

A softmax over columns c of count w_c estimates the one over the catalogue. With scores f, the
corrections of `odmt_fast.batch.candidates`, and y the target, the log likelihood is

* ``official``: ``f_y - log q_y - log sum_c w_c exp(f_c - log q_c)``, y in the sum with count 1.
* ``none``: the same with ``log q = 0``.
* ``positive_uncorrected``: ``f_y - log(exp f_y + sum_{c != y} w_c exp(f_c - log q_c))``; the target
  is there by itself, not by chance.
* ``recsys25``: that with the expected count m_c for q_c, so that the expected sum is the one over
  the catalogue. Source: Khrylchenko et al., RecSys 2025, arXiv 2507.09331, who write it as
  ``sg(1 - P_y) (f_y - log sum_{c != y} w_c exp(f_c - log q'_c))`` with sg a stopped gradient, q'
  the chance of c given that it is not y, and P_y the target's probability under the estimated sum.
  The gradients are the same, ``(1 - P_y) (df_y - sum_{c != y} s_c df_c)`` with s the softmax over
  the negatives; the value printed is the likelihood's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.kernels.debiased_logits import Candidates
from odmt_fast.kernels.gathered_rows import gathered_rows


def columns_of(items: Tensor, batch: Batch, log_p: Tensor) -> tuple[Tensor, Candidates]:
    """Embeddings [K, C, d] of the columns, and what they mean.

    C is U, or U + M where targets are not corrected: every row then has its target as a column of
    its own, of correction 0, and of count 0, so that it is in nobody else's way.

    Args:
        items: [K, U, d] embeddings of the batch's items.
        batch: the index arrays.
        log_p: [U] log share of each item, the correction where the batch has none.
    """
    log_q = log_p if batch.log_q is None else batch.log_q
    counts, targets = batch.counts, batch.targets
    if batch.own_targets:
        groups, first, width = items.shape
        items = torch.cat([items, gathered_rows(items, targets).view(groups, -1, width)], dim=1)
        log_q, counts = (torch.cat([x, x.new_zeros(len(targets))]) for x in (log_q, counts))
        targets = torch.arange(first, items.shape[1], device=items.device)
    return items, Candidates(
        log_p=log_q,
        counts=counts,
        targets=targets,
        row_user=batch.row_user,
        history_offsets=batch.history_offsets,
        history=batch.history,
    )
