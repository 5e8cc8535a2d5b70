"""A recorder for any device: the operators of a step one by one, and the same again in place.

What a CUDA graph does to a step, in the open: a number that was read on the host while recording
stays what it was, and only tensors change. So a step that repeats rightly on other values from a
tape has no such number, and one that reads a value on the host is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from odmt_fast.training.captured import Outcome

WAITS = {"_local_scalar_dense", "nonzero", "unique", "unique_consecutive", "_unique2", "equal"}
"""Operators whose result, or its shape, the host waits for."""


class Operators(TorchDispatchMode):
    """Every operator that ran within it: what, with what, and what came out."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        assert name not in WAITS, f"{name} waits for the device"
        assert name != "repeat_interleave" or (kwargs or {}).get("output_size") is not None
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made


class Tape:
    """Records a step as `Operators`; a view needs no repetition, an operator in place is one."""

    def __init__(self) -> None:
        self.recorded, self.repeated = 0, 0

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def record(self, work: Callable[[], Outcome]) -> tuple[Outcome, Callable[[], None]]:
        with Operators() as operators:
            outcome = work()
        self.recorded += 1

        @torch.no_grad()
        def repeat() -> None:
            self.repeated += 1
            for func, args, kwargs, made in operators.calls:
                if _is_view(func):
                    continue
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old is not new:
                        old.copy_(new)

        return outcome, repeat


def _is_view(func: Any) -> bool:
    returned = [value.alias_info for value in func._schema.returns]
    return bool(returned) and all(info is not None and not info.is_write for info in returned)
