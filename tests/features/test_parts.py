"""A killed extraction goes on inside a shard, and no bit shows where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from odmt_fast.features.encoder import Encoder, EncoderIdentity, EncoderOptions
from odmt_fast.features.extract import extract
from odmt_fast.features.registry import load_encoder

GROUP = 3


class Killed(BaseException):
    """The process is gone, as far as the extraction can know."""


class Grouped(Encoder[str]):
    """Long texts first, in threes; a text's numbers depend on the others of its group."""

    def __init__(self, allowed: int = 1000, ending: type[BaseException] = Killed) -> None:
        self.dim, self.max_length, self.group = 2, 100, GROUP
        self.identity = EncoderIdentity("grouped", None, "0", {})
        self.allowed, self.ending = allowed, ending
        self.encoded = 0

    def encode(self, inputs: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
        order = sorted(range(len(inputs)), key=lambda row: (-len(inputs[row]), row))
        for first in range(0, len(order), GROUP):
            group = order[first : first + GROUP]
            letters = float(sum(len(inputs[row]) for row in group))
            for row in group:
                if self.encoded == self.allowed:
                    raise self.ending
                self.encoded += 1
                yield row, torch.full((len(inputs[row]), 2), letters)


def contents(path: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in path.iterdir() if not f.name.startswith(".lock")}


def parts(path: Path) -> list[Path]:
    return sorted(path.glob(".part-*"))


@pytest.fixture
def texts(catalogue: Any) -> Any:
    """13 items, 11 of them with a text of another length, in no order."""
    lengths = (5, 9, 2, 13, 0, 7, 1, 11, 4, 12, 0, 3, 8)
    names = tuple(f"i{row}" for row in range(len(lengths)))
    return replace(
        catalogue, ids=names, texts=tuple("x" * n or None for n in lengths), images=(None,) * 13
    )


@pytest.mark.parametrize("ending", [Killed, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("allowed", [1, 3, 4, 10])
def test_killed_as_often_as_may_be_it_ends_with_the_same_bytes(
    tmp_path: Path, texts: Any, allowed: int, ending: type[BaseException]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    extract(texts, "text", Grouped(), whole)
    encoded = sessions = 0
    for _ in range(2):
        encoder = Grouped(allowed, ending)
        try:
            extract(texts, "text", encoder, broken, checkpoint_minutes=0)
        except ending:
            sessions += 1
        encoded += encoder.encoded
    last = Grouped()
    extract(texts, "text", last, broken, checkpoint_minutes=0)
    assert contents(broken) == contents(whole)
    assert encoded + last.encoded <= 11 + sessions * (GROUP - 1)


def test_a_stop_saves_what_the_clock_has_not(tmp_path: Path, texts: Any) -> None:
    for ending, kept in ((Killed, 0), (KeyboardInterrupt, 1)):
        with pytest.raises(ending):
            extract(texts, "text", Grouped(7, ending), tmp_path, checkpoint_minutes=60)
        assert len(parts(tmp_path)) == kept


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone", "of another store"])
def test_parts_after_a_damaged_one_are_encoded_again(
    tmp_path: Path, texts: Any, damage: str
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    extract(texts, "text", Grouped(), whole)
    with pytest.raises(Killed):
        extract(texts, "text", Grouped(10), broken, checkpoint_minutes=0)
    first, second, third = parts(broken)
    content = bytearray(second.read_bytes())
    if damage == "a bit":
        content[-3] ^= 1
        second.write_bytes(content)
    elif damage == "cut":
        second.write_bytes(content[:-5])
    elif damage == "gone":
        second.unlink()
    else:
        second.write_bytes(first.read_bytes())
    with pytest.raises(Killed):
        extract(texts, "text", Grouped(1), broken, checkpoint_minutes=60)
    assert parts(broken) == [first] and not third.exists()
    last = Grouped()
    extract(texts, "text", last, broken)
    assert last.encoded == 11 - GROUP
    assert contents(broken) == contents(whole)


def test_a_fault_is_found_when_its_part_is_saved(tmp_path: Path, texts: Any) -> None:
    class Faulty(Grouped):
        def encode(self, inputs: Sequence[str]) -> Iterator[tuple[int, Tensor]]:
            for row, states in super().encode(inputs):
                yield row, states * (float("nan") if row == 7 else 1.0)

    faulty = Faulty()
    with pytest.raises(ValueError, match="item 'i8' has a NaN or infinite text feature"):
        extract(texts, "text", faulty, tmp_path, checkpoint_minutes=0)
    assert faulty.encoded == 3 * GROUP


@pytest.mark.parametrize(
    ("modality", "name", "missing"), [("text", "bert", 2), ("image", "vit", 1)]
)
def test_batches_of_a_real_encoder_are_those_of_a_whole_run(
    tmp_path: Path,
    catalogue: Any,
    tiny_encoder: Callable[[str], str],
    modality: Any,
    name: str,
    missing: int,
) -> None:
    options = EncoderOptions(batch_size=2, max_tokens=20)
    encoder = load_encoder(tiny_encoder(name), modality, options)
    extract(catalogue, modality, encoder, tmp_path / "whole", dtype="float32")
    for encoded in (3, 5):

        def kill(done: int, total: int, encoded: int = encoded) -> None:
            if done == missing + encoded:
                raise Killed

        with pytest.raises(Killed):
            extract(
                catalogue,
                modality,
                encoder,
                tmp_path / "broken",
                dtype="float32",
                checkpoint_minutes=0,
                progress=kill,
            )
        assert len(parts(tmp_path / "broken")) == encoded // 2
    extract(catalogue, modality, encoder, tmp_path / "broken", dtype="float32")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_killed_in_the_only_shard_goes_on_in_it(tmp_path: Path, texts: Any) -> None:
    code = """
import os, signal, sys
from types import SimpleNamespace
from odmt_fast.features.extract import extract
texts = [word or None for word in sys.argv[2].split(",")]
items = SimpleNamespace(ids=[f"i{i}" for i in range(len(texts))], texts=texts, images=())
def stop(done, total):
    if done == 9:
        os.kill(os.getpid(), signal.SIGKILL)
extract(items, "text", "hashed-words", sys.argv[1], checkpoint_minutes=0, progress=stop)
"""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, "-c", code, str(broken), ",".join(t or "" for t in texts.texts)]
    died = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert died.returncode == -signal.SIGKILL
    (broken / ".shard-00000.safetensors.1-2.part").write_bytes(b"of a killed writer")
    (broken / ".somebody-elses.1-2.part").write_bytes(b"mine")
    seen: list[int] = []
    extract(texts, "text", "hashed-words", broken, progress=lambda done, total: seen.append(done))
    assert seen[0] == 9  # the ninth was encoded, and not saved
    (broken / ".somebody-elses.1-2.part").unlink()
    extract(texts, "text", "hashed-words", whole)
    assert contents(broken) == contents(whole)


def test_a_negative_interval_is_refused(tmp_path: Path, texts: Any) -> None:
    with pytest.raises(ValueError, match="--checkpoint-minutes -1 must be at least 0"):
        extract(texts, "text", Grouped(), tmp_path, checkpoint_minutes=-1)
