"""Which weights a module has, as one digest."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_digest(model: nn.Module, *extra: str) -> str:
    """sha256 of parameters, buffers and `extra`, such as the preprocessing.

    Names are left out: transformers renames parameters between releases, their values stay.
    """
    tensors = sorted(
        hashlib.sha256(
            # As bytes: NumPy has no bfloat16.
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        ).digest()
        for tensor in model.state_dict().values()
    )
    return hashlib.sha256(b"".join(tensors) + "\n".join(extra).encode()).hexdigest()
