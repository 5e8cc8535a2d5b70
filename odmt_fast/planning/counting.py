"""Runs a training step without computing it, and counts what it would hold and do.

The code of the step itself runs: the model, its operators, autograd, the optimiser. Whole numbers
(lengths, indices) are computed. Tensors of floats are made, so that the allocator sees what it
would see, and never written, so that no page of them comes to be: an operator of torch hands out
tensors of the shapes it would return, and the compiled extension is not called
(`odmt_fast.kernels.launch.dry`).
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# The extension point that torch's notes on extending it name.
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from odmt_fast.kernels.launch.dry import dry
from odmt_fast.kernels.linear import libraries

_EMPTY = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"}
_VIEWS_UNSAID = {"_unsafe_view", "_reshape_alias"}
# Sizes of the factors by the place of the first; torch calls what comes before them the summand.
_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "_addmm_activation": 1}


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What the operators within it would do.

    Attributes:
        live: bytes of the tensors made here that are alive.
        peak: the most that was alive at a time.
        made: bytes of all tensors made, the measure of what is read and written.
        flop: of matrix products.
        calls: of operators that do work, and of the extension.
        names: how many of each.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.made = self.calls = 0
        self.flop = 0.0
        self.names: Counter[str] = Counter()

    def reset(self) -> None:
        """Begins to count anew; what is alive stays so."""
        self.peak, self.made, self.calls, self.flop = self.live, 0, 0, 0.0
        self.names.clear()

    def told(self, name: str) -> None:
        """Notes a call of the extension."""
        self.calls += 1
        self.names[name] += 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        if name in _EMPTY:
            return self._kept(func(*args, **kwargs))
        if name in _VIEWS_UNSAID or is_view(func):
            return func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if not _of_floats(name, tensors, args, kwargs):
            return self._kept(func(*args, **kwargs))
        self.told(name)
        self.flop += product_flop(name, args)
        return self._stood_in(func, name, args, kwargs)

    def _stood_in(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """What `func` returns, of its shapes."""
        if name == "_local_scalar_dense":
            return 1.0
        if name == "to_mkldnn":  # a tensor of oneDNN's own, as large
            return self._kept(torch.empty_like(args[0]))
        if name == "mkldnn_linear_backward_weights":
            return self._kept((torch.empty_like(args[2]), args[2].new_empty(0)))
        if targets := _targets(func, args, kwargs):
            returns = len(func._schema.returns)
            return None if returns == 0 else targets[0] if returns == 1 else tuple(targets)
        made = func(
            *tree_map(_shape, args), **tree_map(_shape, {**kwargs, **_on_meta(func, kwargs)})
        )
        return self._kept(tree_map(_unwritten, made))

    def _kept(self, made: Any) -> Any:
        for x in tree_leaves(made):
            if isinstance(x, Tensor):
                self._add(x)
        return made

    def _add(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        size = storage.nbytes()
        self.made += size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


def is_view(func: Any) -> bool:
    """Whether an operator of torch returns nothing but views of its arguments."""
    returned = [value.alias_info for value in func._schema.returns]
    return bool(returned) and all(x is not None and not x.is_write for x in returned)


def _of_floats(name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> bool:
    """Whether an operator reads tensors of floats or, where it reads none, makes one."""
    if tensors:
        return any(x.is_floating_point() for x in tensors)
    dtype = kwargs.get("dtype")
    if dtype is None and name in ("arange", "full", "scalar_tensor"):
        return any(isinstance(x, float) for x in tree_leaves(args))
    return dtype is None or bool(dtype.is_floating_point)


def _on_meta(func: Any, kwargs: Any) -> dict[str, Any]:
    takes = any(argument.name == "device" for argument in func._schema.arguments)
    return {"device": torch.device("meta"), "pin_memory": None} if takes else {}


def _targets(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """The arguments that an operator writes into."""
    arguments = func._schema.arguments
    values = dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
    written = [a.name for a in arguments if a.alias_info and a.alias_info.is_write]
    return [values[name] for name in written if name in values]


def _shape(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")


def _unwritten(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if x.is_floating_point():
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    return torch.zeros(x.shape, dtype=x.dtype)


def product_flop(name: str, args: tuple[Any, ...]) -> float:
    """FLOP of an operator of torch that is a matrix product; 0 of everything else."""
    if name == "_linear_pointwise":
        return 2.0 * math.prod(args[0].shape) * args[1].shape[0]
    if name == "mkldnn_linear_backward_weights":
        return 2.0 * math.prod(args[0].shape) * args[1].shape[-1]
    name = name.rstrip("_")  # what is added to in place
    if name not in _PRODUCTS:
        return 0.0
    left, right = args[_PRODUCTS[name] :][:2]
    return 2.0 * math.prod(left.shape) * right.shape[-1]


@contextmanager
def counting() -> Iterator[Counting]:
    """Within it nothing is computed; what times or tries products first is asked before."""
    libraries.current()
    found = Counting()
    with dry(found.told), found:
        yield found
