"""The law of `adamw`: plain torch, any dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from odmt_fast.kernels.adamw.tables import Entry


def adamw_reference(
    entries: Sequence[Entry],
    steps: Tensor,
    settings: Tensor,
    clip_norm: float,
    found_inf: Tensor | None = None,
) -> Tensor:
    """See `adamw`; decides on the host, so it waits for the device."""
    present = [entry for entry in entries if entry.gradient is not None]
    gradients = [entry.gradient for entry in present if entry.gradient is not None]
    if not gradients:
        return steps.new_zeros(())
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    if found_inf is not None and float(found_inf) != 0.0:
        return norm
    factor = (clip_norm / (norm + 1e-6)).clamp(max=1.0)
    for entry, step in zip(entries, steps.unbind(), strict=True):
        if entry.gradient is None:
            continue
        lr, beta1, beta2, eps, weight_decay = settings[entry.group].tolist()
        gradient = entry.gradient * factor
        step += 1
        entry.weight.mul_(1 - lr * weight_decay)
        entry.exp_avg.lerp_(gradient, 1 - beta1)
        entry.exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        first, second = 1 - beta1 ** float(step), 1 - beta2 ** float(step)
        denominator = (entry.exp_avg_sq.sqrt() / second**0.5).add_(eps)
        entry.weight.addcdiv_(entry.exp_avg, denominator, value=-lr / first)
        if entry.copy is not None:
            entry.copy.copy_(entry.weight)
    return norm
