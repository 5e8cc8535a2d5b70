"""``pytest bench --benchmark`` times; without the option the benches are skipped."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="run the benches and time them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--benchmark"):
        skip = pytest.mark.skip(reason="a bench, not a test; run pytest bench --benchmark")
        for item in items:
            item.add_marker(skip)
