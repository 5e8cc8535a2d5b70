"""Who watches the choice of backends is told of each, and only while it watches."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from odmt_fast.kernels import backend
from odmt_fast.kernels.backend import Missing, choose, runs_anywhere, watched

CANDIDATES: dict[str, Missing] = {"cuda": lambda _: "no GPU", "reference": runs_anywhere}


def test_watchers_are_told_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    outer: list[str] = []
    inner: list[str] = []

    def into(noted: list[str]) -> backend.Watcher:
        def note(op: str, device: str, name: str, candidates: Mapping[str, Missing]) -> None:
            noted.append(f"{op} on {device}: {name} of {', '.join(candidates)}")

        return note

    with watched(into(outer)):
        choose("first", "cpu", CANDIDATES)
        with pytest.raises(RuntimeError, match="ended"), watched(into(inner)):
            choose("second", "cpu", CANDIDATES)
            raise RuntimeError("ended")
        choose("third", "cpu", CANDIDATES)
    choose("fourth", "cpu", CANDIDATES)
    assert outer == [f"{op} on cpu: reference of cuda, reference" for op in ("first", "third")]
    assert inner == ["second on cpu: reference of cuda, reference"]


def test_a_forced_backend_that_cannot_run_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.ENVIRONMENT_VARIABLE, "cuda")
    told: list[object] = []
    with watched(lambda *words: told.append(words)), pytest.raises(RuntimeError, match="no GPU"):
        choose("op", "cpu", CANDIDATES)
    assert not told
