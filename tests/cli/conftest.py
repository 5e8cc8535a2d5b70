"""A shop of a few users in the table layout, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odmt_fast.cli import main

USERS, ITEMS = 30, 24


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``odmt-fast`` with the given words."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSV tables and pictures: everybody walks round the catalogue."""
    folder = tmp_path_factory.mktemp("shop")
    colours = np.random.default_rng(0).integers(0, 255, (ITEMS, 3))
    (folder / "images").mkdir()
    items = ["item,text"]
    for item in range(ITEMS):
        items.append(f"i{item:02d},thing number {item}")
        if item != 5:
            Image.new("RGB", (16, 16), tuple(colours[item].tolist())).save(
                folder / "images" / f"i{item:02d}.png"
            )
    rows = ["user,item,timestamp"]
    for user in range(USERS):
        rows += [f"u{user},i{(user + step) % ITEMS:02d},{step}" for step in range(6 + user % 4)]
    (folder / "items.csv").write_text("\n".join(items) + "\n")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    return folder
