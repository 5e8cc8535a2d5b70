"""Checks that several operators make."""

from __future__ import annotations

import torch
from torch import Tensor


def check_dropout(op: str, p: float, seed: Tensor | None, device: torch.device) -> None:
    """Raise unless 0 <= p < 1 and, where p > 0, seed is an int64 tensor [1] or [2] on `device`."""
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{op}: dropout must be in [0, 1), got {p}")
    if p == 0.0:
        return
    if seed is None:
        raise ValueError(f"{op}: dropout={p} needs a seed: an int64 tensor [1] or [2] on {device}")
    if seed.dtype != torch.int64 or tuple(seed.shape) not in ((1,), (2,)) or seed.device != device:
        raise ValueError(
            f"{op}: seed must be an int64 tensor [1] or [2] on {device}, got {seed.dtype} "
            f"{list(seed.shape)} on {seed.device}"
        )


def check_groups(op: str, groups: int, count: int, what: str) -> None:
    """Raise unless `count` of `what` form `groups` >= 1 equal groups."""
    if groups < 1 or count % groups:
        raise ValueError(
            f"{op}: groups={groups} cannot be equal parts of {count} {what}; "
            "pass the number of branches that lie one after the other"
        )


def check_floating(op: str, name: str, x: Tensor) -> None:
    """Raise unless x has a floating dtype and holds values."""
    if not x.dtype.is_floating_point:
        raise ValueError(f"{op}: {name} must be a floating tensor, got {x.dtype}")
    check_holds_values(op, name, x)


def check_holds_values(op: str, name: str, x: Tensor) -> None:
    """Raise for a meta tensor: what is computed from it would be uninitialised memory."""
    if x.device.type == "meta":
        raise ValueError(
            f"{op}: {name} is a meta tensor {list(x.shape)}, which holds no values; load or "
            "initialise it on a device first"
        )


def check_alike(op: str, name: str, x: Tensor, of: str, other: Tensor) -> None:
    """Raise unless x has the dtype and the device of `other`, which is called `of`."""
    if x.dtype != other.dtype or x.device != other.device:
        raise ValueError(
            f"{op}: {name} must be {other.dtype} on {other.device} like {of}, got {x.dtype} on "
            f"{x.device}"
        )
