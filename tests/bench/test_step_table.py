"""The tables of the training step, and where the results of limited instructions go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import machine, results, step_table

STAGES = [{"name": name, "seconds": 0.5, "saved_bytes": 2**20} for name in ("items", "optimizer")]
SLOW = [3.0, 4.0, 5.0, 6.0, 17.0]


def row(implementation: str, dtype: str, seconds: list[float]) -> dict[str, Any]:
    sizes = {"users": 64, "items": 20, "slots": 832, "rows": 30, "tokens": 400}
    return {
        **{"implementation": implementation, "dtype": dtype, "seconds": seconds, **sizes},
        **{"needed_flop": {"items": 1e12, "loss": 1e10}, "matmul_flops": 1.01e12},
        **{"step_bytes": 2**30, "stages": STAGES if implementation == "engine" else []},
    }


def emulated() -> dict[str, Any]:
    rivals = [row(name, "fp32", SLOW) for name in list(step_table.IMPLEMENTATIONS)[1:]]
    engine = [row("engine", dtype, [1.0, 2.0, 2.0]) for dtype in ("fp32", "bf16")]
    about = {"isa": "AVX2", "cores": 2, "torch": "2.13.0", "date": "2026-01-01"}
    return {"machine": {**about, "limits": "ATEN_CPU_CAPABILITY=avx2"}, "rows": [*engine, *rivals]}


def test_spread_is_between_the_20th_and_80th_percentile() -> None:
    assert step_table.spread(SLOW) == (3.8, pytest.approx(8.2))
    assert step_table.spread([7.0]) == (7.0, 7.0)


def test_what_was_not_measured_is_left_empty() -> None:
    section = step_table.section(emulated())
    assert "## The training step, AVX2 by emulation" in section
    assert "(ATEN_CPU_CAPABILITY=avx2)" in section
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    fp32, bf16 = (line for line in lines if line[:1] == ["`odmt_fast.ODMT`"])
    assert fp32[2:5] == ["2,000", "1,400-2,000", "32.0"]
    assert fp32[5:9] == ["2.5x", "2.5x", "2.5x", "50%"]
    assert bf16[5:9] == ["", "", "2.5x", "50%"]


def test_the_headline_has_a_table_for_every_run() -> None:
    text = step_table.headline([results.load("step"), emulated()])
    assert text.count("median (p20-p80)") == 2
    assert "2.00 s (1.40-2.00)" in text and "(AVX2 by emulation)" in text
    tuned = next(line for line in text.splitlines() if "5.00 s (3.80-8.20) |  " in line)
    assert tuned.split("|")[3].strip() == ""


def test_limited_instructions_have_a_file_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    for name in machine.LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert results.save(results.timed("step"), [{"n": 1}]).name == "step.json"
    from odmt_fast import _C

    before = _C.isa()
    monkeypatch.setenv("ODMT_TEST_ISA", "baseline")
    try:
        path = results.save(results.timed("step"), [{"n": 2}])
        assert _C.isa() == "baseline"
    finally:
        _C.use_isa(before)
    assert path.name == "step_baseline.json"
    assert json.loads(path.read_text())["machine"]["limits"] == "ODMT_TEST_ISA=baseline"
    assert json.loads((tmp_path / "step.json").read_text())["rows"] == [{"n": 1}]
    monkeypatch.setenv("ODMT_TEST_ISA", "avx9")
    with pytest.raises(RuntimeError, match="ODMT_TEST_ISA=avx9 is not built"):
        results.save(results.timed("step"), [])
