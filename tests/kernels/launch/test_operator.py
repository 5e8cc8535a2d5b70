"""What an `Operator` promises, on two at their smallest: one with gradients, one without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.launch.operator import Operator, Tensors

seen: list[tuple[str, bool | str]] = []
"""What the backward was given: whether the spare, and the backend."""


def _forward(a: Tensor, b: Tensor, seed: Tensor | None, power: int, backend: str) -> Tensors:
    raised = a**power
    return raised * b, raised + b, raised, raised.clone()


def _backward(
    g_product: Tensor,
    g_sum: Tensor,
    a: Tensor,
    b: Tensor,
    raised: Tensor,
    spare: Tensor | None,
    power: int,
    backend: str,
) -> Tensors:
    seen.append((backend, spare is not None))
    d_raised = g_product * b + g_sum
    if spare is not None:
        spare.fill_(torch.nan)
    both = torch.stack([d_raised * power * a ** (power - 1), g_product * raised + g_sum])
    return both[0], both[1]  # one piece of memory: a custom op has to be given two


def _like(a: Tensor, *_: object) -> Tensors:
    return torch.empty_like(a), torch.empty_like(a), torch.empty_like(a)


several = Operator(
    name="test_several",
    signature="Tensor a, Tensor b, Tensor? seed, int power, str backend",
    forward=_forward,
    like=_like,
    results=2,
    gradients=2,
    backward=_backward,
    backward_like=lambda g, *_: (torch.empty_like(g), torch.empty_like(g)),
    keeps=(0, 1),
    extras=1,
    spare=True,
)
largest = Operator(
    name="test_largest",
    signature="Tensor scores, int k",
    forward=lambda scores, k: tuple(scores.topk(k)),
    like=lambda scores, k: (
        scores.new_empty(*scores.shape[:-1], k),
        scores.new_empty(*scores.shape[:-1], k, dtype=torch.int64),
    ),
    results=2,
)


def leaves() -> tuple[Tensor, Tensor]:
    a, b = torch.linspace(-1, 2, 12, dtype=torch.float64).view(2, 2, 3)
    return a.clone().requires_grad_(), b.clone().requires_grad_()


def in_graph(function: Callable[..., object]) -> Callable[..., object]:
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def test_gradients_of_several_results() -> None:
    assert torch.autograd.gradcheck(lambda a, b: several(a, b, None, 3, "x"), leaves())


def test_a_graph_equals_eager_mode() -> None:
    outcomes = []
    for run in (several, in_graph(lambda *arguments: several(*arguments))):
        a, b = leaves()
        product, total = run(a, b, None, 3, "x")  # type: ignore[misc]
        outcomes.append((product, total, *torch.autograd.grad((product + 2 * total).sum(), (a, b))))
    for eager, graph in zip(*outcomes, strict=True):
        assert torch.equal(eager, graph)


def test_the_spare_is_given_once_and_the_backend_always() -> None:
    seen.clear()
    a, b = leaves()
    product, _ = several(a, b, None, 3, "there")
    first, second = (torch.autograd.grad(product.sum(), a, retain_graph=True) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert seen == [("there", True), ("there", False)]


def test_an_unused_result_has_no_part_in_the_gradient() -> None:
    a, b = leaves()
    _, total = several(a, b, None, 2, "x")
    d_a, d_b = torch.autograd.grad(total.sum(), (a, b))
    assert torch.equal(d_a, 2 * a) and torch.equal(d_b, torch.ones_like(b))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_without_gradients_nothing_is_kept(compiled: bool) -> None:
    def function(scores: Tensor) -> Tensors:
        return largest(scores, 2)

    scores = torch.tensor([[3.0, 1.0, 2.0]], requires_grad=True)
    values, places = (in_graph(function) if compiled else function)(scores)  # type: ignore[misc]
    assert values.tolist() == [[3.0, 2.0]] and places.tolist() == [[0, 2]]
    assert not values.requires_grad


def test_opcheck() -> None:
    seed = torch.tensor([1])
    torch.library.opcheck(torch.ops.odmt_fast.test_several.default, (*leaves(), seed, 3, "x"))
    torch.library.opcheck(torch.ops.odmt_fast.test_largest.default, (torch.randn(3, 5), 2))
