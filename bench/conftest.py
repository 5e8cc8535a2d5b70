"""``pytest bench --benchmark`` times; without the option the benches are skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import results
from bench.machine import limited_isa


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="run the benches and time them")
    parser.addoption("--results", type=Path, metavar="FOLDER", help="where rows of operators go")
    parser.addoption("--add", action="store_true", help="keep the rows that the file has")
    parser.addoption("--tiny", action="store_true", help="sizes that only try the benches")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--benchmark"):
        skip = pytest.mark.skip(reason="a bench, not a test; run pytest bench --benchmark")
        for item in items:
            item.add_marker(skip)


def results_folder(config: pytest.Config) -> Path | None:
    """Where rows are saved: a run of some tests, or a tiny one, is a trial and needs --results."""
    folder: Path | None = config.getoption("--results")
    trial = config.getoption("-k") or config.getoption("-m") or config.getoption("--tiny")
    return folder or (None if trial else results.FOLDER)


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Callable[[str, dict[str, Any]], None]:
    """Adds a row to a results file at once: a run that is killed keeps what it has."""
    limited_isa()
    folder = results_folder(pytestconfig)
    rows: dict[str, list[dict[str, Any]]] = {}

    def add(name: str, row: dict[str, Any]) -> None:
        if name not in rows:
            rows[name] = []
            if folder is not None and pytestconfig.getoption("--add"):
                file = folder / f"{results.timed(name)}.json"
                rows[name] = json.loads(file.read_text())["rows"] if file.exists() else []
        rows[name].append(row)
        if folder is not None:
            results.save(results.timed(name), rows[name], folder=folder)

    return add
