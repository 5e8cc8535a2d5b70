"""Every operator on nothing, on one element and on tensors of a kind that it does not take.

One table of problems; each either has the answer of the float64 reference, in the documented type
and with gradients, or is refused by a ValueError that names the operator and the argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.kernels.debiased_logits import Candidates, debiased_logits
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.feed_forward import feed_forward
from odmt_fast.kernels.linear import linear
from odmt_fast.kernels.packed_attention import packed_attention
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.residual_norm import residual_norm

# "fastest" is the C++ code, in Triton's interpreter the Triton kernels.
BACKENDS = (
    "reference",
    "fastest",
    pytest.param("fastest", marks=pytest.mark.interpreter, id="triton"),
)
SEED = torch.tensor([7])


@dataclass(frozen=True)
class Problem:
    """A call of an operator: float64 tensors are cast to the dtype tried, and have gradients."""

    op: str
    call: Callable[..., Tensor]
    tensors: dict[str, Tensor]
    constants: tuple[str, ...] = ()  # floating, without a gradient

    def run(
        self, dtype: torch.dtype, lay: Callable[[Tensor], Tensor] = lambda x: x
    ) -> list[Tensor]:
        """The result and the gradients, as `dtype` gives them."""
        inputs = {
            name: lay(x.to(dtype, copy=True)).requires_grad_(name not in self.constants)
            if x.is_floating_point()
            else x
            for name, x in self.tensors.items()
        }
        y = self.call(**inputs)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype))
        return [y, *(x.grad for x in inputs.values() if x.requires_grad)]  # type: ignore[misc]


def normal(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def offsets(*lengths: int) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def of_linear(groups: int | None, rows: int, a: int, b: int) -> Problem:
    g = () if groups is None else (groups,)
    tensors = {"x": normal(rows, a), "weight": normal(*g, b, a), "bias": normal(*g, b)}
    return Problem("linear", linear, tensors)


def of_feed_forward(groups: int | None, rows: int, d: int, h: int) -> Problem:
    g = () if groups is None else (groups,)
    tensors = {"x": normal(rows, d), "up": normal(*g, h, d), "up_bias": normal(*g, h)}
    tensors |= {"down": normal(*g, d, h), "down_bias": normal(*g, d)}
    return Problem("feed_forward", feed_forward, tensors)


def of_dropout(*shape: int) -> Problem:
    return Problem(
        "dropout", lambda x, seed: dropout(x, 0.5, seed), {"x": normal(*shape), "seed": SEED}
    )


def of_residual_norm(groups: int | None, rows: int, d: int) -> Problem:
    g = () if groups is None else (groups,)
    tensors = {"x": normal(rows, d), "residual": normal(rows, d).flip(0)}
    tensors |= {"weight": normal(*g, d), "bias": normal(*g, d), "seed": SEED}

    def call(**tensors: Any) -> Tensor:
        return residual_norm(**tensors, eps=1e-6, dropout=0.25)

    return Problem("residual_norm", call, tensors)


def of_packed_attention(heads: int, d: int, *lengths: int) -> Problem:
    shape = (sum(lengths), heads, d)
    tensors = {"q": normal(*shape), "k": normal(*shape).flip(0), "v": normal(*shape) + 1}
    tensors |= {"cu_seqlens": offsets(*lengths), "seed": SEED}

    def call(**tensors: Any) -> Tensor:
        longest = max(lengths, default=0)
        return packed_attention(
            **tensors, max_seqlen=longest, mask="causal", scale=0.3, dropout=0.25
        )

    return Problem("packed_attention", call, tensors)


def of_readout_attention(readouts: int, heads: int, d: int, *lengths: int) -> Problem:
    tensors = {
        "queries": normal(len(lengths), readouts, heads, d),
        "hidden": normal(sum(lengths), d),
    }
    tensors |= {"cu_seqlens": offsets(*lengths), "seed": SEED}

    def call(**tensors: Any) -> Tensor:
        longest = max(lengths, default=0)
        return readout_attention(
            **tensors, max_seqlen=longest, mask="symmetric", scale=0.3, dropout=0.25
        )

    return Problem("readout_attention", call, tensors)


def of_loss(op: str, branches: int, rows: int, items: int, d: int, users: int) -> Problem:
    tensors = {
        "queries": normal(branches, rows, d),
        "items": normal(branches, items, d),
        "log_p": normal(items).abs().neg(),
        "counts": torch.ones(items, dtype=torch.int32),
        "targets": torch.arange(rows) % max(items, 1),
        "row_user": torch.zeros(rows, dtype=torch.int32),
        "history_offsets": torch.zeros(users + 1, dtype=torch.int32),
        "history": torch.zeros(0, dtype=torch.int32),
    }

    def call(queries: Tensor, items: Tensor, **candidates: Any) -> Tensor:
        if op == "debiased_logits":
            return debiased_logits(queries, items, Candidates(**candidates))
        ce, kd = distilled_softmax(
            queries, items, Candidates(**candidates), tau=0.5, edges=[(0, ENSEMBLE), (0, 0)]
        )
        return torch.cat([ce, kd])

    return Problem(op, call, tensors, constants=("log_p",))


LOSSES = ("debiased_logits", "distilled_softmax")
SMALL = {
    "linear": of_linear(None, 4, 8, 16),
    "linear, groups": of_linear(2, 4, 8, 16),
    "feed_forward": of_feed_forward(None, 4, 8, 16),
    "dropout": of_dropout(4, 8),
    "residual_norm": of_residual_norm(2, 4, 8),
    "packed_attention": of_packed_attention(2, 16, 3, 1),
    "readout_attention": of_readout_attention(3, 2, 16, 3, 1),
} | {op: of_loss(op, 2, 3, 5, 16, 1) for op in LOSSES}
EDGES = {
    "linear, 0 rows": of_linear(None, 0, 8, 16),
    "linear, 0 rows of groups": of_linear(2, 0, 8, 16),
    "linear, nothing in": of_linear(None, 4, 0, 3),
    "linear, nothing in, groups": of_linear(2, 4, 0, 3),
    "linear, nothing out": of_linear(None, 4, 8, 0),
    "linear, nothing out, groups": of_linear(2, 4, 8, 0),
    "linear, nothing": of_linear(1, 0, 0, 0),
    "linear, one": of_linear(None, 1, 1, 1),
    "feed_forward, 0 rows": of_feed_forward(None, 0, 8, 16),
    "feed_forward, 0 rows of groups": of_feed_forward(2, 0, 8, 16),
    "feed_forward, width 0": of_feed_forward(None, 4, 0, 3),
    "feed_forward, width 0, groups": of_feed_forward(2, 4, 0, 3),
    "feed_forward, nothing hidden": of_feed_forward(None, 4, 8, 0),
    "feed_forward, nothing hidden, groups": of_feed_forward(2, 4, 8, 0),
    "feed_forward, one": of_feed_forward(None, 1, 1, 1),
    "dropout, nothing": of_dropout(0),
    "dropout, 0 rows": of_dropout(0, 8),
    "dropout, width 0": of_dropout(3, 0),
    "dropout, a scalar": of_dropout(),
    "dropout, one": of_dropout(1),
    "residual_norm, 0 rows": of_residual_norm(None, 0, 8),
    "residual_norm, 0 rows of groups": of_residual_norm(2, 0, 8),
    "residual_norm, one": of_residual_norm(None, 1, 1),
    "packed_attention, no segment": of_packed_attention(2, 16),
    "packed_attention, empty segments": of_packed_attention(2, 16, 0, 0),
    "packed_attention, an empty segment": of_packed_attention(2, 16, 0, 3, 0),
    "packed_attention, no head": of_packed_attention(0, 16, 3),
    "packed_attention, width 0": of_packed_attention(2, 0, 3),
    "packed_attention, one": of_packed_attention(1, 1, 1),
    "readout_attention, no segment": of_readout_attention(3, 2, 16),
    "readout_attention, empty segments": of_readout_attention(3, 2, 16, 0, 0),
    "readout_attention, an empty segment": of_readout_attention(3, 2, 16, 0, 3, 0),
    "readout_attention, no readout": of_readout_attention(0, 2, 16, 3),
    "readout_attention, no head": of_readout_attention(3, 0, 16, 3),
    "readout_attention, width 0": of_readout_attention(3, 2, 0, 3),
    "readout_attention, one": of_readout_attention(1, 1, 1, 1),
}
for _op in LOSSES:
    EDGES |= {
        f"{_op}, 0 rows": of_loss(_op, 2, 0, 5, 16, 1),
        f"{_op}, 0 users": of_loss(_op, 2, 0, 5, 16, 0),
        f"{_op}, 0 items": of_loss(_op, 2, 0, 0, 16, 0),
        f"{_op}, width 0": of_loss(_op, 2, 3, 5, 0, 1),
        f"{_op}, one": of_loss(_op, 1, 1, 1, 1, 1),
    }
WRONG_KINDS = {
    "meta": lambda x: x.to("meta"),
    "complex": lambda x: x.to(torch.complex64),
    "integer": lambda x: x.to(torch.int16),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-4, torch.bfloat16: 0.15}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODMT_FAST_BACKEND", "" if request.param == "fastest" else "reference")


@pytest.mark.usefixtures("backend", "poisoned_empty")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", EDGES)
def test_the_smallest_problems_have_the_answer_of_the_law(name: str, dtype: torch.dtype) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODMT_FAST_BACKEND", "reference")
        expected = EDGES[name].run(torch.float64)
    loss = EDGES[name].op in LOSSES
    for place, (got, want) in enumerate(zip(EDGES[name].run(dtype), expected, strict=True)):
        documented = torch.float32 if loss and place == 0 and dtype != torch.float64 else dtype
        assert got is not None and got.dtype == documented
        bound = TOLERANCES[dtype]
        torch.testing.assert_close(got.double(), want, rtol=bound, atol=bound)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", SMALL)
def test_strided_tensors_are_read_as_they_lie(name: str) -> None:
    def strided(x: Tensor) -> Tensor:
        return torch.stack([x, x + 1], dim=-1)[..., 0].detach()

    problem = SMALL[name]
    if problem.op.endswith("attention"):
        argument = next(iter(problem.tensors)) if "packed" in name else "hidden"
        with pytest.raises(ValueError, match=f"{problem.op}: the last axis of {argument} must be"):
            problem.run(torch.float32, strided)
        return
    for got, want in zip(
        problem.run(torch.float32, strided), problem.run(torch.float32), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("kind", WRONG_KINDS)
@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name in SMALL for argument in SMALL[name].tensors]
)
def test_another_kind_of_tensor_is_named(name: str, argument: str, kind: str) -> None:
    problem = SMALL[name]
    tensors = {key: x.float() if x.is_floating_point() else x for key, x in problem.tensors.items()}
    tensors[argument] = WRONG_KINDS[kind](tensors[argument])
    with pytest.raises(ValueError, match=rf"^{problem.op}: .*\b{argument}\b"):
        problem.call(**tensors)


@pytest.mark.parametrize("argument", ["item_ids", "lengths"])
@pytest.mark.parametrize("kind", WRONG_KINDS)
def test_batch_index_names_another_kind_of_tensor(argument: str, kind: str) -> None:
    tensors = {"item_ids": torch.tensor([3, 4, 3]), "lengths": torch.tensor([1, 2])}
    tensors[argument] = WRONG_KINDS[kind](tensors[argument])
    with pytest.raises(ValueError, match=f"^batch_index: {argument} must be"):
        batch_index(**tensors, max_seq_len=2)


@pytest.mark.usefixtures("backend")
def test_a_batch_of_no_user_is_empty() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    index = batch_index(nothing, nothing, 5)
    few = batch_index(torch.tensor([3, 4]), torch.tensor([2]), 5)._asdict()
    for name, value in index._asdict().items():
        if isinstance(value, Tensor):
            assert value.dtype == few[name].dtype
            assert value.tolist() in ([], [0]), name


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("make", [of_linear, of_feed_forward])
def test_no_group_is_refused(make: Callable[..., Problem]) -> None:
    problem = make(0, 0, 8, 16)
    with pytest.raises(ValueError, match=f"^{problem.op}: x must have a multiple of 0 rows"):
        problem.run(torch.float32)
