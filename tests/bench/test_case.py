"""Cases: what is timed, compared and reported, on a CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import Tensor

from bench.gpu.case import Case, Missing, Setting, Variant, Work, measure
from bench.gpu.operators.distilled_softmax import forced
from bench.gpu.rates import Rates
from bench.gpu.results import check
from bench.gpu.section import OPERATORS
from bench.gpu.stopwatch import Times
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE

RATES = Rates(copy_bytes=1e9, matmul_flop=1e9)
CPU = torch.device("cpu")


def variant(name: str, function: Callable[[Tensor], Tensor], **options: object) -> Variant:
    x = torch.arange(4.0, requires_grad=True)
    return Variant(name, lambda: function(x), (x,), (torch.ones(4),), **options)


def fails(x: Tensor) -> Tensor:
    raise RuntimeError("no such backend\nmore")


def rows_of(*variants: Variant | Missing, deadline: float = float("inf")) -> dict[str, dict]:
    case = Case("op", "4 numbers", Work((1e6, 2e6), (1e6, 1e6)), iter(variants))
    rows = list(measure(case, RATES, Setting(CPU, True, deadline), seconds=0.0))
    check({"schema": 1, "sections": {"s": {"state": "done", "rows": rows}}})
    return {row["variant"]: row for row in rows}


def test_rows_of_variants_that_run_fail_and_lack() -> None:
    rows = rows_of(
        variant("reference", lambda x: 2 * x),
        variant("ours", lambda x: x + x),
        variant("ours, wrong", lambda x: 2.2 * x),
        variant("ours, NaN", lambda x: 2 * x * float("nan")),
        variant("other", lambda x: 3 * x, comparable=None, note="lacks half"),
        variant("rival", fails),
        Missing("absent", "not installed"),
    )
    assert rows["ours"]["ours"] and rows["ours"]["distance"] == 0 and "error" not in rows["ours"]
    assert rows["ours"]["rounds"] == 5
    assert rows["ours"]["floor"] == {"forward": 1, "backward": 2, "both": 3, "bound": "matmul"}
    assert "differs from the reference by 0.1 of" in rows["ours, wrong"]["error"]
    assert "error" in rows["ours, NaN"]
    assert rows["other"]["distance"] is None and rows["other"]["note"] == "lacks half"
    assert rows["rival"]["error"] == "RuntimeError: no such backend\nmore"
    assert "both" not in rows["rival"]
    assert rows["absent"]["skipped"] == "not installed"


def test_after_the_deadline_only_ours_is_prepared() -> None:
    rows = rows_of(
        variant("ours", lambda x: 2 * x),
        variant("rival", lambda x: 2 * x),
        deadline=time.monotonic() - 1,
    )
    assert "both" in rows["ours"]
    assert rows["rival"]["skipped"] == "the section's time was up"


def test_rows_come_before_a_slow_start_and_again_after_it() -> None:
    def gives_up(x: Tensor) -> Tensor:
        raise SystemExit("the section is killed while this compiles")

    case = Case(
        "op",
        "4 numbers",
        Work((1e6, 2e6), (1e6, 1e6)),
        iter(
            [
                variant("reference", lambda x: 2 * x),
                variant("rival", fails),
                variant("ours", lambda x: x + x),
                variant("compiled", lambda x: 2 * x, slow_start=True),
                variant("killed", gives_up, slow_start=True),
            ]
        ),
    )
    rows = []
    with pytest.raises(SystemExit):
        rows.extend(measure(case, RATES, Setting(CPU, True), seconds=0.0))
    # extend keeps what came before the exception
    assert [row["variant"] for row in rows] == ["reference", "rival", "ours"]
    assert all("both" in row or "error" in row for row in rows)
    assert rows[2]["moved_bytes"] == 2e6


def test_times_are_median_and_percentiles() -> None:
    assert Times.of([5.0, 1.0, 2.0, 3.0, 4.0, 6.0]) == Times(3.5, 2.0, 5.0)
    assert Times.of([1.0]) == Times(1.0, 1.0, 1.0)


def test_a_forced_backend_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cpu")
    with pytest.raises(ZeroDivisionError), forced("reference"):
        assert os.environ[ENVIRONMENT_VARIABLE] == "reference"
        raise ZeroDivisionError
    assert os.environ[ENVIRONMENT_VARIABLE] == "cpu"


@pytest.mark.parametrize("operator", [o for group in OPERATORS.values() for o in group])
def test_every_operator_agrees_with_its_reference(operator: str) -> None:
    torch.compiler.reset()
    setting = Setting(CPU, tiny=True)
    for case in import_module(f"bench.gpu.operators.{operator}").cases(setting):
        assert case.operator == operator
        rows = list(measure(case, RATES, setting, seconds=0.0))
        mine = [row for row in rows if row.get("ours")]
        assert mine and all("both" in row and "error" not in row for row in mine), mine
        # Every rival that computes the same function agrees, or could not run at all.
        assert not [r for r in rows if "differs" in r.get("error", "")], rows
        assert rows[0]["distance"] in (0, None)
        check({"schema": 1, "sections": {operator: {"state": "done", "rows": rows}}})
