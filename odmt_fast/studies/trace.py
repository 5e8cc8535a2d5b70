"""Reads a Chrome trace of training steps: what every stage took, forward and backward."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = ("loader wait", "features", "items", "users", "loss", "optimizer")
"""Ranges of a step in their order; features are gathered within the wait for the loader."""

STATES_READY, ITEMS_READY = "gradient of the states", "gradient of the items"
"""Marks in the backward pass: that of the loss, and that of the users, are over."""

_MICROSECOND = 1e-6
_KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass
class StageTime:
    """Means per step of a stage.

    Attributes:
        forward: seconds; on a GPU its kernels', where it launched any.
        backward: seconds of its part of the backward pass.
        launches: kernels and copies on a GPU.
        gaps: seconds a GPU waited before its kernels.
        allocated: bytes of tensors it made, freed ones included.
    """

    forward: float = 0.0
    backward: float = 0.0
    launches: float = 0.0
    gaps: float = 0.0
    allocated: float = 0.0

    @property
    def seconds(self) -> float:
        """Both ways."""
        return self.forward + self.backward


@dataclass(frozen=True)
class StepTimes:
    """Means over the steps of a trace.

    Attributes:
        stages: by name, `STAGES`.
        seconds: of a step, from one to the next.
        on_gpu: whether times are those of kernels.
    """

    stages: dict[str, StageTime]
    seconds: float
    on_gpu: bool


@dataclass(frozen=True)
class _Span:
    start: float
    end: float
    stage: str
    backward: bool = False


def read_trace(path: Path) -> StepTimes:
    """The stages of the steps in the trace at `path`, written by `profiling.profile`."""
    return stage_times(json.loads(path.read_text("utf-8"))["traceEvents"])


def stage_times(events: Iterable[Mapping[str, Any]]) -> StepTimes:
    """The stages of the steps among the events of a Chrome trace.

    Raises:
        ValueError: there is no step.
    """
    kinds: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for event in events:
        kinds["memory" if event["name"] == "[memory]" else event.get("cat", "")].append(event)
    ranges = kinds["user_annotation"]
    steps = [event for event in ranges if event["name"] == "step"]
    if not steps:
        raise ValueError("the trace has no range 'step'; make it by odmt-fast profile")
    stages = {name: StageTime() for name in STAGES}
    spans = _spans(ranges)
    starts = [span.start for span in spans]

    def stage_at(time: float) -> tuple[StageTime, bool] | None:
        # Spans follow each other, but for features, which begin within the wait and end before it.
        place = bisect_right(starts, time)
        for span in reversed(spans[max(place - 2, 0) : place]):
            if time < span.end:
                return stages[span.stage], span.backward
        return None

    for event in kinds["memory"]:
        if event["args"]["Bytes"] > 0 and (found := stage_at(event["ts"])):
            found[0].allocated += event["args"]["Bytes"]
    for span in spans:
        _add(stages[span.stage], span.end - span.start, span.backward)
    stages["loader wait"].forward -= stages["features"].forward
    kernels = sorted((e for kind in _KERNELS for e in kinds[kind]), key=lambda event: event["ts"])
    if kernels:
        _count_kernels(kernels, kinds, stages, stage_at)
    count = len(steps)
    for stage in stages.values():
        for name, value in vars(stage).items():
            scale = 1 if name in ("launches", "allocated") else _MICROSECOND
            setattr(stage, name, value * scale / count)
    ends = max(event["ts"] + event["dur"] for event in [*steps, *kernels])
    seconds = (ends - min(event["ts"] for event in steps)) * _MICROSECOND / count
    return StepTimes(stages, seconds, bool(kernels))


def _spans(ranges: list[Mapping[str, Any]]) -> list[_Span]:
    """When which stage ran on the host, by start; the backward pass cut at its marks."""
    marks = sorted(e["ts"] for e in ranges if e["name"] in (STATES_READY, ITEMS_READY))
    spans = []
    for event in ranges:
        start, end = event["ts"], event["ts"] + event["dur"]
        if event["name"] in STAGES:
            spans.append(_Span(start, end, event["name"]))
        elif event["name"] == "backward":
            cuts = [start, *(mark for mark in marks if start < mark < end), end]
            parts = zip(("loss", "users", "items"), cuts, cuts[1:], strict=False)
            spans += [_Span(first, last, stage, True) for stage, first, last in parts]
    return sorted(spans, key=lambda span: span.start)


def _count_kernels(
    kernels: list[Mapping[str, Any]],
    kinds: Mapping[str, list[Mapping[str, Any]]],
    stages: dict[str, StageTime],
    stage_at: Any,
) -> None:
    """Replaces the host's times of the stages by those of the kernels they launched."""
    launched = {
        event["args"]["correlation"]: event["ts"]
        for kind in ("cuda_runtime", "cuda_driver")
        for event in kinds[kind]
        if "correlation" in event.get("args", {})
    }
    for stage in stages.values():
        stage.backward = 0.0
    for name in ("items", "users", "loss", "optimizer"):
        stages[name].forward = 0.0
    free_from = kernels[0]["ts"]
    for event in kernels:
        gap = max(event["ts"] - free_from, 0.0)
        free_from = max(free_from, event["ts"] + event["dur"])
        if (found := stage_at(launched.get(event["args"].get("correlation"), -1.0))) is None:
            continue
        stage, backward = found
        stage.launches += 1
        stage.gaps += gap
        if stage is not stages["loader wait"]:
            _add(stage, event["dur"], backward)


def _add(stage: StageTime, time: float, backward: bool) -> None:
    if backward:
        stage.backward += time
    else:
        stage.forward += time
