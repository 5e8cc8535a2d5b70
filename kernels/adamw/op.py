"""adamw: checks and backend choice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from odmt_fast.kernels.adamw.configs import REVIEWED
from odmt_fast.kernels.adamw.reference import adamw_reference
from odmt_fast.kernels.adamw.tables import Entry, Tables
from odmt_fast.kernels.launch.backends import choose_backend

OP = "adamw"
COPIES = (torch.bfloat16, torch.float16)


@torch.no_grad()
def adamw(
    entries: Sequence[Entry],
    steps: Tensor,
    settings: Tensor,
    *,
    clip_norm: float,
    tables: Tables,
    found_inf: Tensor | None = None,
) -> Tensor:
    """Clips the norm of all gradients together and makes a step of AdamW, in place.

    Args:
        entries: the P tensors; the Triton kernels take float32.
        steps: [P] float32, how many steps each has made; one more where there is a gradient.
        settings: [G, 5] float64: lr, beta1, beta2, eps, weight decay of each group.
        clip_norm: largest 2-norm of all gradients together; infinity does not clip.
        tables: of this optimiser, from step to step.
        found_inf: float32 [1] or []; unless it is 0, nothing changes but the result.

    Returns:
        The norm before clipping, [] in the dtype of `steps`. The gradients keep their values.

    Raises:
        ValueError: shapes, dtypes, devices or strides that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: torch.nn.utils.clip_grad_norm_ and torch.optim.AdamW, in this order, as in the official
    ``main.py::train``.
    """
    _check(entries, steps, settings)
    first = entries[0].weight
    if choose_backend(OP, first.device.type, first.dtype) == "reference":
        return adamw_reference(entries, steps, settings, clip_norm, found_inf)
    from odmt_fast.kernels.adamw.passes import adamw_passes

    addresses, aligned = tables.addresses(entries)
    places = tables.layout(entries, REVIEWED.block)
    copies = [entry.copy for entry in entries if entry.copy is not None]
    copy = copies[0].dtype if copies else torch.bfloat16
    norm = adamw_passes(addresses, aligned, places, steps, settings, clip_norm, found_inf, copy)
    # Autograd counts what torch writes, to refuse a backward through values that are gone.
    torch.autograd.graph.increment_version([*(entry.weight for entry in entries), *copies])
    return norm


def runs_fast(weights: Sequence[Tensor]) -> bool:
    """Whether the kernels serve these weights: float32, contiguous, on one CUDA device."""
    first = weights[0]
    return (
        first.device.type == "cuda"
        and all(
            w.device == first.device and w.dtype == torch.float32 and w.is_contiguous()
            for w in weights
        )
        and choose_backend(OP, "cuda", torch.float32) == "triton"
    )


def _check(entries: Sequence[Entry], steps: Tensor, settings: Tensor) -> None:
    if not entries:
        raise ValueError(f"{OP}: entries must be at least one tensor, got none")
    if steps.shape != (len(entries),):
        raise ValueError(f"{OP}: steps must be [{len(entries)}], got {list(steps.shape)}")
    if settings.dim() != 2 or settings.shape[1] != 5 or settings.dtype != torch.float64:
        raise ValueError(
            f"{OP}: settings must be torch.float64 [G, 5], got {settings.dtype} "
            f"{list(settings.shape)}"
        )
    like = entries[0].weight
    copies = {entry.copy.dtype for entry in entries if entry.copy is not None}
    if len(copies) > 1:
        raise ValueError(f"{OP}: the copies must have one dtype, got {sorted(map(str, copies))}")
    for i, entry in enumerate(entries):
        weight = entry.weight
        if not 0 <= entry.group < settings.shape[0]:
            raise ValueError(
                f"{OP}: entries[{i}].group must be in 0..{settings.shape[0] - 1}, got {entry.group}"
            )
        for name in ("weight", "gradient", "exp_avg", "exp_avg_sq", "copy"):
            tensor = getattr(entry, name)
            if tensor is None and name in ("gradient", "copy"):
                continue
            known = COPIES if name == "copy" else (like.dtype,)
            if (
                tensor.shape != weight.shape
                or tensor.dtype not in known
                or tensor.device != like.device
                or not tensor.is_contiguous()
            ):
                raise ValueError(
                    f"{OP}: entries[{i}].{name} must be {' or '.join(map(str, known))} "
                    f"{list(weight.shape)} on {like.device}, contiguous, got {tensor.dtype} "
                    f"{list(tensor.shape)} on {tensor.device}, strides {list(tensor.stride())}"
                )
    for name, tensor in (("steps", steps), ("settings", settings)):
        if tensor.device != like.device:
            raise ValueError(f"{OP}: {name} is on {tensor.device}, the weights on {like.device}")
