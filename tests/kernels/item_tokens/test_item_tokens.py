"""item_tokens: where tokens go, gradients by gradcheck, the checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from item_tokens_cases import Given, given
from torch import Tensor

from odmt_fast.kernels.item_tokens import item_tokens


@pytest.mark.parametrize("lengths", [((2, 1, 3), (1, 1, 4)), ((1,),), ((3, 1), (2, 2), (1, 5))])
def test_the_tokens_of_an_item_are_side_by_side_and_its_id_is_the_last(
    lengths: tuple[tuple[int, ...], ...],
) -> None:
    case = given(lengths, width=4, dims=(4,) * (len(lengths) + 1))
    eye, zero = torch.eye(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    x, cu_seqlens, readouts = item_tokens(
        case.values,
        case.lengths,
        (eye,) * len(case.values),
        (zero,) * len(case.values),
    )
    rest = [list(value) for value in case.values]
    row = 0
    for item in range(len(lengths[0])):
        assert int(cu_seqlens[item]) == row
        for modality, counts in enumerate((*lengths, (1,) * len(lengths[0]))):
            assert int(readouts[item, modality]) == row
            for _ in range(counts[item]):
                assert torch.equal(x[row], rest[modality].pop(0))
                row += 1
    assert int(cu_seqlens[-1]) == row == len(x)
    assert cu_seqlens.dtype == torch.int32 and readouts.dtype == torch.int64


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradcheck(p: float, seed: Tensor) -> None:
    case = given()
    leaves = [t.requires_grad_() for t in (*case.values, *case.weights, *case.biases)]

    def run(*tensors: Tensor) -> Tensor:
        return case.run(*tensors, p=p, seed=seed)

    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_no_items() -> None:
    case = given(((), ()))
    x, cu_seqlens, readouts = item_tokens(case.values, case.lengths, case.weights, case.biases)
    assert x.shape == (0, 8) and cu_seqlens.tolist() == [0] and readouts.shape == (0, 3)


WRONG: list[tuple[Callable[[Given], Given], str]] = [
    (lambda case: case._replace(lengths=case.lengths[:1]), "lengths those of the modalities"),
    (lambda case: case._replace(weights=case.weights[::-1]), r"weights\[0\]"),
    (lambda case: case._replace(biases=(case.biases[0][:-1], *case.biases[1:])), r"biases\[0\]"),
    (lambda case: case._replace(values=(case.values[0].float(), *case.values[1:])), r"values\[0\]"),
    (
        lambda case: case._replace(lengths=(case.lengths[0].int(), case.lengths[1])),
        r"lengths\[0\] must be torch.int64 \[3\]",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_wrong_arguments_are_named(change: Callable[[Given], Given], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        item_tokens(*change(given()))
    with pytest.raises(ValueError, match="needs a seed"):
        item_tokens(*given(), dropout=0.1)


def test_compiled(seed: Tensor) -> None:
    case = given()
    tensors = [t.float() for t in (*case.values, *case.weights, *case.biases)]

    def run(*tensors: Tensor) -> Tensor:
        return case.run(*tensors, p=0.3, seed=seed)

    results = []
    for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        leaves = [t.clone().requires_grad_() for t in tensors]
        made = function(*leaves)
        made.square().sum().backward()
        results.append([made.detach(), *(leaf.grad for leaf in leaves)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
