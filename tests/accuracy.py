"""The accuracy rule of every operator: at most twice the error of the eager reference.

The eager error of one problem may be next to nothing by luck: a few roundings that cancel, or none.
So it is taken as the worst over the problem itself and some whose inputs differ by a few units in
the last place, each against its own float64 result; these are only computed where the error of the
problem itself does not do. Besides, a result may be off by one rounding of
its tensor's largest value to its dtype. Errors are the largest of a tensor unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import torch
from torch import Tensor

NUDGES = 16

Measure = Callable[[Tensor], Tensor]
Run = Callable[[Callable[..., Tensor], list[Tensor], torch.dtype], list[Tensor]]


def largest(x: Tensor) -> Tensor:
    """The largest absolute value; 0 of no values."""
    return x.abs().max() if x.numel() else x.new_zeros(())


def nudged(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """x moved by a few units in the last place of `dtype`, and rounded to it."""
    steps = 4 * torch.finfo(dtype).eps * torch.randn(x.shape, generator=generator)
    return (x.double() * (1 + steps)).to(dtype)


def error(got: Tensor, exact: Tensor, measure: Measure = largest) -> float:
    """Of a result against the float64 one."""
    return float(measure((got.double() - exact).detach()))


def assert_within(
    name: str,
    got: Tensor,
    exact: Tensor,
    eager: Iterable[float],
    *,
    floor: float | None = None,
    measure: Measure = largest,
) -> None:
    """`got` is finite and no further from `exact` than twice the worst of the eager errors.

    Args:
        name: of the tensor, for the message.
        got: the result.
        exact: its float64 value.
        eager: errors of the eager reference in the dtype of `got`, see `error`; no more are drawn
            than are needed.
        floor: added to the allowance; None is half a unit in the last place of the size of `exact`.
        measure: the size of a tensor or of an error.
    """
    assert got.shape == exact.shape, f"{name} is {list(got.shape)}, should be {list(exact.shape)}"
    assert bool(torch.isfinite(got).all()), f"{name} is not finite"
    if floor is None:
        floor = torch.finfo(got.dtype).eps / 2 * float(measure(exact.detach()))
    found, allowed = error(got, exact, measure), floor
    for each in eager:
        allowed = max(allowed, 2 * each + floor)
        if found <= allowed:
            return
    raise AssertionError(f"{name}: error {found:.3g}, allowed {allowed:.3g}")


def assert_no_worse(
    names: Sequence[str],
    function: Callable[..., Tensor],
    reference: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    dtype: torch.dtype,
    run: Run,
    *,
    measure: Measure = largest,
) -> None:
    """The rule for a function of float tensors, its result and gradients.

    Args:
        names: of what `run` returns.
        function: under test.
        reference: the law.
        tensors: float64, representable in `dtype`.
        dtype: computed in.
        run: (function, tensors, dtype) -> result and gradients, see the fixture `with_gradients`.
        measure: see `assert_within`.
    """
    generator = torch.Generator().manual_seed(3)
    problems = [list(tensors)]
    for _ in range(NUDGES):
        problems.append([nudged(t, dtype, generator).double() for t in tensors])

    @cache
    def exact(which: int) -> list[Tensor]:
        return run(reference, problems[which], torch.float64)

    @cache
    def eager(which: int) -> list[Tensor]:
        return run(reference, problems[which], dtype)

    for i, (name, got) in enumerate(zip(names, run(function, problems[0], dtype), strict=False)):
        assert got.dtype == dtype, name
        errors = (error(eager(n)[i], exact(n)[i], measure) for n in range(len(problems)))
        assert_within(name, got, exact(0)[i], errors, measure=measure)
