"""Steps that are counted instead of taken: operators make their tensors and leave them unwritten.

Whatever writes by address, which torch does not see, is called through `run`. Within `dry` the call
is told instead of made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Teller = Callable[[str], None]
"""Is told the name of a call."""

_tellers: list[Teller] = []


@contextmanager
def dry(tell: Teller) -> Iterator[None]:
    """Within it, in every thread, `tell` is told of the calls that `run` does not make."""
    _tellers.append(tell)
    try:
        yield
    finally:
        _tellers.pop()


def run(call: Callable[..., object], /, *arguments: Any, **named: Any) -> None:
    """Makes a call of the compiled extension that returns nothing."""
    if _tellers:
        _tellers[-1](call.__name__)
    else:
        call(*arguments, **named)
