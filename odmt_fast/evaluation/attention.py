"""What the item Transformer reads: the attention of each branch on the tokens of each modality."""

from __future__ import annotations

import torch

from odmt_fast.evaluation.id_share import some_items
from odmt_fast.features.tokens import device_of
from odmt_fast.models import SequentialModel
from odmt_fast.models.items.imt import IMT


@torch.no_grad()
def attention_of_id(model: SequentialModel) -> dict[str, float]:
    """Branch -> the share of the ID token's attention, in the last layer, on its tokens.

    The ID token becomes the vector of the ID branch; what it reads of itself is what the IDs say
    alone. The shares are means over at most 256 items and all heads, and sum to 1. A token that is
    read much does not say much by that alone: `id_share` measures what the vector follows.

    Args:
        model: its dropout is off, whatever mode it is in.

    Returns:
        Empty where the items are not encoded by IMT, or read no features.
    """
    encoder = model.items
    if not isinstance(encoder, IMT) or not encoder.modalities:
        return {}
    items = some_items(model)
    features = tuple(
        source.gather(items.to(device_of(source))).to(items.device).gathered()
        for source in model.sources
    )
    shares = encoder.attention(items, features)[0].tolist()
    return dict(zip(encoder.branches, shares, strict=True))
