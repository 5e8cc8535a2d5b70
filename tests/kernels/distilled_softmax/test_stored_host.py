"""What the stored engine hands to a GPU, as far as that can be seen without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

import odmt_fast
from odmt_fast.kernels.debiased_logits import passes
from odmt_fast.kernels.distilled_softmax import distilled_softmax, rows, stored
from odmt_fast.kernels.distilled_softmax.op import MEMORY_BUDGET_BYTES
from odmt_fast.kernels.distilled_softmax.spec import Spec, stats_width

GPU = torch.device("cuda", 1)


class OnGpu(torch.Tensor):
    """A CPU tensor that says it is on the second GPU."""

    device = property(lambda self: GPU)  # type: ignore[assignment]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[torch.device]]]:
    """(entry of the extension, devices that were current) of every launch; nothing is computed."""
    current: list[torch.device] = []
    seen: list[tuple[str, list[torch.device]]] = []

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        current.append(which)
        yield
        current.pop()

    def entry(name: str):
        return lambda *_, **__: seen.append((name, list(current)))

    names = "distilled_rows_cuda_forward distilled_rows_cuda_backward debiased_rows_cuda"
    fake = SimpleNamespace(**{name: entry(name) for name in names.split()})
    fake.CandidatePointers = lambda **_: None
    monkeypatch.setattr(odmt_fast, "_C", fake, raising=False)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    return seen


def test_row_passes_are_launched_on_the_device_of_the_logits(launches, make_problem):
    problem = make_problem()
    logits = torch.zeros(3, len(problem.candidates.targets), 37).as_subclass(OnGpu)
    spec = Spec(problem.tau, problem.edges, False, MEMORY_BUDGET_BYTES)
    candidates, scale = passes.prepared(problem.candidates), torch.ones(logits.shape[1])
    stats = torch.zeros(logits.shape[1], stats_width(3))
    totals = torch.zeros(3 + len(problem.edges), dtype=torch.float64)
    rows.forward(logits, candidates, spec, scale, stats, totals)
    rows.backward(logits, logits, candidates, spec, scale, stats, problem.upstream())
    passes.forward(logits, candidates)
    passes.backward(logits, candidates, torch.float32)
    assert launches == [
        ("distilled_rows_cuda_forward", [GPU]),
        ("distilled_rows_cuda_backward", [GPU]),
        ("debiased_rows_cuda", [GPU]),
        ("debiased_rows_cuda", [GPU]),
    ]


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 783])
@pytest.mark.parametrize("budget", [1, 40_000, MEMORY_BUDGET_BYTES])
def test_rows_of_logits_begin_where_a_gpu_multiplies_fast(make_problem, columns, budget):
    problem = make_problem(n_columns=columns)
    queries, items = problem.queries.to("meta"), problem.items.to("meta")
    spec = Spec(problem.tau, problem.edges, False, budget)
    chunks = list(stored._Chunks(queries, items, problem.candidates, spec))
    assert sum(logits.shape[1] for _, _, logits in chunks) == queries.shape[1]
    for _, _, logits in chunks:
        assert logits.shape[2] == columns and logits.stride(2) == 1
        for stride in logits.stride()[:2]:
            assert stride % 16 == 0 or len(logits) == 1
        assert logits.storage_offset() % 16 == 0
        # What the products read is not copied: rows and columns may be a stride apart.
        assert logits.transpose(1, 2).stride(1) == 1


@pytest.mark.parametrize("budget", [3000, MEMORY_BUDGET_BYTES], ids=["some-rows", "all-rows"])
def test_rows_of_whole_sixteens_change_nothing(make_problem, no_worse, monkeypatch, budget):
    monkeypatch.setenv("ODMT_FAST_BACKEND", "cpu")
    monkeypatch.setattr(stored, "row_stride", lambda items: -(-items.shape[1] // 16) * 16)
    no_worse(make_problem(n_columns=37), distilled_softmax, memory_budget=budget)
