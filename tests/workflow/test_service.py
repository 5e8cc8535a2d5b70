"""The service over a bundle that encodes items: what it acknowledged is there, however it ends."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from odmt_fast import Recommender
from odmt_fast.cli import main
from odmt_fast.data.items import ImageSource
from odmt_fast.retrieval import bundle as bundles
from odmt_fast.retrieval.thumbnails import Thumbnails
from odmt_fast.service import Live, create_app


@pytest.fixture
def bundle(after_readme: Path, tmp_path: Path) -> Path:
    return shutil.copytree(after_readme / "bundle", tmp_path / "bundle")


def post(address: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def served(bundle: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves `bundle`, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "odmt_fast", "serve", str(bundle), "--port", "0", *flags],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " answers at http://" in line
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.wait()


def test_new_items(bundle: Path, shop: Path) -> None:
    picture = base64.b64encode((shop / "images" / "i03.png").read_bytes()).decode()
    live = Live(bundle)
    before = live.recommender
    with TestClient(create_app(live)) as client:
        new = [
            {"id": "n1", "text": "thing number 3", "picture": picture},
            {"id": "n2", "text": "Ein Ding"},
            {"id": "n3", "picture": picture},
        ]
        assert client.post("/items", json={"items": new}).json() == {"added": 3, "items": 27}
        body = {"history": ["i01", "n1"], "k": 5, "allow": ["n2", "n3"]}
        found = client.post("/recommend", json=body).json()["items"]
        assert {item["id"] for item in found} == {"n2", "n3"}
        # On the disk before the answer, as the command would have written them.
        loaded = Recommender.load(bundle)
        assert loaded.items.ids[-3:] == ("n1", "n2", "n3")
        assert loaded.parts.catalogue.equal(live.recommender.parts.catalogue)
        assert len(before.items) == 24
        again = client.post("/items", json={"items": new})
        assert again.status_code == 422 and "'n1' is in the catalogue already" in again.text
        damaged = base64.b64encode(b"no picture").decode()
        wrong = client.post(
            "/items", json={"items": [{"id": "n4"}, {"id": "n5", "picture": damaged}]}
        )
        assert wrong.status_code == 422
        assert wrong.json()["error"].startswith(
            "image of item 'n5' cannot be read: the file is not a picture"
        )
        assert len(live.recommender.items) == 27


def test_pictures_of_new_items(
    bundle: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "MOST_ADDED", 2)
    images = shop / "images"
    picture = base64.b64encode((images / "i03.png").read_bytes()).decode()

    def shown(client: TestClient) -> list[bool]:
        names = ("i00", "n1", "n2", "n3", "n4")
        found = [client.get("/picture", params={"item": name}).status_code for name in names]
        return [status == 200 for status in found]

    with TestClient(create_app(Live(bundle))) as client:  # a bundle without takes none
        first = {"id": "n0", "text": "thing", "picture": picture}
        assert client.post("/items", json={"items": [first]}).status_code == 200
        assert client.get("/picture", params={"item": "n0"}).status_code == 404
    asked = Recommender.load(bundle)
    sources = (ImageSource(images / "i00.png"), *(None,) * (len(asked.items) - 1))
    Thumbnails.of(replace(asked.items, images=sources)).save(bundle, asked.parts)
    live = Live(bundle)
    with TestClient(create_app(live)) as client:
        new = {"id": "n1", "text": "thing", "picture": picture}
        assert (
            client.post("/items", json={"items": [new, {"id": "n2", "text": "b"}]}).status_code
            == 200
        )
        assert shown(client) == [True, True, False, False, False]
        assert client.post("/reload").status_code == 200
        assert shown(client) == [True, True, False, False, False]
        # The command keeps them too, also where the bundle becomes one piece, or another.
        (tmp_path / "new.csv").write_text("item,text\nn3,third\n")
        (tmp_path / "more").mkdir()
        shutil.copy(images / "i05.png", tmp_path / "more" / "n3.png")
        words = ["add-items", str(bundle), str(tmp_path / "new.csv"), str(tmp_path / "more")]
        assert main([*words, "--output", str(tmp_path / "other")]) == 0
        assert main(words) == 0
        assert not [*bundle.glob("added-*")]
        assert client.post("/reload").status_code == 200
        assert shown(client) == [True, True, False, True, False]
        live.bundle = tmp_path / "other"
        assert client.post("/reload").status_code == 200
        assert shown(client) == [True, True, False, True, False]


def test_the_whole_table_of_a_shop(bundle: Path, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text((shop / "items.csv").read_text() + "n9,never bought\n")
    words = ["add-items", str(bundle), str(tmp_path / "all.csv")]
    assert main(words) == 1
    assert main([*words, "--skip-known"]) == 0
    assert Recommender.load(bundle).items.ids[24:] == ("n9",)
    assert main([*words, "--skip-known"]) == 0
    assert len(Recommender.load(bundle).items) == 25


def test_a_bundle_exchanged_behind_it_is_not_overwritten(bundle: Path) -> None:
    with TestClient(create_app(Live(bundle))) as client:
        other = Recommender.load(bundle)
        other.add_items({"item": ["mine"], "text": ["other"]})
        other.save(bundle, overwrite=True)
        body = {"items": [{"id": "n1", "text": "thing"}]}
        refused = client.post("/items", json=body)
        assert refused.status_code == 409 and "POST /reload" in refused.json()["error"]
        assert client.post("/reload").status_code == 200
        assert client.post("/items", json=body).json() == {"added": 1, "items": 26}
    assert Recommender.load(bundle).items.ids[-2:] == ("mine", "n1")


def test_kill_9_keeps_what_was_acknowledged(bundle: Path) -> None:
    acknowledged: list[str] = []
    with served(bundle) as (process, address):

        def add() -> None:
            for number in range(10_000):
                name = f"n{number}"
                try:
                    post(f"{address}/items", {"items": [{"id": name, "text": f"thing {number}"}]})
                except OSError:
                    return
                acknowledged.append(name)

        adding = threading.Thread(target=add)
        adding.start()
        while len(acknowledged) < 5 and adding.is_alive():
            time.sleep(0.01)
        process.kill()  # in the middle of a further one
        adding.join()
    assert len(acknowledged) >= 5
    assert set(acknowledged) <= set(Recommender.load(bundle).items.ids)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_signals_reload_and_end_it_in_order(bundle: Path) -> None:
    with served(bundle, "--wait-ms", "500") as (process, address), ThreadPoolExecutor(4) as pool:
        other = Recommender.load(bundle)
        other.add_items({"item": ["late"], "text": ["other"]})
        other.save(bundle, overwrite=True)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
                if json.load(answer)["items"] == 25:
                    break
        body = {"history": ["i01", "late"], "k": 3}
        asked = [pool.submit(post, f"{address}/recommend", body) for _ in range(4)]
        time.sleep(0.2)  # they have arrived and wait for others
        process.send_signal(signal.SIGTERM)
        assert all(len(answer.result()["items"]) == 3 for answer in asked)
        assert process.wait(60) == 143
