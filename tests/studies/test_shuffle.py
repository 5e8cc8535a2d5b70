"""Histories in random order: targets stay, and a model that reads no order loses nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.cli import main
from odmt_fast.data import Sequences
from odmt_fast.studies.shuffle import with_shuffled_inputs


@given(
    users=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), max_size=6),
    seed=st.integers(0, 5),
)
def test_only_the_inputs_move(users: list[list[int]], seed: int) -> None:
    sequences = Sequences.from_lists(users)
    found = with_shuffled_inputs(sequences, seed)
    assert np.array_equal(found.offsets, sequences.offsets)
    for was, now in zip(users, found, strict=False):
        assert now[-1] == was[-1]
        assert sorted(now[:-1].tolist()) == sorted(was[:-1])


def test_every_order_is_as_likely_and_of_its_draw() -> None:
    sequences = Sequences.from_lists([[1, 2, 3, 9]] * 6000)
    found = with_shuffled_inputs(sequences, 1)
    orders = np.unique(found.items.reshape(-1, 4), axis=0, return_counts=True)[1]
    assert orders.size == 6
    # Five standard errors of 1,000 +- 29.
    assert np.abs(orders - 1000).max() < 145
    assert np.array_equal(with_shuffled_inputs(sequences, 1).items, found.items)
    assert not np.array_equal(with_shuffled_inputs(sequences, 1, 1).items, found.items)


def test_a_run_says_how_much_of_it_is_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, run = tmp_path / "shop", tmp_path / "run"
    shop.mkdir()
    rows = [f"u{u},i{(u + step) % 24:02d},{step}" for u in range(30) for step in range(7)]
    (shop / "interactions.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    small = "--width 8 --max-seq-len 6 --epochs 1 --device cpu --set model.user_layers=1"
    for words in (
        f"prepare {shop} {tmp_path / 'dataset'}",
        f"train --data {tmp_path / 'dataset'} -o {run} {small}",
    ):
        assert main(words.split()) == 0
    capsys.readouterr()
    assert main(["studies", "shuffle", str(run), "--draws", "2", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    kept = json.loads((run / "shuffle-test.json").read_text())
    assert kept["shuffled"] == values["shuffled"] and len(kept["shuffled"]) == 2
    assert all(draw["popularity"] == values["ordered"]["popularity"] for draw in kept["shuffled"])
    assert kept["shuffled"][0] != kept["ordered"]
    assert main(["studies", "shuffle", str(run)]) == 0
    assert "100.0%" in capsys.readouterr().out  # what counts only
    assert main(["studies", "shuffle", str(run), "--draws", "0"]) == 1
    assert "--draws 0 must be at least 1" in capsys.readouterr().err
