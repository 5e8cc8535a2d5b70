"""Traces into the times of stages: one spelled out as a GPU writes it."""

from __future__ import annotations

from typing import Any

import pytest

from odmt_fast.studies.trace import ITEMS_READY, STATES_READY, stage_times


def named(name: str, start: float, duration: float) -> dict[str, Any]:
    return {"cat": "user_annotation", "name": name, "ts": start, "dur": duration}


def launch(number: int, at: float) -> dict[str, Any]:
    arguments = {"correlation": number}
    return {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": at, "args": arguments}


def kernel(number: int, start: float, duration: float, kind: str = "kernel") -> dict[str, Any]:
    arguments = {"correlation": number}
    return {"cat": kind, "name": "k", "ts": start, "dur": duration, "args": arguments}


HOST = [
    named("step", 0, 100),
    named("loader wait", 0, 10),
    named("features", 2, 5),
    named("items", 10, 10),
    named("users", 20, 10),
    named("loss", 30, 10),
    named("backward", 40, 40),
    named(STATES_READY, 50, 0),
    named(ITEMS_READY, 65, 0),
    named("optimizer", 80, 15),
    {"name": "[memory]", "ts": 12, "args": {"Bytes": 64}},
    {"name": "[memory]", "ts": 13, "args": {"Bytes": -64}},
    {"name": "[memory]", "ts": 70, "args": {"Bytes": 16}},
    {"name": "[memory]", "ts": 98, "args": {"Bytes": 1000}},
    {"cat": "cpu_op", "name": "aten::mm", "ts": 11, "dur": 3},
]


def microseconds(events: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    stages = stage_times(events).stages
    return {
        name: (pytest.approx(1e6 * stage.forward), pytest.approx(1e6 * stage.backward))
        for name, stage in stages.items()
    }


def test_on_a_cpu_the_ranges_are_the_stages() -> None:
    assert microseconds(HOST) == {
        "loader wait": (5, 0),
        "features": (5, 0),
        "items": (10, 15),
        "users": (10, 15),
        "loss": (10, 10),
        "optimizer": (15, 0),
    }
    times = stage_times(HOST)
    assert not times.on_gpu
    assert times.seconds == pytest.approx(100e-6)
    assert times.stages["items"].allocated == 80  # forward and backward, freed or not
    assert sum(stage.allocated for stage in times.stages.values()) == 80


def test_on_a_gpu_a_stage_is_the_kernels_it_launched() -> None:
    launches = [launch(1, 11), launch(2, 12), launch(3, 45), launch(4, 70), launch(5, 85)]
    kernels = [
        kernel(1, 15, 20),
        kernel(2, 40, 5, "gpu_memcpy"),
        kernel(3, 50, 30),
        kernel(4, 78, 12),  # beside kernel 3
        kernel(5, 100, 20),
    ]
    events = [*HOST, *kernels, *launches]
    times = stage_times(events)
    assert times.on_gpu
    assert microseconds(events) == {
        "loader wait": (5, 0),  # of the host
        "features": (5, 0),
        "items": (25, 12),
        "users": (0, 0),
        "loss": (0, 30),
        "optimizer": (20, 0),
    }
    assert times.stages["items"].launches == 3
    gaps = {name: 1e6 * stage.gaps for name, stage in times.stages.items() if stage.gaps}
    assert gaps == {
        k: pytest.approx(v) for k, v in {"items": 5, "loss": 5, "optimizer": 10}.items()
    }
    assert times.seconds == pytest.approx(120e-6)  # the GPU ends after the host


def test_two_steps_are_averaged() -> None:
    later = [{**event, "ts": event["ts"] + 100} for event in HOST]
    assert microseconds([*later, *HOST]) == microseconds(HOST)


def test_another_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="no range 'step'; make it by odmt-fast profile"):
        stage_times(HOST[1:])
