"""The page in a real browser: somebody searches, picks items, and sees what follows."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from PIL import Image

from odmt_fast.data.items import ImageSource
from odmt_fast.retrieval import Recommender
from odmt_fast.retrieval.thumbnails import Thumbnails
from odmt_fast.service import Live, create_app

from .browser import Browser

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; apt-get install chromium")
LISTED = "[...document.querySelectorAll('ol cite')].map(e => e.textContent)"
CHECKED = "[...document.querySelectorAll(':checked')].map(e => e.value)"


@pytest.fixture
def live(bundle: Path, tmp_path: Path) -> Live:
    """With a picture of every other item."""
    asked = Recommender.load(bundle)
    sources: list[ImageSource | None] = [None] * len(asked.items)
    for row in range(0, len(sources), 2):
        file = tmp_path / f"{row}.png"
        Image.new("RGB", (300, 200), (4 * row, 250 - 4 * row, 120)).save(file)
        sources[row] = ImageSource(file)
    items = replace(asked.items, images=tuple(sources))
    Thumbnails.of(items).save(bundle, asked.parts)
    return Live(bundle)


@pytest.fixture
def address(live: Live) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(live), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


def test_pick_and_see(address: str, live: Live, tmp_path: Path) -> None:
    assert CHROMIUM
    with Browser(CHROMIUM, tmp_path / "profile") as browser:
        browser.open(address)
        assert browser.value("document.querySelector('.empty').textContent").startswith("Pick")
        assert browser.value(LISTED) == []
        # Picking, searching and showing, as a hand does.
        browser.value("document.querySelector('input[value=i5]').click()")
        browser.value("document.querySelector('input[name=q]').value = 'thing i4'")
        browser.follow("document.querySelector('button').click()")
        assert browser.value(f"{LISTED}.length") == 10
        assert browser.value(CHECKED) == ["i5"]
        offered = browser.value("[...document.querySelectorAll('[type=checkbox]')].length")
        assert offered == 12  # i5, and i4, i40 .. i49
        browser.value("document.querySelector('input[value=i42]').click()")
        browser.follow("document.querySelector('button').click()")
        assert browser.value(f"{CHECKED}.length") == 2
        [expected] = live.recommender.recommend([["i5", "i42"]], 10)
        assert browser.value(LISTED) == [
            (item.title or item.id).replace("\ud800", "?") for item in expected
        ]
        # The pictures have arrived, those that are there.
        images = "[...document.querySelectorAll('img')]"
        browser.value(f"{images}.forEach(e => e.loading = 'eager')")
        browser.until(f"{images}.length > 5 && {images}.every(e => e.naturalWidth == 128)")
        # Everything fits the window, and the style is applied in spite of the policy.
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        assert browser.value("getComputedStyle(document.querySelector('main')).display") == "grid"
        picture = browser.picture()
        assert picture.startswith(b"\x89PNG")
        if folder := os.environ.get("ODMT_FAST_SCREENSHOTS"):
            (Path(folder) / "page.png").write_bytes(picture)
