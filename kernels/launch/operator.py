"""An operator with a gradient of its own, in eager mode and under torch.compile.

In eager mode an operator is a Python call and an autograd node: going through torch's dispatcher
would cost ten times as much. A graph sees two opaque custom ops, ``odmt_fast::<name>`` and
``odmt_fast::<name>_backward``, whose signatures follow from the operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Operator:
    """Call it with the arguments of `signature`; it returns the first result of `forward`.

    Attributes:
        name: of the custom op.
        signature: the arguments in torch's schema language, all tensors before all settings.
        gradients: how many of the first arguments have a gradient.
        keeps: places of the tensors that the backward wants back.
        extras: how many further tensors `forward` returns for the backward, new ones.
        forward: arguments -> (result, *extras).
        backward: (gradient of the result, *kept tensors, *extras, *settings) -> gradients.
        like: arguments -> empty tensors like those of `forward`.
        backward_like: arguments of `backward` -> empty tensors like the gradients.
    """

    name: str
    signature: str
    gradients: int
    keeps: tuple[int, ...]
    extras: int
    forward: Callable[..., Tensors]
    backward: Callable[..., Tensors]
    like: Callable[..., Tensors]
    backward_like: Callable[..., Tensors]

    def __post_init__(self) -> None:
        arguments = self.signature.split(", ")
        tensors = [argument for argument in arguments if argument.startswith("Tensor")]
        settings = arguments[len(tensors) :]
        kept = [tensors[i] for i in self.keeps] + [f"Tensor extra_{i}" for i in range(self.extras)]
        object.__setattr__(self, "_tensors", len(tensors))
        object.__setattr__(self, "_no_gradient", (None,) * (len(arguments) - self.gradients))
        _register(self, f"({self.signature})", f"({', '.join(['Tensor grad', *kept, *settings])})")

    _tensors = 0
    _no_gradient: tuple[None, ...] = ()

    def __call__(self, *arguments: Any) -> Tensor:
        """The result of `forward`, with its gradient."""
        if torch.compiler.is_compiling():
            return _first(getattr(torch.ops.odmt_fast, self.name)(*arguments))
        return _Eager.apply(self, *arguments)  # type: ignore[no-untyped-call]

    def kept(self, arguments: Sequence[Any], results: Tensors) -> Tensors:
        """What is saved for the backward."""
        return (*(arguments[i] for i in self.keeps), *results[1:])

    def settings(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """The arguments that are no tensors."""
        return arguments[self._tensors :]

    def padded(self, gradients: Tensors) -> tuple[Tensor | None, ...]:
        """Gradients of all arguments."""
        return (*gradients, *self._no_gradient)


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operator: Operator, *arguments: Any) -> Tensor:
        results = operator.forward(*arguments)
        ctx.save_for_backward(*operator.kept(arguments, results))
        ctx.operator, ctx.settings = operator, operator.settings(arguments)
        return results[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operator: Operator = ctx.operator
        gradients = operator.backward(grad, *ctx.saved_tensors, *ctx.settings)
        return None, *operator.padded(gradients)


def _register(operator: Operator, arguments: str, backward_arguments: str) -> None:
    """Makes the two custom ops of `operator`."""

    def graph_op(
        name: str, schema: str, results: int, function: Callable[..., Tensors]
    ) -> torch.library.CustomOpDef:
        def body(*arguments: Any) -> Tensor | Tensors:
            made = _apart(function(*arguments))
            return made if results > 1 else made[0]

        returned = ", ".join(["Tensor"] * results)
        return torch.library.custom_op(
            f"odmt_fast::{name}", body, mutates_args=(), schema=f"{schema} -> ({returned})"
        )

    def fake(function: Callable[..., Tensors]) -> Callable[..., Tensor | Tensors]:
        def made(*arguments: Any) -> Tensor | Tensors:
            tensors = function(*arguments)
            return tensors if len(tensors) > 1 else tensors[0]

        return made

    forward = graph_op(operator.name, arguments, 1 + operator.extras, operator.forward)
    forward.register_fake(fake(operator.like))
    backward = graph_op(
        f"{operator.name}_backward", backward_arguments, operator.gradients, operator.backward
    )
    backward.register_fake(fake(operator.backward_like))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | Tensors) -> None:
        results = output if isinstance(output, tuple) else (output,)
        ctx.mark_non_differentiable(*results[1:])
        ctx.save_for_backward(*operator.kept(inputs, results))
        ctx.settings = operator.settings(inputs)

    def gradient(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        made = backward(grad, *ctx.saved_tensors, *ctx.settings)
        return operator.padded(made if isinstance(made, tuple) else (made,))

    forward.register_autograd(gradient, setup_context=setup_context)


def _first(results: Tensor | Sequence[Tensor]) -> Tensor:
    return results if isinstance(results, Tensor) else results[0]


def _apart(tensors: Tensors) -> Tensors:
    """Two results of an op may not share memory."""
    taken: set[int] = set()
    made = []
    for x in tensors:
        address = x.untyped_storage().data_ptr()
        made.append(x.clone() if address in taken else x)
        taken.add(address)
    return tuple(made)
