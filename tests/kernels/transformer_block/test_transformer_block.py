"""The block and its readout: the law by gradcheck, the checks, and who may write the backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformer_block_cases import Case, Problem, problem

from odmt_fast.kernels.transformer_block import readout_block, transformer_block


@pytest.mark.parametrize(
    "case",
    [
        Case(groups=None, mask="asymmetric", p=0.2),
        Case(groups=2, mask="causal", p=0.2),
        Case(groups=None, mask="symmetric", p=0.0, readouts=2),
        Case(groups=None, mask="asymmetric", p=0.2, readouts=2),
    ],
    ids=str,
)
def test_gradcheck(case: Case) -> None:
    given = problem(case, width=8, hidden=8)
    leaves = [t.requires_grad_() for t in (given.x, *given.weights)]
    assert torch.autograd.gradcheck(given.run, leaves, fast_mode=True)


WRONG: list[tuple[Callable[[Problem], Problem], str]] = [
    (lambda given: given.changed(x=given.x[:, :-1]), "qkv"),
    (lambda given: given.changed(weights=given.weights._replace(up=given.weights.down)), "up"),
    (lambda given: given.changed(mask="causal_"), "mask must be one of"),
    (lambda given: given.changed(heads=3), "heads must divide"),
    (lambda given: given.changed(groups=2), "groups=2"),
    (lambda given: given.changed(dropout=(0.0, 1.0, 0.0)), "dropout must be in"),
    (lambda given: given.changed(cu_seqlens=given.cu_seqlens.long()), "cu_seqlens must be int32"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
@pytest.mark.parametrize("readouts", [0, 2])
def test_wrong_arguments_are_named(
    change: Callable[[Problem], Problem], message: str, readouts: int
) -> None:
    given = problem(Case(None, "asymmetric", 0.0, readouts))
    wrong = change(given)
    with pytest.raises(ValueError, match=message):
        wrong.run(wrong.x, *wrong.weights)


def test_readouts_belong_to_the_segments() -> None:
    given = problem(Case(None, "asymmetric", 0.0, 2))
    with pytest.raises(ValueError, match=r"readouts must be \[U, R\] for U=4 segments"):
        readout_block(
            given.x, given.cu_seqlens, given.readouts[:-1], given.weights, given.seeds, given.shape
        )


def test_no_rows() -> None:
    given = problem(Case(None, "asymmetric", 0.0))
    nothing = given.x[:0].requires_grad_()
    made = transformer_block(nothing, given.cu_seqlens[:1], given.weights, given.seeds, given.shape)
    made.sum().backward()
    assert made.shape == nothing.shape == nothing.grad.shape


@pytest.mark.parametrize("readouts", [0, 2])
def test_compiled(readouts: int) -> None:
    given = problem(Case(None, "asymmetric", 0.2, readouts))
    tensors = [t.float() for t in (given.x, *given.weights)]
    results = []
    for function in (given.run, torch.compile(given.run, fullgraph=True, backend="aot_eager")):
        leaves = [t.clone().requires_grad_() for t in tensors]
        made = function(*leaves)
        made.square().sum().backward()
        results.append([made.detach(), *(leaf.grad for leaf in leaves)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)
