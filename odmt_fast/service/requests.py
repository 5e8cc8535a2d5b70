"""What may be asked: bodies of requests and their limits."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request

from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.pictures import PictureLimits
from odmt_fast.service.batching import Question

MAX_BODY_BYTES = 16 << 20
MAX_K = 1_000
MAX_HISTORY = 10_000
MAX_LISTED = 100_000
"""Names in allow or deny."""
MAX_SIMILAR = 256
MAX_NEW = 1_000
_PICTURES = PictureLimits(max_pixels=32_000_000, max_bytes=MAX_BODY_BYTES)

Name = Annotated[str, Field(min_length=1, max_length=1_000)]
K = Annotated[int, Field(ge=1, le=MAX_K)]
Listed = Annotated[list[Name], Field(max_length=MAX_LISTED)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Body = TypeVar("Body", bound=_Body)


async def body_of(request: Request, kind: type[Body]) -> Body:
    """What a request says, as `kind`.

    Raises:
        HTTPException: 415, it is not sent as JSON: pages elsewhere can make a browser send anything
            else without asking here first.
        ValidationError: it is no `kind`.
    """
    sent_as = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent_as != "application/json":
        raise HTTPException(415, f"content-type is {sent_as!r}; send application/json")
    return kind.model_validate_json(await request.body())


class RecommendBody(_Body):
    """Of POST /recommend: a history or a known user."""

    history: Annotated[list[Name], Field(min_length=1, max_length=MAX_HISTORY)] | None = None
    user: Name | None = None
    k: K = 10
    allow: Listed | None = None
    deny: Listed = []

    @model_validator(mode="after")
    def _one_of_two(self) -> RecommendBody:
        if (self.history is None) == (self.user is None):
            raise ValueError("give history (items, oldest first) or user, one of the two")
        return self

    def question(self) -> Question:
        """For the batcher."""
        past = self.user if self.history is None else tuple(self.history)
        assert past is not None
        allow = None if self.allow is None else frozenset(self.allow)
        return Question(past, self.k, allow, frozenset(self.deny))


class SimilarBody(_Body):
    """Of POST /similar."""

    items: Annotated[list[Name], Field(min_length=1, max_length=MAX_SIMILAR)]
    k: K = 10
    allow: Listed | None = None
    deny: Listed = []


class NewItem(_Body):
    """An item nobody has bought; `picture` is an image file in base64."""

    id: Name
    text: Annotated[str, Field(max_length=100_000)] | None = None
    picture: str | None = None


class ItemsBody(_Body):
    """Of POST /items."""

    items: Annotated[list[NewItem], Field(min_length=1, max_length=MAX_NEW)]


class PageQuery(_Body):
    """Of GET /: words to search for, and the items picked, oldest first."""

    q: Annotated[str, Field(max_length=200)]
    item: Annotated[list[str], Field(max_length=100)]

    @classmethod
    def of(cls, request: Request) -> PageQuery:
        """Raises a ValidationError where there is too much."""
        asked = request.query_params
        return cls(q=asked.get("q", ""), item=asked.getlist("item"))


class Pictures(AbstractContextManager["Pictures"]):
    """A folder for the pictures of a request, which are read by path; gone afterwards."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="odmt-fast-items-")

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def without_paths(self, message: str) -> str:
        """`message` less the paths of this folder, which are no business of clients."""
        return re.sub(re.escape(self._folder.name) + r"/\d+: ", "", message)

    def table(self, body: ItemsBody) -> ItemTable:
        """The items; their pictures are files named by their row.

        Raises:
            ValueError: a picture is not base64.
        """
        return ItemTable(
            tuple(item.id for item in body.items),
            tuple((item.text or "").strip() or None for item in body.items),
            tuple(self._source(row, item) for row, item in enumerate(body.items)),
        )

    def _source(self, row: int, item: NewItem) -> ImageSource | None:
        if item.picture is None:
            return None
        try:
            content = base64.b64decode(item.picture, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(
                f"the picture of item {item.id!r} is not base64; send the bytes of its file in it"
            ) from None
        file = Path(self._folder.name) / str(row)
        file.write_bytes(content)
        return ImageSource(file, limits=_PICTURES)
