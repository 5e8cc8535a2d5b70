"""The training step at the official settings: engine, tuned baseline and reference, in one run."""

from __future__ import annotations

from typing import Any

import pytest

from bench.machine import limited_isa
from bench.results import measured, save, timed

CASES = [
    ("engine", "fp32"),
    ("engine", "bf16"),
    ("engine_compiled", "fp32"),
    ("engine_compiled", "bf16"),
    ("tuned", "fp32"),
    ("tuned", "bf16"),
    ("compiled", "fp32"),
    ("compiled", "bf16"),
    ("reference", "fp32"),
    ("reference", "bf16"),
    ("untouched", "fp32"),
    ("untouched", "bf16"),
]
if limited_isa() is not None:
    # Without instructions for bf16 only the engine finishes a step of it in less than minutes; what
    # compiling and kept memory do for a rival the native run shows.
    CASES = [("engine", "fp32"), ("engine", "bf16"), ("tuned", "fp32"), ("untouched", "fp32")]
ROWS: list[dict[str, Any]] = []


@pytest.mark.parametrize(("implementation", "dtype"), CASES, ids=lambda value: value)
def test_step(benchmark: Any, implementation: str, dtype: str) -> None:
    arguments = ["--implementation", implementation, "--dtype", dtype]
    # The median of three is steady where a step takes seconds.
    arguments += ["--steps", "7", "--stages"] if implementation == "engine" else ["--steps", "3"]
    row = benchmark.pedantic(measured, ("bench.step", *arguments), rounds=1)
    benchmark.extra_info.update(row)
    ROWS.append(row)
    if len(ROWS) == len(CASES):
        save(timed("step"), ROWS)


SIZES = (16, 64, 256, 1024)
SWEEP: list[dict[str, Any]] = []


@pytest.mark.parametrize("users", SIZES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_batch_size(benchmark: Any, users: int, dtype: str) -> None:
    arguments = ["--implementation", "engine", "--dtype", dtype, "--users", str(users)]
    row = benchmark.pedantic(measured, ("bench.step", *arguments), rounds=1)
    benchmark.extra_info.update(row)
    SWEEP.append(row)
    if len(SWEEP) == 2 * len(SIZES):
        save(timed("batch_size"), SWEEP)
