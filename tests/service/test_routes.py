"""Every route answers as the recommender does, and every wrong request is refused in one line."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from odmt_fast.data.items import ImageSource
from odmt_fast.retrieval import Recommender
from odmt_fast.retrieval.thumbnails import Thumbnails
from odmt_fast.service import Live, create_app
from odmt_fast.storage import DamagedFileError, FolderLock

from .conftest import made


def plain(items: list[Any]) -> list[dict[str, Any]]:
    return [item.to_dict() for item in items]


def test_lists_are_those_of_the_recommender(client: TestClient, live: Live) -> None:
    body = {"history": ["i5", "i6"], "k": 60, "deny": ["i9"]}
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 200
    [expected] = live.recommender.recommend([["i5", "i6"]], 60, deny=["i9"])
    assert len(expected) == 57
    # The title that UTF-8 lacks comes through JSON whole.
    assert answer.json() == {"items": plain(expected)}
    of_user = client.post("/recommend", json={"user": "anna", "k": 3, "allow": ["i7", "i0"]})
    [expected] = live.recommender.recommend([["i0", "i1", "i2"]], 3, allow=["i7", "i0"])
    assert of_user.json() == {"items": plain(expected)}
    near = client.post("/similar", json={"items": ["i4", "i8"], "k": 2})
    assert near.json() == {"similar": [plain(i) for i in live.recommender.similar(["i4", "i8"], 2)]}


def test_health_and_metrics(client: TestClient) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["items"] == 60 and health["users"] == 2
    assert not health["encodes_items"]
    client.post("/recommend", json={"history": ["i1"]})
    client.get("/no/such/path")
    text = client.get("/metrics").text
    assert 'odmt_fast_requests_total{route="/recommend",status="200"} 1.0' in text
    assert 'odmt_fast_requests_total{route="other",status="404"} 1.0' in text
    assert "odmt_fast_batch_questions_count 1.0" in text
    assert "odmt_fast_items 60.0" in text


WRONG: list[tuple[str, Any, int, str]] = [
    ("/recommend", {}, 422, "give history (items, oldest first) or user, one of the two"),
    ("/recommend", {"history": ["i1"], "user": "anna"}, 422, "one of the two"),
    ("/recommend", {"history": []}, 422, "history: "),
    ("/recommend", {"history": ["i1"], "k": 0}, 422, "k: "),
    ("/recommend", {"history": ["i1"], "k": 1001}, 422, "k: "),
    ("/recommend", {"history": ["i1"], "k": True}, 422, "k: "),
    ("/recommend", {"history": ["i1"], "K": 3}, 422, "K: "),
    ("/recommend", {"history": ["i1"] * 10_001}, 422, "at most 10000"),
    ("/recommend", {"history": ["x" * 1001]}, 422, "history.0: "),
    ("/recommend", {"history": ["i1"], "deny": ["x"] * 100_001}, 422, "deny: "),
    ("/recommend", {"history": ["no\nsuch"]}, 422, "is not in the catalogue of 60 items"),
    ("/recommend", {"history": ["i1"], "allow": ["x"]}, 422, "none of the 1 items of allow"),
    ("/recommend", {"user": "x"}, 422, "user 'x' is not among the 2 known users"),
    ("/recommend", {"user": "nobody"}, 422, "the history is empty"),
    ("/similar", {"items": ["i1"] * 257}, 422, "at most 256"),
    ("/similar", {"items": ["x"]}, 422, "item 'x' is not in the catalogue"),
    ("/items", {"items": []}, 422, "items: "),
    ("/items", {"items": [{"id": "n"}] * 1001}, 422, "at most 1000"),
    ("/items", {"items": [{"id": "n", "text": "a"}]}, 422, "nothing here encodes items"),
    ("/items", {"items": [{"id": "n", "picture": "?"}]}, 422, "of item 'n' is not base64"),
    ("/nowhere", {}, 404, "Not Found"),
    ("/health", {}, 405, "Method Not Allowed"),
]


@pytest.mark.parametrize(("route", "body", "status", "reason"), WRONG)
def test_refusals(client: TestClient, route: str, body: Any, status: int, reason: str) -> None:
    answer = client.post(route, json=body)
    error = answer.json()["error"]
    assert answer.status_code == status and reason in error
    assert "\n" not in error and len(error) <= 400
    # The next one is served.
    assert client.post("/recommend", json={"history": ["i1"]}).status_code == 200


def test_bodies_that_are_no_json(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    for content in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"k":' + b"9" * 5000 + b"}", b"NaN"):
        answer = client.post("/recommend", content=content, headers=headers)
        assert 400 <= answer.status_code < 500, content[:20]
        assert "\n" not in answer.json()["error"]


def test_what_a_page_elsewhere_could_send_is_refused(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.post("/items", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415 and "send application/json" in answer.json()["error"]
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/similar", content=b'{"items":["i1"]}', headers=headers).status_code == 200


def test_a_large_body_is_refused_announced_or_not(live: Live) -> None:
    with TestClient(create_app(live, max_body_bytes=1000)) as client:

        def pieces() -> Iterator[bytes]:
            yield from [b" " * 600] * 3

        for content in (b" " * 1001, pieces()):
            answer = client.post("/recommend", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"].startswith("the body has more than 1,000 bytes")
        assert client.post("/recommend", json={"history": ["i1"]}).status_code == 200


def mutated(draw: random.Random) -> bytes:
    """A body near a right one: values exchanged, keys lost, bytes flipped, ends cut."""
    values = [
        None,
        True,
        -1,
        0,
        10**30,
        1.5,
        "",
        "i1",
        "\ud800",
        [],
        ["i1"],
        [["i1"]],
        {},
        {"a": 1},
    ]
    body: dict[str, Any] = {"history": ["i1", "i2"], "k": 3, "allow": None, "deny": ["i3"]}
    for _ in range(draw.randrange(3)):
        body[draw.choice([*body, "user", "items", "x"])] = draw.choice(values)
    if draw.random() < 0.3:
        body.pop(draw.choice([*body]))
    text = bytearray(json.dumps(body).encode())
    for _ in range(draw.randrange(3)):
        text[draw.randrange(len(text))] = draw.randrange(256)
    return bytes(text[: draw.randrange(len(text) + 1)] if draw.random() < 0.2 else text)


def test_fuzzed_bodies_never_break_it(client: TestClient) -> None:
    draw = random.Random(0)
    seen = set()
    for _ in range(600):
        route = draw.choice(["/recommend", "/similar", "/items"])
        content = mutated(draw)
        answer = client.post(route, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400, 422), (route, content, answer.text)
        answer.json()
        seen.add(answer.status_code)
    assert 200 in seen and 422 in seen


def test_a_bundle_in_use_is_a_conflict(client: TestClient, live: Live) -> None:
    # A stand-in for what encodes, since this bundle has none.
    live.add = lambda items: FolderLock(live.bundle, "x").__enter__()  # type: ignore[method-assign,assignment,return-value]
    with FolderLock(live.bundle, "odmt-fast export"):
        answer = client.post("/items", json={"items": [{"id": "n"}]})
    assert answer.status_code == 409 and "odmt-fast export" in answer.json()["error"]


def test_the_page(client: TestClient) -> None:
    page = client.get("/", params={"q": "BOLD"})
    assert "&lt;b&gt;bold &amp; &#x27;brave&#x27;" in page.text and "<b>" not in page.text
    assert "thing i5" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    page = client.get("/", params=[("item", "i5"), ("item", "i0")])
    assert page.text.count(" checked") == 2 and page.text.count("<small>") >= 10
    wrong = client.get("/", params={"item": '"><script>'})
    assert "is not in the catalogue" in wrong.text and "<script" not in wrong.text
    assert client.get("/", params={"q": "x" * 201}).status_code == 422


def test_pictures(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (300, 100), (200, 10, 10)).save(file)
    asked = Recommender.load(bundle)
    images = (ImageSource(file), *(None,) * (len(asked.items) - 1))
    saved = Thumbnails.of(replace(asked.items, images=images)).save(bundle, asked.parts)
    live = Live(bundle)
    with TestClient(create_app(live)) as client:
        answer = client.get("/picture", params={"item": "i0"})
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size == (128, 43)
        for item in ({"item": "i1"}, {}):
            assert client.get("/picture", params=item).status_code == 404
        page = client.get("/", params={"item": "i0"}).text
        assert page.count("<img ") == 1 and 'src="/picture?item=i0"' in page
    # They stay with the user encoder, and a damaged file is refused by name.
    asked.save(bundle, overwrite=True)
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=saved.name):
        live.reload()
    made(2).save(bundle, overwrite=True)
    assert not saved.exists() and len(Thumbnails.load(bundle, made(2).parts)) == 0
    with pytest.raises(ValueError, match="no item of the dataset has a picture; leave --pictures"):
        Thumbnails.of(asked.items)
