"""Identity 4: the loss on U distinct columns equals the official loss on every occurrence.

The official formulation is restated here: every slot of the padded batch [B, S + 1] is a column,
log p is subtracted, padding columns and columns whose item is in the user's sequence are set to
-1e4 except the row's own next slot, and the filled value takes part in the division by tau and in
the ensemble's mean.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from odmt_fast.kernels.distilled_softmax import ENSEMBLE, Candidates
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax

EDGES = ((1, 0), (2, 0), (0, ENSEMBLE))
BATCHES = {
    "ragged": [[3, 1, 4], [5, 9], [2, 6, 5, 3]],
    "repeats": [[7, 7, 2, 7], [2, 2], [7, 1, 7, 1], [2, 9, 2]],
    "one-user": [[4, 2, 8, 1]],
    "only-the-target-left": [[1, 2, 1, 2, 2]],
    "one-column": [[5, 5, 5]],
}


def official_loss(queries, occurrences, item_ids, log_p, tau, edges):
    """queries [K, B*S, d] and occurrences [K, B*(S+1), d] of all slots; item_ids [B, S+1]."""
    n_users, width = item_ids.shape
    flat = item_ids.reshape(-1)
    label = torch.arange(flat.numel()).reshape(n_users, width)[:, 1:].reshape(-1)
    own = torch.cat([item_ids, torch.zeros(n_users, 1, dtype=torch.long)], 1)
    own = (own[:, :, None] == flat).any(1).repeat_interleave(width - 1, 0)
    unused = own.scatter(1, label[:, None], False)
    valid = torch.where(item_ids[:, :-1].reshape(-1) != 0)
    z = queries @ occurrences.transpose(1, 2) - log_p
    z = z.masked_fill(flat == 0, -1e4).masked_fill(unused, -1e4)[:, valid[0]]
    label = label[valid]
    ce = torch.stack([F.cross_entropy(branch, label) for branch in z])
    kd = []
    for student, teacher in edges:
        taught_by = z.mean(0) if teacher == ENSEMBLE else z[teacher]
        p = F.softmax(taught_by / tau, -1)
        kd.append(tau**2 * -(p * F.log_softmax(z[student] / tau, -1)).sum(-1).mean())
    return ce, torch.stack(kd)


def distinct_columns(sequences, log_p_of):
    """Columns of the sequences, the distinct ids, and each slot's column; rows user-major."""
    ids, inverse, counts = np.unique(
        np.concatenate(sequences), return_inverse=True, return_counts=True
    )
    starts = np.cumsum([0] + [len(s) for s in sequences])
    occurrence = [inverse[a:b] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    histories = [np.unique(o) for o in occurrence]
    candidates = Candidates(
        log_p=log_p_of[ids],
        counts=torch.tensor(counts, dtype=torch.int32),
        targets=torch.tensor(np.concatenate([o[1:] for o in occurrence])),
        row_user=torch.tensor(
            np.repeat(np.arange(len(sequences)), [len(s) - 1 for s in sequences]),
            dtype=torch.int32,
        ),
        history_offsets=torch.tensor(
            np.cumsum([0] + [len(h) for h in histories]), dtype=torch.int32
        ),
        history=torch.tensor(np.concatenate(histories), dtype=torch.int32),
    )
    return candidates, ids, inverse


@pytest.mark.parametrize("tau", [0.1, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("batch", BATCHES)
def test_distinct_columns_equal_the_official_columns(batch, tau):
    sequences = BATCHES[batch]
    generator = torch.Generator().manual_seed(7)
    width, d, branches = 5, 6, 3
    item_ids = torch.tensor([[0] * (width - len(s)) + s for s in sequences])
    popularity = torch.rand(10, generator=generator, dtype=torch.float64)
    log_p_of = (popularity / popularity.sum()).log()
    candidates, ids, inverse = distinct_columns(sequences, log_p_of)

    rand = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    queries = rand(branches, len(sequences) * (width - 1), d).requires_grad_()
    items = rand(branches, len(ids), d).requires_grad_()
    filled = item_ids.reshape(-1) != 0
    occurrences = rand(branches, item_ids.numel(), d)  # padding slots hold anything
    occurrences[:, filled] = items.detach()[:, torch.tensor(inverse)]
    occurrences.requires_grad_()
    official_queries = queries.detach().clone().requires_grad_()

    want = official_loss(
        official_queries, occurrences, item_ids, log_p_of[item_ids.reshape(-1)], tau, EDGES
    )
    row_slots = torch.where(item_ids[:, :-1].reshape(-1) != 0)[0]
    got = distilled_softmax(queries[:, row_slots], items, candidates, tau=tau, edges=EDGES)
    for name, a, b in zip(("ce", "kd"), got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")

    upstream = rand(branches), rand(len(EDGES))
    torch.autograd.backward(got, upstream)
    torch.autograd.backward(want, upstream)
    torch.testing.assert_close(queries.grad, official_queries.grad, rtol=0, atol=1e-10)
    summed = torch.zeros_like(items).index_add_(
        1, torch.tensor(inverse), occurrences.grad[:, filled]
    )
    torch.testing.assert_close(items.grad, summed, rtol=0, atol=1e-10)
    assert not occurrences.grad[:, ~filled].any()


def test_excluded_columns_get_no_gradient():
    candidates, ids, _ = distinct_columns([[1, 2, 1, 2, 2]], torch.zeros(10, dtype=torch.float64))
    queries = torch.randn(3, 4, 6, dtype=torch.float64)
    items = torch.randn(3, len(ids), 6, dtype=torch.float64, requires_grad=True)
    ce, kd = distilled_softmax(queries, items, candidates, tau=0.5, edges=EDGES)
    (ce.sum() + kd.sum()).backward()
    assert not ce.any() and not kd.any() and not items.grad.any()
