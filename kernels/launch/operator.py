"""An operator as torch sees it: in eager mode, under torch.compile, with gradients of its own.

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
    """Call it with the arguments of `signature`; it returns a tuple, the results of `forward`.

    Arguments have been checked. The backend was chosen by the caller and is one of the settings: a
    backward runs where its forward ran, and a graph where it was traced for.

    Attributes:
        name: of the custom op.
        signature: the arguments in torch's schema language, all tensors before all settings.
        forward: arguments -> (*results, *extras), and the spare where there is one.
        like: arguments -> empty tensors like the results and the extras.
        results: how many tensors the caller gets.
        gradients: how many of the first arguments have a gradient; 0 needs nothing of what follows.
        backward: (*gradients of the results, *kept tensors, *extras, the spare, *settings) ->
            gradients.
        backward_like: arguments of `backward` but the spare -> empty tensors like the gradients.
        keeps: places of the tensors that the backward wants back.
        extras: how many further tensors `forward` returns for the backward, new ones.
        spare: whether `forward` returns one more tensor, or None, which saves the backward work and
            which it may overwrite. A second backward gets None, and so does a graph's.
    """

    name: str
    signature: str
    forward: Callable[..., tuple[Any, ...]]
    like: Callable[..., Tensors]
    results: int = 1
    gradients: int = 0
    backward: Callable[..., Tensors] | None = None
    backward_like: Callable[..., Tensors] | None = None
    keeps: tuple[int, ...] = ()
    extras: int = 0
    spare: bool = False

    def __post_init__(self) -> None:
        arguments = self.signature.split(", ")
        n_tensors = sum(argument.startswith("Tensor") for argument in arguments)
        object.__setattr__(self, "_tensors", n_tensors)
        object.__setattr__(self, "_no_gradient", (None,) * (len(arguments) - self.gradients))
        _register(self, arguments[:n_tensors], arguments[n_tensors:])

    _tensors = 0
    _no_gradient: tuple[None, ...] = ()

    def __call__(self, *arguments: Any) -> Tensors:
        """The results of `forward`, with their gradients."""
        if torch.compiler.is_compiling():
            return _tuple(getattr(torch.ops.odmt_fast, self.name)(*arguments))[: self.results]
        if self.gradients:
            made: Tensors = _Eager.apply(self, *arguments)  # type: ignore[no-untyped-call]
            return made
        with torch.no_grad():
            return self.forward(*arguments)

    def kept(self, arguments: Sequence[Any], extras: Tensors) -> Tensors:
        """What is saved for the backward."""
        return (*(arguments[i] for i in self.keeps), *extras)

    def settings(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """The arguments that are no tensors."""
        return arguments[self._tensors :]

    def padded(self, gradients: Tensors) -> tuple[Tensor | None, ...]:
        """Gradients of all arguments."""
        return (*gradients, *self._no_gradient)


class _Eager(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operator: Operator, *arguments: Any) -> Tensors:
        made = operator.forward(*arguments)
        made, ctx.spare = (made[:-1], made[-1:]) if operator.spare else (made, ())
        results, extras = made[: operator.results], made[operator.results :]
        ctx.save_for_backward(*operator.kept(arguments, extras))
        ctx.operator, ctx.settings = operator, operator.settings(arguments)
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        operator: Operator = ctx.operator
        assert operator.backward is not None
        spare, ctx.spare = ctx.spare, (None,) * len(ctx.spare)
        made = operator.backward(*grads, *ctx.saved_tensors, *spare, *ctx.settings)
        return None, *operator.padded(made)


def _register(operator: Operator, tensors: list[str], settings: list[str]) -> None:
    """Makes the custom ops of `operator`."""

    def graph_op(
        suffix: str,
        arguments: list[str],
        outputs: int,
        function: Callable[..., Tensors],
        like: Callable[..., Tensors],
    ) -> torch.library.CustomOpDef:
        def unpacked(made: Tensors) -> Tensor | Tensors:
            return made if outputs > 1 else made[0]

        op = torch.library.custom_op(
            f"odmt_fast::{operator.name}{suffix}",
            lambda *arguments: unpacked(_apart(function(*arguments)[:outputs])),
            mutates_args=(),
            schema=f"({', '.join(arguments)}) -> ({', '.join(['Tensor'] * outputs)})",
        )
        op.register_fake(lambda *arguments: unpacked(like(*arguments)))
        return op

    made = operator.results + operator.extras
    forward = graph_op("", [*tensors, *settings], made, operator.forward, operator.like)
    if operator.backward is None or operator.backward_like is None:
        forward.register_autograd(
            lambda *_: operator.padded(()),
            setup_context=lambda ctx, inputs, output: ctx.mark_non_differentiable(*_tuple(output)),
        )
        return
    function, no_spare = operator.backward, (None,) * operator.spare
    given = [f"Tensor grad_{i}" for i in range(operator.results)]
    given += [tensors[i] for i in operator.keeps]
    given += [f"Tensor extra_{i}" for i in range(operator.extras)]
    backward = graph_op(
        "_backward",
        [*given, *settings],
        operator.gradients,
        lambda *a: function(*a[: len(given)], *no_spare, *a[len(given) :]),
        operator.backward_like,
    )

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | Tensors) -> None:
        extras = _tuple(output)[operator.results :]
        ctx.mark_non_differentiable(*extras)
        ctx.save_for_backward(*operator.kept(inputs, extras))
        ctx.settings = operator.settings(inputs)

    def gradient(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        made = backward(*grads[: operator.results], *ctx.saved_tensors, *ctx.settings)
        return operator.padded(_tuple(made))

    forward.register_autograd(gradient, setup_context=setup_context)


def _tuple(made: Tensor | Sequence[Tensor]) -> Tensors:
    return (made,) if isinstance(made, Tensor) else tuple(made)


def _apart(tensors: Tensors) -> Tensors:
    """Two results of an op may not share memory."""
    taken: set[int] = set()
    made = []
    for x in tensors:
        address = x.untyped_storage().data_ptr()
        made.append(x.clone() if address in taken else x)
        taken.add(address)
    return tuple(made)
