"""A folder in which README's first block has run: a tiny shop, a run and a bundle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
USERS, ITEMS = 30, 24


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSV tables and pictures: everybody walks round the catalogue."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "images").mkdir()
    colours = np.random.default_rng(0).integers(0, 255, (ITEMS, 3))
    items = ["item,text"]
    for item in range(ITEMS):
        items.append(f"i{item:02d},thing number {item}")
        picture = Image.new("RGB", (8, 8), tuple(colours[item].tolist()))
        picture.save(folder / "images" / f"i{item:02d}.png")
    rows = ["user,item,timestamp"]
    for user in range(USERS):
        rows += [f"u{user},i{(user + step) % ITEMS:02d},{step}" for step in range(6 + user % 4)]
    (folder / "items.csv").write_text("\n".join(items) + "\n")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def after_readme(shop: Path) -> Path:
    """The shop's folder after README's first block of Python."""
    page = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert found is not None
    assert len(found[1].strip().splitlines()) <= 12
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        exec(found[1], {})
    return shop
