"""The allocator bench: its variants, its table, its place in the report."""

from __future__ import annotations

import pytest

from bench import allocators, report


def test_jemalloc_is_measured_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocators.ctypes.util, "find_library", lambda name: None)
    assert set(allocators.variants()) == set(allocators.GLIBC)
    monkeypatch.setattr(allocators.ctypes.util, "find_library", lambda name: "libjemalloc.so.2")
    found = allocators.variants()
    arguments, variables = found["jemalloc, freed memory kept"]
    # Under jemalloc glibc's switches would do nothing: the step is told to leave them alone.
    assert arguments == ("--as-is",)
    assert variables == {"LD_PRELOAD": allocators.LIBRARY, "MALLOC_CONF": allocators.JEMALLOC}
    assert "MALLOC_CONF" not in found["jemalloc"][1]


def test_the_report_shows_every_allocator_and_how_to_take_jemalloc() -> None:
    runs = [
        {"seconds": [1.0, 2.0, 3.0], "peak_bytes": 2**30},
        {"seconds": [4.0, 5.0], "peak_bytes": 3 * 2**30},
    ]
    row = allocators.summary("fp32", "glibc as it is", runs)
    assert (row["seconds"], row["p20"], row["p80"]) == pytest.approx((3.0, 1.8, 4.2))
    text = report.SECTIONS["allocators"]({"users": 64, "varied": True, "rows": [row]})
    assert f"LD_PRELOAD={allocators.LIBRARY} MALLOC_CONF={allocators.JEMALLOC} odmt-fast" in text
    assert "3,000" in text and "1,800-4,200" in text and text.endswith("3.00 |")
