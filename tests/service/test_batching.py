"""Requests that come together are one call with the answers of single ones; reloads lose none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from odmt_fast.retrieval import Recommender
from odmt_fast.service import Live, batching, create_app
from odmt_fast.service.batching import BusyError, Question, answers

from .conftest import made


def within(live: Live, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Runs `work` with a client of an application that runs in the same loop."""

    async def main() -> None:
        app = create_app(live, wait_s=0.005)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            await work(client)

    asyncio.run(main())


def close(found: list[dict[str, Any]], expected: list[Any]) -> None:
    assert [item["id"] for item in found] == [item.id for item in expected]
    assert [item["score"] for item in found] == pytest.approx(
        [item.score for item in expected], abs=1e-5
    )


def test_together_is_as_one_by_one(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    inner = Recommender.recommend

    def counted(self: Recommender, histories: Any, *rest: Any, **named: Any) -> Any:
        calls.append(len(histories))
        return inner(self, histories, *rest, **named)

    alone = live.recommender
    bodies: list[dict[str, Any]] = [
        {"history": [f"i{n}", f"i{n // 2}"], "k": 3 + n % 2} for n in range(50)
    ]
    bodies[7] = {"history": ["unknown"]}
    bodies[8] = {"history": ["i1"], "allow": ["unknown"], "k": 3}
    expected = [
        None if n in (7, 8) else alone.recommend([body["history"]], body["k"])[0]
        for n, body in enumerate(bodies)
    ]
    monkeypatch.setattr(Recommender, "recommend", counted)

    async def work(client: httpx.AsyncClient) -> None:
        found = await asyncio.gather(*(client.post("/recommend", json=body) for body in bodies))
        for answer, items in zip(found, expected, strict=True):
            if items is None:
                assert answer.status_code == 422
            else:
                close(answer.json()["items"], items)

    within(live, work)
    assert sum(calls) == 49 and len(calls) <= 9


def test_a_bug_in_a_call_ends_that_call_alone(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(create_app(live), raise_server_exceptions=False) as client:
        with monkeypatch.context() as patch:
            patch.setattr(batching, "answers", lambda *_: 1 / 0)
            answer = client.post("/recommend", json={"history": ["i1"]})
            assert answer.status_code == 500 and "a fault of the service" in answer.json()["error"]
        assert client.post("/recommend", json={"history": ["i1"]}).status_code == 200


def test_too_many_that_wait_are_refused(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WAITING", 3)

    async def work() -> None:
        batcher = batching.Batcher(lambda: live.recommender, 0.0, lambda _: None)
        question = Question(("i1",), 3)
        waiting = [asyncio.create_task(batcher.ask(question)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="3 requests wait already"):
            await batcher.ask(question)
        running = asyncio.create_task(batcher.run())
        assert len(await asyncio.gather(*waiting)) == 3
        running.cancel()
        batcher.close()

    asyncio.run(work())


def test_answers_of_nobody(live: Live) -> None:
    assert answers(live.recommender, []) == []


def test_what_is_denied_to_each_is_one_call(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = live.recommender
    denied = [frozenset(f"i{n + step}" for step in range(n % 4)) for n in range(12)]
    questions = [Question(("i1", f"i{n}"), 4, None, deny) for n, deny in enumerate(denied)]
    expected = [asked.recommend([q.past], q.k, deny=q.deny)[0] for q in questions]
    calls: list[int] = []
    inner = Recommender.recommend

    def counted(self: Recommender, histories: Any, *rest: Any, **named: Any) -> Any:
        calls.append(len(histories))
        return inner(self, histories, *rest, **named)

    monkeypatch.setattr(Recommender, "recommend", counted)
    for items, theirs in zip(answers(asked, questions), expected, strict=True):
        assert isinstance(items, list)
        close([item.to_dict() for item in items], theirs)
    assert calls == [12]
    # One whose allow is denied entirely is told so, the others have their lists.
    both = [Question(("i1",), 3, frozenset(["i5"]), frozenset(d)) for d in ([], ["i5"])]
    mine, none = answers(asked, both)
    assert isinstance(mine, list) and [item.id for item in mine] == ["i5"]
    assert isinstance(none, ValueError) and "none of the 1 items of allow" in str(none)


def test_reload_under_traffic_loses_nothing(live: Live, bundle: Path) -> None:
    old, new = live.recommender, made(2, 70)
    lists = [[item.id for item in r.recommend([["i1"]], 5)[0]] for r in (old, new)]
    assert lists[0] != lists[1]
    seen = []

    async def work(client: httpx.AsyncClient) -> None:
        stop = asyncio.Event()

        async def ask() -> None:
            while not stop.is_set():
                answer = await client.post("/recommend", json={"history": ["i1"], "k": 5})
                assert answer.status_code == 200
                seen.append([item["id"] for item in answer.json()["items"]])

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(new.save, bundle, users=True, overwrite=True)
        answer = await client.post("/reload")
        assert answer.status_code == 200 and answer.json() == {"items": 70}
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*asking)

    within(live, work)
    assert seen[0] == lists[0] and seen[-1] == lists[1]
    assert all(items in lists for items in seen)


def test_a_damaged_bundle_is_refused_and_the_old_stays(
    client: TestClient, live: Live, bundle: Path
) -> None:
    before = client.post("/recommend", json={"history": ["i1"]}).json()
    (file,) = bundle.glob("items-*.safetensors")
    whole = file.read_bytes()
    for damaged in (whole[:-3], bytes([*whole[:-1], whole[-1] ^ 1])):
        file.write_bytes(damaged)
        answer = client.post("/reload")
        assert answer.status_code == 409 and file.name in answer.json()["error"]
    (bundle / "manifest.json").unlink()
    assert "is not a bundle" in client.post("/reload").json()["error"]
    assert client.post("/recommend", json={"history": ["i1"]}).json() == before
    assert 'odmt_fast_reloads_total{outcome="refused"} 3.0' in client.get("/metrics").text
