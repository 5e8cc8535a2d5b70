"""Reading pictures ahead of the encoder that waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from odmt_fast.features.encoder import Picture

T = TypeVar("T")


def read_batches(
    pictures: Sequence[Picture],
    prepare: Callable[[Any], T],
    done: Set[int] = frozenset(),
    *,
    batch_size: int,
    threads: int,
) -> Iterator[tuple[int, list[T]]]:
    """Yields (index of the first, prepared pictures) in order, the next batch already being read.

    Args:
        pictures: what to read.
        prepare: RGB ``PIL.Image`` -> what the encoder wants; runs in the threads.
        done: indices not wanted any more; a batch of nothing else is left out.
        batch_size: pictures of a batch (the last has fewer).
        threads: pictures read at the same time (Pillow decodes outside the interpreter lock).
    """
    starts = range(0, len(pictures), batch_size)
    batches = [range(first, min(first + batch_size, len(pictures))) for first in starts]
    batches = [batch for batch in batches if not set(batch) <= done]
    wanted = [pictures[index] for batch in batches for index in batch]
    ready = _prepared(wanted, prepare, ahead=2 * batch_size, threads=threads)
    for batch in batches:
        yield batch.start, [next(ready) for _ in batch]


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
