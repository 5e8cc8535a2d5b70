"""The routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from odmt_fast.retrieval import Recommendation
from odmt_fast.service import page, refusals
from odmt_fast.service.batching import Batcher, Question
from odmt_fast.service.live import Live
from odmt_fast.service.middleware import BodyLimit, Measured, Metrics
from odmt_fast.service.refusals import Json
from odmt_fast.service.requests import (
    MAX_BODY_BYTES,
    ItemsBody,
    PageQuery,
    Pictures,
    RecommendBody,
    SimilarBody,
    body_of,
)

WAIT_S = 0.002
_LOG = logging.getLogger("uvicorn.error")
# No script, nothing from elsewhere.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'"
)


def create_app(
    live: Live, *, wait_s: float = WAIT_S, max_body_bytes: int = MAX_BODY_BYTES
) -> Starlette:
    """An ASGI application over a bundle.

    Args:
        live: the bundle.
        wait_s: seconds that a request for a list may wait for others, to be answered with them.
        max_body_bytes: of a request.
    """
    metrics = Metrics()
    metrics.items.set_function(lambda: len(live.recommender.items))
    batcher = Batcher(lambda: live.recommender, wait_s, metrics.batch.observe)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        answering = asyncio.create_task(batcher.run())
        yield
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering
        batcher.close()

    async def recommend(request: Request) -> Json:
        body = await body_of(request, RecommendBody)
        return Json({"items": _plain(await batcher.ask(body.question()))})

    async def similar(request: Request) -> Json:
        body = await body_of(request, SimilarBody)
        lists = await batcher.compute(
            lambda: live.recommender.similar(body.items, body.k, allow=body.allow, deny=body.deny)
        )
        return Json({"similar": [_plain(items) for items in lists]})

    async def items(request: Request) -> Json:
        body = await body_of(request, ItemsBody)
        await asyncio.to_thread(_add, live, body)
        return Json({"added": len(body.items), "items": len(live.recommender.items)})

    async def reload(request: Request) -> Json:
        error = await app.state.reload()
        if error:
            return refusals.refusal(409, error)
        return Json({"items": len(live.recommender.items)})

    async def health(request: Request) -> Json:
        now = live.recommender
        return Json(
            {
                "status": "ok",
                "items": len(now.items),
                "users": len(now.known.names),
                "branches": now.parts.branches,
                "search": live.search,
                "encodes_items": now.parts.item_side is not None,
            }
        )

    async def measured(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def pick(request: Request) -> HTMLResponse:
        asked = PageQuery.of(request)
        now, error = live.recommender, ""
        lists: list[Recommendation] = []
        try:
            if asked.item:
                lists = await batcher.ask(Question(tuple(asked.item), 10))
        except ValueError as wrong:
            error = str(wrong)
        shown = await asyncio.to_thread(page.found, now, asked.q)
        text = page.render(now, live.thumbnails, asked.q, asked.item, shown, lists, error)
        content = text.encode("utf-8", "replace")
        return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY})

    async def picture(request: Request) -> Response:
        jpeg = live.thumbnails.jpeg(request.query_params.get("item", ""))
        if jpeg is None:
            return refusals.refusal(404, "no picture of this item is here")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

    routes = [
        Route("/recommend", recommend, methods=["POST"]),
        Route("/similar", similar, methods=["POST"]),
        Route("/items", items, methods=["POST"]),
        Route("/reload", reload, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", measured),
        Route("/picture", picture),
        Route("/", pick),
    ]
    paths = [route.path for route in routes]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Measured, metrics=metrics, routes=paths),
            Middleware(BodyLimit, largest=max_body_bytes),
        ],
        exception_handlers=refusals.HANDLERS,
        lifespan=lifespan,
    )
    app.state.reload = lambda: _reload(live, metrics)
    return app


async def _reload(live: Live, metrics: Metrics) -> str:
    """Why the new bundle was refused; "" where it answers now."""
    try:
        await asyncio.to_thread(live.reload)
    except (ValueError, OSError) as error:
        metrics.reloads.labels("refused").inc()
        _LOG.error("the new bundle is refused, the old one stays: %s", error)
        return f"the new bundle is refused, the old one stays: {error}"
    metrics.reloads.labels("done").inc()
    _LOG.info("reloaded %s: %d items", live.bundle, len(live.recommender.items))
    return ""


def _add(live: Live, body: ItemsBody) -> None:
    side = live.recommender.parts.item_side
    reads = {encoder.modality for encoder in side.encoders} if side else set()
    if side and "image" not in reads and any(item.picture is not None for item in body.items):
        raise ValueError("the model of this bundle reads no pictures; leave picture out")
    with Pictures() as pictures:
        try:
            live.add(pictures.table(body))
        except ValueError as error:
            raise ValueError(pictures.without_paths(str(error))) from None


def _plain(items: list[Recommendation]) -> list[dict[str, Any]]:
    return [item.to_dict() for item in items]
