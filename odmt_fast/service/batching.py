"""Questions that arrive together are one call of the recommender."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from odmt_fast.retrieval import Recommendation, Recommender
from odmt_fast.retrieval.limits import Names

Value = TypeVar("Value")
Answer = list[Recommendation] | ValueError

LARGEST = 256
"""Questions of one call."""
WAITING = 4096
"""Questions that may wait; further ones are refused at once."""


class BusyError(RuntimeError):
    """More waits than will be answered soon."""


@dataclass(frozen=True)
class Question:
    """A list that somebody wants.

    Attributes:
        past: a history, oldest first, or the name of a known user.
        k: items of the list.
        allow, deny: see `Recommender`.
    """

    past: tuple[str, ...] | str
    k: int
    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()


def answers(recommender: Recommender, questions: Sequence[Question]) -> list[Answer]:
    """The list of each question, or why there is none: a wrong question spoils no other.

    Questions with the same k and no allow are one call, as are those with the same k, allow and
    deny.
    """
    found: dict[int, Answer] = {}
    groups: dict[tuple[object, ...], list[tuple[int, list[str]]]] = {}
    for place, question in enumerate(questions):
        past = question.past
        try:
            history = recommender.history(past) if isinstance(past, str) else list(past)
            if not recommender.dense_ids(history):
                raise ValueError("the history is empty; give an item")
        except ValueError as error:
            found[place] = error
            continue
        together = None if question.allow is None else (question.allow, question.deny)
        groups.setdefault((question.k, together), []).append((place, history))
    for group in groups.values():
        places, histories = zip(*group, strict=True)
        asked = questions[places[0]]
        denied = [questions[place].deny for place in places]
        deny: Names = asked.deny if len(set(denied)) == 1 else denied
        try:
            lists = recommender.recommend(histories, asked.k, allow=asked.allow, deny=deny)
            found.update(zip(places, lists, strict=True))
        except ValueError as error:  # about k, allow and deny, which all of them have in common
            found.update(dict.fromkeys(places, error))
    return [found[place] for place in range(len(questions))]


class Batcher:
    """Collects questions for a moment and answers them on the one thread that computes.

    Args:
        current: the recommender of the next call.
        wait_s: seconds that a question may wait for others.
        on_batch: told how many questions a call had.
    """

    def __init__(
        self,
        current: Callable[[], Recommender],
        wait_s: float,
        on_batch: Callable[[int], object],
    ) -> None:
        self._current, self._wait_s, self._on_batch = current, wait_s, on_batch
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue(WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recommend")

    async def ask(self, question: Question) -> list[Recommendation]:
        """The list.

        Raises:
            ValueError: see `Recommender.recommend` and `Recommender.history`.
            BusyError: too many wait.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((question, future))
        except asyncio.QueueFull:
            raise BusyError(f"{WAITING} requests wait already; try again later") from None
        answer = await future
        if isinstance(answer, ValueError):
            raise answer
        return answer

    async def compute(self, call: Callable[[], Value]) -> Value:
        """Runs another call on the thread that computes, so that cores are not fought over."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def run(self) -> None:
        """Answers until it is cancelled."""
        while True:
            batch = [await self._queue.get()]
            if self._queue.qsize() < LARGEST - 1:
                await asyncio.sleep(self._wait_s)
            while len(batch) < LARGEST and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            questions = [question for question, _ in batch]
            recommender = self._current()
            self._on_batch(len(batch))
            try:
                found = await self.compute(partial(answers, recommender, questions))
            except Exception as error:  # a bug: whoever asked hears of it, the others go on
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, found, strict=True):
                if not future.done():
                    future.set_result(answer)

    def close(self) -> None:
        """Ends the thread once its call is done."""
        self._thread.shutdown()
