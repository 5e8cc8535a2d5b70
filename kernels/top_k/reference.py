"""Top-k, the law: score everything, leave out what does not count, sort.

Shapes    queries [B, D], items [n, D], any float dtype; row 0 of items is padding
Returns   ids int64 [B, k], -1 where fewer items count; scores [B, k], -inf there
Order     higher scores first, of equal scores the lower item
"""

from __future__ import annotations

import torch
from torch import Tensor


def top_k(
    queries: Tensor,
    items: Tensor,
    k: int,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best items of each user; arguments as in ``op.py``."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    scores = queries.to(dtype) @ items.to(dtype).t()
    users = torch.arange(queries.shape[0], device=queries.device)
    scores[users.repeat_interleave(history_offsets.diff()), history.long()] = -torch.inf
    if allowed is not None:
        scores[:, ~allowed] = -torch.inf
    scores[:, 0] = -torch.inf
    ids = torch.arange(items.shape[0], device=queries.device).expand_as(scores)
    return best(scores, ids, k)


def best(scores: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Ids and scores [B, k] of the k highest scores [B, m]; of equal ones the first is taken."""
    missing = max(0, k - scores.shape[1])
    scores = torch.nn.functional.pad(scores, (0, missing), value=-torch.inf)
    ids = torch.nn.functional.pad(ids, (0, missing), value=-1)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    scores, ids = scores[:, :k], ids.gather(1, order[:, :k])
    return ids.masked_fill(scores == -torch.inf, -1), scores.contiguous()
