"""What people are told of time, by a clock that the test moves."""

from __future__ import annotations

import pytest

from odmt_fast.cli.progress import Steps, TimeLeft, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (185.2, "3 min 05 s")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_time_left_is_told_after_two_seconds_and_at_every_quarter() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    told = {}
    for done in range(101):
        if (text := left(done, 100)) is not None:
            told[done] = text
        clock.now += 0.5
    assert list(told) == [4, 25, 50, 75]
    assert told[4] == "about 48 s left"
    assert told[75] == "about 12 s left"


def test_work_that_goes_on_is_measured_from_where_it_went_on() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    assert left(90, 100) is None
    clock.now += 10
    assert left(95, 100) == "about 10 s left"


def test_steps_are_announced_estimated_and_summed_up() -> None:
    clock, said = Clock(), []
    steps = Steps(2, said.append, clock)
    with steps.step("one", "doing one") as tell:
        clock.now += 4
        tell(1, 4)
        clock.now += 12
        tell(4, 4)
    with steps.step("two", "doing two"):
        clock.now += 60
    assert said == ["1/2 doing one", "about 12 s left", "2/2 doing two"]
    assert steps.seconds == {"one": 16.0, "two": 60.0}
    assert steps.summary() == "Took 1 min 16 s: one 16 s, two 1 min 00 s."
