"""How much of the fused item vector is the ID's."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.features.tokens import device_of
from odmt_fast.models import SequentialModel

ITEMS = 256
"""At most this many items are looked at, spread over the catalogue."""


@torch.no_grad()
def id_share(model: SequentialModel) -> float | None:
    """The share of the fused vector's variation that follows the ID, in 0..1.

    Items swap their IDs while they keep their features, then their features while they keep their
    IDs. With V the mean squared change of the first branch's vector, the share is
    ``V_id / (V_id + V_features)``: 0.5 where both say as much, 1 where the features say nothing.
    Any encoder that mixes the two can be asked, for it reads vectors only.

    Args:
        model: its dropout is off, whatever mode it is in.

    Returns:
        None where the first branch reads no features, or no ID.
    """
    if not model.items.modalities or model.n_items < 2:
        return None
    device = model.log_p.device
    items = some_items(model)
    others = items.roll(len(items) // 2)
    own, swapped = (
        tuple(source.gather(ids.to(device_of(source))).to(device) for source in model.sources)
        for ids in (items, others)
    )
    vectors = model.encode_items(items, own)[0].double()
    by_id = float((model.encode_items(others, own)[0].double() - vectors).square().mean())
    by_features = float((model.encode_items(items, swapped)[0].double() - vectors).square().mean())
    return by_id / (by_id + by_features) if by_id > 0 and by_features > 0 else None


def some_items(model: SequentialModel) -> Tensor:
    """int64 [at most `ITEMS`] items on the model's device, spread over the catalogue."""
    n = min(ITEMS, model.n_items)
    steps = torch.arange(n, device=model.log_p.device)
    return 1 + steps * (model.n_items - 1) // max(1, n - 1)
