"""Fixtures of the model tests."""

from __future__ import annotations

import pytest
from golden_cases import NAMES, Golden, load


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    """Every golden case in turn."""
    return load(request.param)
