"""Folders to read: a small official one made on the spot, and shared real data if present."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

SHARED = Path(
    os.environ.get("ODMT_FAST_SHARED", Path(__file__).parents[2].parent / "shared")
).resolve()


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Writes a small picture of one colour."""

    def write(path: Path, colour: tuple[int, int, int] = (200, 30, 40)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), colour).save(path)
        return path

    return write


@pytest.fixture
def official(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Three users, four items (one unused, one without picture, one without text)."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "behaviors.tsv").write_text(
        "anna\tmug vase mug bowl vase\nbob\tvase mug bowl mug vase bowl\ncleo\tmug vase\n"
    )
    (folder / "text.tsv").write_text("bowl\tA bowl\nlamp\tA lamp\nmug\t\nvase\tUne  vase bleuté\n")
    picture(folder / "images" / "bowl.jpg")
    picture(folder / "images" / "mug.png")
    picture(folder / "images" / "stray.jpg")
    return folder


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """The path of a shared data set; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / "data" / name
        if not path.is_dir():
            pytest.skip(f"shared data {path} is absent (ODMT_FAST_SHARED)")
        return path

    return find
