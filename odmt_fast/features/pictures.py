"""Reading pictures ahead of the encoder that waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from odmt_fast.features.encoder import Picture

T = TypeVar("T")


def read_batches(
    pictures: Sequence[Picture], prepare: Callable[[Any], T], *, batch_size: int, threads: int
) -> Iterator[tuple[int, list[T]]]:
    """Yields (index of the first, prepared pictures) in order, the next batch already being read.

    Args:
        pictures: what to read.
        prepare: RGB ``PIL.Image`` -> what the encoder wants; runs in the threads.
        batch_size: pictures of a batch (the last has fewer).
        threads: pictures read at the same time (Pillow decodes outside the interpreter lock).
    """
    ready = _prepared(pictures, prepare, ahead=2 * batch_size, threads=threads)
    for first in range(0, len(pictures), batch_size):
        yield first, [next(ready) for _ in range(min(batch_size, len(pictures) - first))]


def _prepared(
    pictures: Sequence[Picture], prepare: Callable[[Any], T], *, ahead: int, threads: int
) -> Iterator[T]:
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for picture in pictures:
            waiting.append(pool.submit(lambda source: prepare(source.load()), picture))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
