"""The operator benches: what is timed, compared, recorded and shown, on a CPU at tiny sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import results, stopwatch
from bench.conftest import results_folder
from bench.operator_table import HEAD, section, shown
from bench.operators import OPERATORS, all_cases
from bench.operators.case import CannotRun, Case, Run, Setting, Variant, Work, leaf
from bench.operators.distilled_softmax import forced
from bench.test_operators import measured, parameters
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE

ROOT = Path(__file__).parents[2]
TINY = [Setting("cpu", dtype, tiny=True) for dtype in (torch.float32, torch.bfloat16)]


class Rounds:
    """Stands for pytest-benchmark's fixture: runs as many rounds and gives each a second."""

    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, step: Callable[[], object], setup: Callable[[], None], rounds: int) -> None:
        for _ in range(rounds):
            setup()
            step()
        data = type("Stats", (), {"data": [1.0] * rounds})
        self.stats = type("Metadata", (), {"stats": data})


@dataclass(frozen=True)
class MadeUp(Case):
    """Rivals that are right, wrong, broken and absent."""

    operator = "op"

    @property
    def label(self) -> str:
        return "4 numbers"

    @property
    def work(self) -> Work:
        return Work(2e9, 1e9)

    def variants(self) -> Iterator[Variant]:
        def of(function: Callable[[Tensor], Tensor], **options: Any) -> Callable[[], Run]:
            (x,) = leaf(torch.arange(4.0))
            return lambda: Run(lambda: function(x), (x,), (torch.ones(4),), **options)

        def fails(x: Tensor) -> Tensor:
            raise RuntimeError("no such backend\nmore")

        def absent() -> Run:
            raise CannotRun("not installed")

        yield Variant("reference", of(lambda x: 2 * x))
        yield Variant("ours", of(lambda x: x + x))
        yield Variant("ours, wrong", of(lambda x: 2.2 * x))
        yield Variant("ours, NaN", of(lambda x: 2 * x * float("nan")))
        yield Variant("other", of(lambda x: 3 * x, comparable=None), "lacks half")
        yield Variant("rival", of(fails))
        yield Variant("absent", absent, slow_start=True)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Of the made-up case, at 1 GFLOP/s and 1 GB/s."""
    rates = SimpleNamespace(copy_bytes=1e9, matmul_flop=1e9)
    monkeypatch.setattr("bench.test_operators.rates_of", lambda *_: rates)
    monkeypatch.setattr("bench.test_operators.SECONDS", 0.0)
    case = MadeUp(TINY[0])
    return [measured(Rounds(), case, variant.name) for variant in case.variants()]


def test_rows_of_variants_that_run_fail_and_lack(rows: list[dict[str, Any]]) -> None:
    named = {row["variant"]: row for row in rows}
    ours = named["ours"]
    assert ours["ours"] and ours["distance"] == 0 and ours["rounds"] == 5
    assert (ours["ms"], ours["floor_ms"], ours["bound"]) == (1000, 2000, "matmul")
    assert "differs from the reference by 0.1 of" in named["ours, wrong"]["error"]
    assert "differs from the reference by inf" in named["ours, NaN"]["error"]
    assert named["other"]["distance"] is None and named["other"]["note"] == "lacks half"
    assert named["rival"]["error"] == "RuntimeError: no such backend\nmore"
    assert named["absent"]["skipped"] == "not installed" and "ms" not in named["absent"]


def test_the_table_has_ratios_floors_and_reasons(rows: list[dict[str, Any]]) -> None:
    rows[0] |= {"ms": 4000.0, "p20": 3.0, "p80": 5000.0, "peak_bytes": 2**21}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown(rows).splitlines()]
    assert lines[0] == list(HEAD)
    assert lines[2][:5] == ["op, fp32: 4 numbers", "reference", "4,000.0", "3.000-5,000.0", "4.00"]
    assert lines[2][5:] == ["50% (matmul)", "0", "0.2", "2", ""]
    by_name = {line[1]: line for line in lines[3:]}
    assert by_name["ours"][0] == "" and by_name["ours"][4] == "1.00"
    assert by_name["ours, wrong"][-1].startswith("FAILED: differs")
    assert by_name["rival"][-1] == "did not run: RuntimeError: no such backend"
    assert by_name["absent"][-1] == "did not run: not installed"


def test_the_page_has_a_section_per_device(rows: list[dict[str, Any]]) -> None:
    text = section({"machine": {"gpu": "Made Up 9000", "isa": "AVX2"}, "rows": rows})
    assert text.startswith("## The operators, Made Up 9000\n") and "| op, fp32: 4 numbers |" in text


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_agrees_with_its_reference(operator: str) -> None:
    torch.compiler.reset()
    names = set()
    for setting in TINY:
        for case in all_cases(setting):
            if case.operator != operator:
                continue
            for variant in case.variants():
                try:
                    run = variant.make()
                    distance = case.distance(run, run.step())
                except (CannotRun, RuntimeError) as error:  # of rivals: here or anywhere
                    assert not variant.ours, error
                    continue
                names.add(variant.name)
                assert distance is None or distance < 0.05, (case.label, variant.name)
            assert case.work.flop + case.work.moved_bytes > 0
    assert any(name.startswith("ours") for name in names) and len(names) > 1


def test_what_compiles_for_long_comes_last() -> None:
    given = [(p.values[0], p.values[1]) for p in parameters()]
    assert {case.operator for case, _ in given} == set(OPERATORS) - {"training_step", "adamw"}
    slow = [next(v.slow_start for v in case.variants() if v.name == name) for case, name in given]
    assert slow == sorted(slow)
    # To be asked what there is costs no tensors.
    assert not any("tensors" in vars(case) or "fused" in vars(case) for case, _ in given)


def test_a_forced_backend_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cpu")
    with pytest.raises(ZeroDivisionError), forced("reference"):
        assert os.environ[ENVIRONMENT_VARIABLE] == "reference"
        raise ZeroDivisionError
    assert os.environ[ENVIRONMENT_VARIABLE] == "cpu"


def test_times_are_median_and_percentiles() -> None:
    assert stopwatch.spread([5.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(
        {"ms": 3e3, "p20": 1.8e3, "p80": 4.2e3}
    )
    assert stopwatch.spread([1.0]) == {"ms": 1e3, "p20": 1e3, "p80": 1e3}


def test_rows_are_saved_as_they_come(tmp_path: Path) -> None:
    """The command itself, on the fastest operator."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark"]
    command += ["bench/test_operators.py", "-k", "batch_index", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batch_index, fp32" in done.stdout  # pytest-benchmark's own table
    (file,) = tmp_path.iterdir()
    saved = json.loads(file.read_text())
    assert file.name.startswith("operators") and saved["machine"]["cores"] > 0
    assert [row["variant"] for row in saved["rows"]] == ["torch, eager", "ours"]


@pytest.mark.parametrize(
    ("asked", "folder"),
    [
        ({"--results": None, "-k": ""}, results.FOLDER),
        ({"--results": None, "-k": "dropout"}, None),
        ({"--results": Path("out"), "-k": "dropout"}, Path("out")),
    ],
)
def test_a_trial_saves_nothing_unless_it_is_told_where(
    asked: dict[str, Any], folder: Path | None
) -> None:
    assert results_folder(SimpleNamespace(getoption=asked.get)) == folder
