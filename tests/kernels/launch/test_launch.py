"""Tiles fit the device they are picked for; the search for tiles stays off unless asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from odmt_fast.kernels.launch import tuning
from odmt_fast.kernels.launch.device import KNOWN, Device, Entry, first_fitting, no_room
from odmt_fast.kernels.packed_attention import configs as packed
from odmt_fast.kernels.readout_attention import configs as readout

TABLE = (
    Entry(64, "small", 10),
    Entry(128, "new", 90, architecture=90),
    Entry(128, "big", 90, architecture=80),
    Entry(128, "thrifty", 40),
)


@pytest.mark.parametrize(
    ("length", "device", "share", "expected"),
    [
        (1, KNOWN[90], 1.0, "small"),
        (65, KNOWN[90], 1.0, "new"),
        (128, KNOWN[80], 1.0, "big"),
        (128, KNOWN[86], 1.0, "big"),
        (128, KNOWN[75], 1.0, "thrifty"),
        (128, KNOWN[86], 2.0, "thrifty"),
    ],
)
def test_first_fitting(length: int, device: Device, share: float, expected: str) -> None:
    assert first_fitting(TABLE, length, device, share) == expected


def test_no_room() -> None:
    tiny = Device(architecture=75, shared_bytes=16 * 1024, processors=1)
    assert no_room(TABLE, 64, tiny) is None
    assert no_room(TABLE, 65, tiny) == (
        "no tile for segments of 65 tokens fits sm_75 with 16384 bytes of shared memory"
    )
    with pytest.raises(RuntimeError, match="set ODMT_FAST_BACKEND=reference"):
        first_fitting(TABLE, 65, tiny)


@pytest.mark.parametrize("device", KNOWN.values(), ids=str)
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("length", [1, 12, 64, 65, 128, 200, 512])
def test_attention_has_tiles(length: int, size: int, device: Device) -> None:
    """Everywhere but for the longest segments in the 64 KB of sm_75."""
    small = device.architecture == 75 and length > 256
    assert packed.forward_tile(device, size, length).block_n >= length
    if packed.limit(device, size, length) is None:
        tile = packed.forward_tile(device, size, length)
        assert tile.block_n >= length * tile.segments(length)
        backward = packed.backward_tiles(device, size, length)
        assert backward.queries.block_n >= length
        if backward.keys is not None:
            assert backward.keys.block_m >= length
    else:
        assert small and size == 4
    if readout.limit(device, size, length, 16) is None:
        assert readout.forward_tile(device, size, length, 16).block_n >= length
        assert readout.backward_tile(device, size, length, 16).block_n >= length
    else:
        assert small


@dataclass(frozen=True)
class Config:
    size: int


def test_search_is_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tuning.ENVIRONMENT_VARIABLE, raising=False)

    def never() -> list[Config]:
        raise AssertionError("searched")

    assert tuning.tuned("key", Config(1), never, lambda config: None) == Config(1)


def test_search_saves_the_fastest_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv(tuning.ENVIRONMENT_VARIABLE, "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "_found", {})
    monkeypatch.setattr(tuning, "_milliseconds", lambda run: float(run()))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")

    def launch(config: Config) -> int:
        if config.size == 1:
            raise RuntimeError("out of resources")
        return config.size

    found = tuning.tuned("key", Config(9), lambda: [Config(1), Config(3), Config(5)], launch)
    assert found == Config(3)
    saved = json.loads((tmp_path / "bench/tuned/A_GPU.json").read_text())
    assert saved == {"key": {"milliseconds": 3.0, "size": 3}}
