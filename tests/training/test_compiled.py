"""A compiled step: few graphs for all batches and epochs, in the numbers of the eager one."""

from __future__ import annotations

import copy
import shutil
from itertools import islice

import pytest
import torch
from torch import Tensor, nn
from training.padded_run import batches, make

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.training.captured import capture_missing
from odmt_fast.training.compiled import CompiledModel, compiled

GRAPHS = []
STEPS = 4
"""Of an epoch."""


def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
    """torch's own backend without code generation, counted."""
    GRAPHS.append(graph)
    backend = torch._dynamo.lookup_backend("aot_eager")
    return backend(graph, inputs)


@pytest.fixture(autouse=True)
def _new_graphs() -> None:
    torch.compiler.reset()
    GRAPHS.clear()


def results(model: nn.Module, of: nn.Module, batch: Batch, epoch: int) -> dict[str, Tensor]:
    """Terms and gradients."""
    of.zero_grad(set_to_none=True)
    terms = model(batch, epoch)
    terms["loss"].backward()
    gradients = {name: p.grad for name, p in of.named_parameters() if p.grad is not None}
    return {**{name: term.detach() for name, term in terms.items()}, **gradients}


# A graph of ODMT takes many seconds to trace: one is compared.
@pytest.mark.parametrize(
    ("name", "dtype", "steps"), [("id", torch.float64, 2), ("odmt", torch.float32, 1)], ids=str
)
def test_few_graphs_give_the_numbers_of_eager_steps(
    name: str, dtype: torch.dtype, steps: int
) -> None:
    eager = make(name, user_layers=1).to(dtype).train()
    other = copy.deepcopy(eager)
    compare(eager, CompiledModel(other, backend=counting), other, steps)
    # With dummies and without, and perhaps one for sizes that were equal by chance.
    assert 1 <= len(GRAPHS) <= 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_the_code_of_inductor_gives_the_numbers_of_eager_steps() -> None:
    eager = make("id", user_layers=1).train()
    other = copy.deepcopy(eager)
    compare(eager, CompiledModel(other), other, steps=2)


def compare(eager: nn.Module, graph: nn.Module, of: nn.Module, steps: int) -> None:
    """Terms and gradients of the last steps of an epoch, the very last without dummies."""
    for batch, epoch in islice(batches(eager, epochs=1), STEPS - steps, None):
        expected = results(eager, eager, batch, epoch)
        got = results(graph, of, batch, epoch)
        assert list(got) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, msg=name)


@pytest.mark.parametrize(
    ("changes", "processes", "reason"),
    [
        ({"training.recompute": True}, 1, "training.recompute=True"),
        ({"training.micro_items": 8}, 1, "training.micro_items"),
        ({"training.float8": True}, 1, "training.float8=True"),
        ({"model.id_table": "sparse"}, 1, "model.id_table=sparse"),
        ({}, 2, "2 processes"),
    ],
    ids=str,
)
def test_what_does_not_go_with_it_is_refused(
    changes: dict[str, object], processes: int, reason: str
) -> None:
    config = Config().updated(changes)
    model = nn.Linear(2, 2)
    assert compiled(model, config, processes) is model
    with pytest.raises(ValueError, match=f"{reason}.*--set training.compile=false"):
        compiled(model, config.updated({"training.compile": True}), processes)


def test_compiled_steps_are_not_captured() -> None:
    config = Config().updated({"training.precision": "bf16", "training.compile": True})
    missing = capture_missing(config, torch.device("cuda", 0), 1)
    assert missing is not None and missing.startswith("training.compile=True")


class ReadsAValue(nn.Module):
    """A model that no graph can hold."""

    def forward(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        torch._dynamo.graph_break()
        return {"loss": batch.counts.sum()}


def test_a_model_that_is_no_graph_is_named() -> None:
    batch, epoch = next(batches(make("id")))
    with pytest.raises(
        RuntimeError, match="torch.compile failed on ReadsAValue.*--set training.compile=false"
    ):
        CompiledModel(ReadsAValue(), backend="eager")(batch, epoch)
