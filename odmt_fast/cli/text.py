"""Texts of other people (ids, titles, names, paths) made fit for a terminal."""

from __future__ import annotations

import unicodedata

# Controls, lone surrogates, and the marks that turn the direction of everything after them.
_UNSEEN = ("Cc", "Cs")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def hidden(letter: str) -> bool:
    """Whether `letter` does something to a terminal instead of being seen."""
    return unicodedata.category(letter) in _UNSEEN or letter in _DIRECTION


def visible(text: str) -> str:
    """`text` with every control character but line breaks as its escape, such as ``\\x1b``.

    A title cannot move the cursor, change colours, ring the bell or hide what follows. Tabs become
    spaces.
    """
    text = text.replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(
        ascii(letter)[1:-1] if letter != "\n" and hidden(letter) else letter for letter in text
    )


def one_line(text: str) -> str:
    """`visible` text without line breaks or runs of blanks."""
    return visible(" ".join(text.split()))
