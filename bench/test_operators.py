"""Every operator against its rivals, forward and backward: CUDA where it is there, else the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch

from bench.operators import all_cases
from bench.operators.case import LARGEST_DISTANCE, CannotRun, Case, Run, Setting
from bench.rates import rates_of
from bench.stopwatch import clock, lead, spread
from odmt_fast.kernels.linear.libraries import narrow

Row = dict[str, Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SECONDS = 1.0
"""About how long the rounds of a variant take together."""

pytestmark = pytest.mark.benchmark(timer=clock, disable_gc=True)


def settings(tiny: bool = False) -> Iterator[Setting]:
    """bf16 on a GPU; on a CPU fp32, and bf16 where it has instructions for it."""
    if DEVICE == "cpu":
        yield Setting(DEVICE, tiny=tiny)
    if not narrow(torch.empty(0, dtype=torch.bfloat16, device=DEVICE)):
        yield Setting(DEVICE, torch.bfloat16, tiny)


def parameters(tiny: bool = False) -> list[Any]:
    """A case and the name of a variant; what compiles for long comes last, as it may be cut off."""
    pairs = [
        (case, v)
        for setting in settings(tiny)
        for case in all_cases(setting)
        for v in case.variants()
    ]
    return [
        pytest.param(
            case,
            v.name,
            id=f"{case.operator}-{case.setting.name}-{case.label}-{v.name}",
            marks=[
                *([pytest.mark.step] if case.operator == "training_step" else []),
                *([pytest.mark.slow_start] if v.slow_start else []),
            ],
        )
        for case, v in sorted(pairs, key=lambda pair: pair[1].slow_start)
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize(("case", "variant"), parameters(metafunc.config.getoption("--tiny")))


@lru_cache(maxsize=1)
def prepared(case: Case) -> Case:
    """A copy, whose tensors are freed when the next case comes."""
    gc.collect()
    return replace(case)


def test_operator(
    benchmark: Any, record: Callable[[str, Row], None], case: Case, variant: str
) -> None:
    benchmark.group = f"{case.operator}, {case.setting.name}: {case.label}"
    row = measured(benchmark, prepared(case), variant)
    record("operators", row)
    benchmark.extra_info.update(row)
    if "error" in row and row["ours"]:
        pytest.fail(row["error"])
    if "error" in row or "skipped" in row:
        pytest.skip(row.get("error", row.get("skipped", "")))


def measured(benchmark: Any, case: Case, variant: str) -> Row:
    """The row of a variant: times, or why there are none.

    ``operator, case, dtype, variant, ours, note`` and then ``skipped`` (why it cannot run here), or
    ``error`` (what it raised, or how far from the reference it is), or ``ms, p20, p80, rounds``,
    ``flop`` and ``moved_bytes`` of the least work, ``floor_ms`` and ``bound``, ``peak_bytes``, and
    the ``distance`` from the reference.
    """
    chosen = next(v for v in case.variants() if v.name == variant)
    row: Row = {"operator": case.operator, "case": case.label, "dtype": case.setting.name}
    row |= {"variant": variant, "ours": chosen.ours, "note": chosen.note}
    try:
        if chosen.slow_start:
            # Of a function compiled too often torch runs the eager one, and says so in a log only.
            torch.compiler.reset()
        run = chosen.make()
        run.step()  # compiles
        lead()
        start = clock()
        found = run.step()
        seconds = clock() - start
        distance = case.distance(run, found)
        del found
        peak = peak_bytes(run)
    except CannotRun as reason:
        return row | {"skipped": str(reason)}
    except Exception as error:  # whatever a rival raises is its result
        return row | {"error": f"{type(error).__name__}: {error}"[:500]}
    if distance is not None and distance > LARGEST_DISTANCE:
        return row | {"error": f"differs from the reference by {distance:.2g} of its norm"}
    rounds = 5 if case.setting.tiny else min(max(int(SECONDS / seconds), 5), 50)
    benchmark.pedantic(run.step, setup=lead, rounds=rounds)
    rates = rates_of(DEVICE, case.setting.dtype, case.setting.tiny)
    floor, bound = case.work.floor(rates)
    return row | {
        **spread(list(benchmark.stats.stats.data)),
        "rounds": rounds,
        "flop": case.work.flop,
        "moved_bytes": case.work.moved_bytes,
        "floor_ms": floor,
        "bound": bound,
        "peak_bytes": peak,
        "distance": distance,
    }


def peak_bytes(run: Run) -> int | None:
    """What a run needs beyond what is there; None on a CPU, which does not count it."""
    if DEVICE == "cpu":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run.step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
