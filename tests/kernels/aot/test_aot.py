"""Every kernel at the official shapes compiles for GPUs that are not here, and fits them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
OPERATORS = (
    "adamw",
    "dropout",
    "feed_forward",
    "residual_norm",
    "packed_attention",
    "readout_attention",
    "distilled_softmax",
    "rank_of_target",
    "top_k",
    "table_rows",
    "item_tokens",
    "gathered_rows",
)

pytest.importorskip("triton", reason="triton is not installed")


def compiled(cache: Path, *arguments: str) -> list[dict[str, Any]]:
    """Rows of a `bench.aot` process: it must be apart from the interpreter, with its own cache."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache)}
    for variable in ("TRITON_INTERPRET", "PYTHONSAFEPATH", "ODMT_FAST_TUNE"):
        environment.pop(variable, None)
    command = [sys.executable, "-m", "bench.aot", "--json", *arguments]
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def compilations(
    request: pytest.FixtureRequest, tmp_path_factory: Any
) -> Iterator[dict[str, Future[list[dict[str, Any]]]]]:
    """Of every operator that is tested, begun at once on all processors, the longest first."""
    asked = {item.callspec.params.get("rows") for item in request.session.items if runs_here(item)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {
            name: pool.submit(compiled, tmp_path_factory.mktemp("cache"), "--official", name)
            for name in reversed(OPERATORS)
            if name in asked
        }
        pool.shutdown(cancel_futures=True)


def runs_here(item: pytest.Item) -> bool:
    return item.path == Path(__file__) and hasattr(item, "callspec")


@pytest.fixture(scope="module", params=OPERATORS)
def rows(
    request: pytest.FixtureRequest, compilations: dict[str, Future[list[dict[str, Any]]]]
) -> list[dict[str, Any]]:
    return compilations[request.param].result()


def test_official_shapes_fit_every_architecture(rows: list[dict[str, Any]]) -> None:
    assert {row["architecture"] for row in rows} >= {80, 90, 100}
    for row in rows:
        assert row["spill_bytes"] == 0, row
        assert row["shared_bytes"] <= row["shared_limit"], row


def test_attention_uses_the_matrix_units(rows: list[dict[str, Any]]) -> None:
    if "attention" not in rows[0]["operator"]:
        pytest.skip("no matrix products in this operator")
    for row in rows:
        if "bfloat16" not in row["case"]:
            continue  # float32 and sm_75 multiply otherwise
        if row["architecture"] == 80:
            assert row["instructions"] == ["mma"], row
        elif row["operator"] == "packed_attention":
            expected = {90: ["wgmma"], 100: ["tcgen05"]}[row["architecture"]]
            assert row["instructions"] == expected, row
        else:
            # 16 rows: too few for the forward's warp groups, not for the gradient of the states.
            assert row["instructions"], row


def test_the_loss_uses_the_matrix_units(rows: list[dict[str, Any]]) -> None:
    if rows[0]["operator"] != "distilled_softmax":
        pytest.skip("another operator")
    products = [row for row in rows if "join" not in row["kernel"]]
    assert {row["kernel"] for row in products} == {
        "distilled_softmax_fwd_kernel",
        "distilled_softmax_bwd_kernel",
        "panel_product_kernel",
    }
    for row in products:
        expected = {80: "mma", 90: "wgmma", 100: "tcgen05"}[row["architecture"]]
        assert row["instructions"] == [expected], row


@pytest.mark.parametrize("operator", [*OPERATORS, "csrc"])
def test_nothing_spills_in_the_committed_table(operator: str) -> None:
    table = (ROOT / "docs/kernels_aot.md").read_text()
    section = table.split(f"\n## {operator}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    head, rows = cells[1], [row for row in cells[3:] if row]
    spills, shared, limit = (head.index(name) for name in ("spills", "shared", "of"))
    assert rows
    for row in rows:
        assert row[spills] == "0" and int(row[shared]) <= int(row[limit]), row


def test_the_committed_table_covers_every_registered_case() -> None:
    table = (ROOT / "docs/kernels_aot.md").read_text()
    for operator in OPERATORS:
        for case in import_module(f"odmt_fast.kernels.{operator}.aot").AOT_CASES:
            assert f"| {case.name} |" in table, "run python -m bench.aot and commit the table"
