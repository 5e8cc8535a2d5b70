"""Around every request: its body is bounded, its time and status are counted."""

from __future__ import annotations

import time
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from odmt_fast.service.refusals import refusal

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_QUESTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What /metrics tells, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "odmt_fast_requests",
            "Answers by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "odmt_fast_request_seconds",
            "From the first byte of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "odmt_fast_batch_questions",
            "Questions answered by one call.",
            buckets=_QUESTIONS,
            registry=self.registry,
        )
        self.items = Gauge("odmt_fast_items", "Items of the catalogue.", registry=self.registry)
        self.reloads = Counter(
            "odmt_fast_reloads",
            "Reloads, by outcome: done or refused.",
            ["outcome"],
            registry=self.registry,
        )


class Measured:
    """Counts requests; paths that are no route are one, whatever people try.

    Args:
        app: what is measured.
        metrics: where to.
        routes: paths that are counted by name.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str]) -> None:
        self._app, self._metrics, self._routes = app, metrics, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        route = scope["path"] if scope["path"] in self._routes else "other"
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)
            await send(message)

        await self._app(scope, receive, counted)


class BodyLimit:
    """Refuses bodies of more than `largest` bytes, announced or not, before they are parsed."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > self._largest:
            return await self._refuse(scope, receive, send)
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._largest:
                return await self._refuse(scope, receive, send)
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = f"the body has more than {self._largest:,} bytes; send less at a time"
        await refusal(413, reason)(scope, receive, send)
