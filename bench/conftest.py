"""``pytest bench --benchmark`` times; without the option the benches are skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import results
from bench.machine import limited_isa


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="run the benches and time them")
    parser.addoption("--results", type=Path, metavar="FOLDER", help="where rows of operators go")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--benchmark"):
        skip = pytest.mark.skip(reason="a bench, not a test; run pytest bench --benchmark")
        for item in items:
            item.add_marker(skip)


def results_folder(config: pytest.Config) -> Path | None:
    """Where rows are saved: a run of some tests (-k) is a trial, and needs --results."""
    folder: Path | None = config.getoption("--results")
    return folder or (None if config.getoption("-k") else results.FOLDER)


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Callable[[str, dict[str, Any]], None]:
    """Adds a row to a results file at once: a run that is killed keeps what it has."""
    limited_isa()
    folder = results_folder(pytestconfig)
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(name: str, row: dict[str, Any]) -> None:
        rows.setdefault(name, []).append(row)
        if folder is not None:
            results.save(results.timed(name), rows[name], folder=folder)

    return add
