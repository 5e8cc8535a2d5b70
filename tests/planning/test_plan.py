"""The choice among what was counted, and the rates that seconds rest on."""

from __future__ import annotations

import pytest

from odmt_fast.planning import CARDS, Probe, Rates, Way
from odmt_fast.planning.footprint import Footprint
from odmt_fast.planning.plan import Row, pick


def counts(flop: float = 0.0, made: int = 0, calls: int = 0, saved: int = 0) -> Footprint:
    return Footprint(100, 200, 50, saved, 30, 20, made, flop, calls)


def row(batch_size: int, rate: float, *, fits: bool = True, micro: int | None = None) -> Row:
    return Row(Way(batch_size, micro), counts(), 1000, batch_size / rate, fits)


def test_the_fastest_that_fits_is_picked() -> None:
    rows = [row(32, 100), row(128, 150), row(512, 200), row(2048, 300, fits=False)]
    assert pick(rows) is rows[2]


def test_what_is_nearly_as_fast_and_asks_for_less_is_picked() -> None:
    rows = [row(128, 100), row(512, 196, micro=256), row(512, 195), row(2048, 200)]
    assert pick(rows) is rows[2]
    assert pick([rows[1], row(512, 196, micro=1024)]).way.micro_items == 1024


def test_a_peak_is_the_sum_of_its_parts() -> None:
    one = row(32, 1)
    assert one.counts.alive == 100 + 200 + 50 + 30
    assert one.peak == 1000 + one.counts.alive + 20


def test_a_way_says_what_to_type() -> None:
    assert Way(512).yaml == "training:\n  batch_size: 512"
    assert Way(512, 256).yaml == "training:\n  batch_size: 512\n  micro_items: 256"


def test_rates_are_found_and_none_is_negative() -> None:
    true = Rates(2e-11, 3e-10, 1e-4)
    works = [counts(1e9, 10**8, 300), counts(9e9, 2 * 10**8, 350), counts(5e10, 2 * 10**9, 900)]
    probes = [Probe(n, work, true.seconds(work)) for n, work in enumerate(works)]
    found = Rates.of(probes)
    assert found.seconds(counts(2e11, 10**10, 3000)) == pytest.approx(
        true.seconds(counts(2e11, 10**10, 3000)), rel=1e-6
    )
    noisy = [Probe(n, work, true.flop * work.flop) for n, work in enumerate(works)]
    rates = Rates.of(noisy)
    assert min(rates.flop, rates.byte, rates.call) >= 0
    with pytest.raises(ValueError, match="no step was timed"):
        Rates.of([])


def test_a_faster_card_takes_less_time() -> None:
    times = [CARDS[name].seconds(1e9, 1e12, 300, narrow=True) for name in ("a100", "h100", "h200")]
    assert times == sorted(times, reverse=True)
