"""A bundle that is read while another process exchanges it, or adds to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from odmt_fast.retrieval import Recommender
from odmt_fast.retrieval import bundle as bundles

from .test_bundle import grown, recommender

_READER = """
import sys
from odmt_fast import Recommender
print("ready", flush=True)
while not sys.stdin.closed:
    asked = Recommender.load("b")
    ids = asked.items.ids
    [items] = asked.recommend([[ids[0], ids[1]]], 3)
    print(len(ids), items[0].id, items[0].score.hex(), flush=True)
"""


def test_a_reader_sees_the_old_bundle_or_the_new_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process loads it over and over while this one exchanges it and adds to it."""
    monkeypatch.setattr(bundles, "MOST_ADDED", 1)
    both = [recommender(1), recommender(2, backbone="gru4rec")]
    both = [*both, *(grown(grown(asked, "n1"), "n2") for asked in both)]
    expected = set()
    for asked in (*both, *(grown(asked, "n1") for asked in both[:2])):
        first = asked.recommend([["i0", "i1"]], 3)[0][0]
        expected.add((str(len(asked.items.ids)), first.id, first.score.hex()))
    both[0].save(tmp_path / "b")
    with subprocess.Popen(
        [sys.executable, "-c", _READER],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as reading:
        try:
            assert reading.stdout is not None and reading.stderr is not None
            assert reading.stdout.readline() == "ready\n"
            for turn in range(30):
                asked = both[turn % 2]
                asked.save(tmp_path / "b", overwrite=True)
                for name in ("n1", "n2"):  # the second makes it one piece again
                    start, asked = len(asked.items), grown(asked, name)
                    asked.append(tmp_path / "b", start)
            assert reading.poll() is None, reading.stderr.read()
        finally:
            reading.terminate()
        seen = [tuple(line.split()) for line in reading.stdout.read().splitlines()]
    whole = [line for line in seen if len(line) == 3]  # the last may be cut
    assert len(whole) >= len(seen) - 1 and len(whole) > 5
    assert set(whole) <= expected and len(set(whole)) > 1


def test_a_bundle_exchanged_while_it_is_read_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [recommender(1), recommender(2)]
    asked[0].save(tmp_path)
    inner, left = bundles.load_tensors, [3]

    def exchanging(path: Path) -> object:
        if left[0] and "user_encoder" in path.name:
            left[0] -= 1
            asked[left[0] % 2].save(tmp_path, overwrite=True)
            path.unlink(missing_ok=True)
        return inner(path)

    monkeypatch.setattr(bundles, "load_tensors", exchanging)
    asked[1].save(tmp_path, overwrite=True)
    assert Recommender.load(tmp_path).parts.catalogue.equal(asked[0].parts.catalogue)
    left[0] = 1000
    with pytest.raises(ValueError, match="was exchanged 10 times while it was read"):
        Recommender.load(tmp_path)
