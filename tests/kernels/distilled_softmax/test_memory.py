"""What the loss holds at its peak: live bytes beyond the inputs, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax, op
from odmt_fast.kernels.distilled_softmax.op import MEMORY_BUDGET_BYTES
from odmt_fast.kernels.distilled_softmax.spec import Spec
from odmt_fast.kernels.launch import device as launch_device
from odmt_fast.kernels.launch.device import KNOWN, assume
from odmt_fast.kernels.linear.libraries import narrow

EDGES = ((1, 0), (2, 0), (0, ENSEMBLE))
BRANCHES, WIDTH = 3, 768
ROWS, COLUMNS = 49_000, 14_000  # a batch of 8,192 users


class LiveBytes(TorchDispatchMode):
    """The most bytes of storages alive at once that operators made inside.

    Every storage an operator returns counts from then until nothing refers to it any more: also
    what autograd keeps. What an operator allocates and frees within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {StorageWeakRef(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if _is(x)}
        out = function(*args, **(kwargs or {}))
        self.live = {ref: size for ref, size in self.live.items() if not ref.expired()}
        for x in filter(_is, tree_leaves(out)):
            ref = StorageWeakRef(x.untyped_storage())
            if ref not in given:  # an input, or a view of one
                self.live[ref] = x.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.live.values()))
        return out


def _is(x: object) -> bool:
    return isinstance(x, Tensor)


def test_live_bytes_are_counted_until_they_die():
    x = torch.ones(1000)
    with LiveBytes() as seen:
        a = x + 1
        view = a[:10]
        del a
        b = view * 2  # 40 bytes; a lives on in its view
        x.add_(1)
        del view
        c = torch.empty(500)
    assert seen.peak == 4000 + 40 and sum(seen.live.values()) == 40 + 2000
    assert b.numel() == 10 and c.numel() == 500


@pytest.fixture
def peak(no_kernels, shapes):
    """Live bytes of forward and backward at most, beyond the inputs, in bf16 on a GPU."""

    def measured(engine: str, n_rows: int, n_columns: int) -> int:
        queries, items, candidates = shapes(n_rows, n_columns)
        spec = Spec(0.3, EDGES, False, MEMORY_BUDGET_BYTES)
        with assume(KNOWN[90]), LiveBytes() as seen:
            ce, kd = op._operator(queries, items, *candidates, None, *spec.settings, engine)
            (ce.sum() + 0.5 * kd.sum()).backward()
        assert queries.grad.shape == queries.shape and items.grad.shape == items.shape
        return seen.peak

    return measured


def test_flash_holds_little_beside_the_gradients_at_8192_users(peak, no_kernels):
    gradients = 2 * BRANCHES * WIDTH * (ROWS + COLUMNS)
    # The gradients, a panel of scores' gradients as large as the queries, an fp32 sum of d(items).
    assert gradients < peak("triton", ROWS, COLUMNS) < 2.2 * gradients
    assert len(set(no_kernels)) == 4
    dense = 4 * ROWS * COLUMNS  # of one branch at one temperature
    assert 2.2 * gradients < 0.25 * dense


def test_flash_grows_with_rows_plus_columns(peak):
    assert peak("triton", 160_000, 80_000) < 9 * peak("triton", 20_000, 10_000)


def test_stored_logits_stay_within_the_budget_at_8192_users(peak):
    gradients = 2 * BRANCHES * WIDTH * (ROWS + COLUMNS)
    sums = 3 * 2 * BRANCHES * WIDTH * COLUMNS  # d(items) in fp32, and what a chunk adds to it
    assert peak("cuda", ROWS, COLUMNS) < MEMORY_BUDGET_BYTES + gradients + sums + 2**26


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "engine"),
    [(800, 1_700, "cuda"), (ROWS, COLUMNS, "cuda"), (2 * ROWS, 2 * COLUMNS, "triton")],
)
def test_logits_are_stored_while_few_chunks_hold_them(
    monkeypatch, shapes, n_rows, n_columns, engine
):
    pytest.importorskip("triton")
    monkeypatch.delenv("ODMT_FAST_BACKEND", raising=False)
    monkeypatch.setattr(launch_device, "_cuda_device", lambda index: KNOWN[90])
    monkeypatch.setattr(op, "cuda_extension_missing", lambda device_type: None)
    with FakeTensorMode():
        queries, items, _ = shapes(n_rows, n_columns, "cuda")
        assert op._backend(queries, items, Spec(0.3, EDGES, False, MEMORY_BUDGET_BYTES)) == engine
        assert op._backend(queries, items, Spec(0.3, EDGES, False, 2**33)) == "cuda"
        assert op._backend(queries, items, Spec(0.3, EDGES, False, 2**12)) == "triton"


@pytest.mark.skipif(extension_missing("cpu") is not None, reason=str(extension_missing("cpu")))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("budget", [2**18, 2**20])
def test_the_cpu_engine_stays_within_its_budget(make_problem, monkeypatch, budget, dtype):
    monkeypatch.setenv("ODMT_FAST_BACKEND", "cpu")
    problem = make_problem(users=300, n_columns=700, width=4).to(dtype)
    inputs = [x.numel() * x.element_size() for x in (problem.queries, problem.items)]
    logits = BRANCHES * problem.queries.shape[1] * 700 * problem.items.element_size()
    in_fp32 = narrow(problem.items)  # asked first: the answer may have to be measured
    with LiveBytes() as seen:
        problem.run(distilled_softmax, memory_budget=budget)
    # Beside the budget: the leaves' copies, their gradients, sums in fp32, statistics of the rows.
    beside = 6 * sum(inputs) + 4 * 24 * problem.queries.shape[1]
    if in_fp32:
        # Factors and products stand in fp32 beside themselves.
        beside += 4 * sum(inputs)
    assert budget / 2 < seen.peak < budget + beside
    assert budget + beside < logits
