"""The table of predictions beside measurements."""

from __future__ import annotations

import pytest

from bench.plan import joined, missed, section


def row(measured: float) -> dict[str, object]:
    counted = {
        "width": 64, "precision": "fp32", "users": 128, "micro_items": 0, "items": 500,
        "rows": 700, "alive": 80, "parameters": 10, "tokens": 20, "grown": 100, "libraries": 5,
        "predicted_seconds": 1.0,
    }  # fmt: skip
    return joined(counted, {"before": 220, "grown": measured - 220, "seconds": 1.25})


def test_a_prediction_stands_on_what_was_there_without_the_batch() -> None:
    assert row(305)["predicted_bytes"] == 220 - 20 + 5 + 100
    assert missed(row(305), "bytes") == 0
    assert missed(row(300), "seconds") == pytest.approx(-0.2)


def test_misses_are_counted() -> None:
    text = section({"rows": [row(305), row(400)]})
    assert "within 10% in 1 of 2 rows, the time in 0" in text
    assert "-24%" in text and "null" in text
