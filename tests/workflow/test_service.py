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
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from odmt_fast import Recommender
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
