"""Damages lines of every layout: none is lost in silence, every refusal names its file."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from types import FrameType

from bench.torture.corpus import CORPUS, Source
from bench.torture.damage import mutate
from bench.torture.tally import Tally
from odmt_fast.data import READERS, DataError, Filters, read

_SECONDS = 5
_PIECES = (
    b'"', b"\t", b",", b";", b"::", b"|", b"\r", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"nan", b"NULL", b"None", b"1e9", b"-1", b"1e400", b"{", b"}", b"[" * 50,
    b"&amp;", b"\\u0000", b"\\ud800", b" ", b"\xc2\xa0", b"\xe2\x80\x8b", b"0" * 400, b"'",
)  # fmt: skip


def layouts() -> list[str]:
    """Names of every layout that can be read.

    Raises:
        LookupError: the corpus has none of a reader.
    """
    if missing := set(READERS) - {layout.kind for layout in CORPUS.values()}:
        raise LookupError(f"bench/torture/corpus.py lacks {', '.join(sorted(missing))}")
    return list(CORPUS)


def fuzz(name: str, folder: Path, seed: int, lines: int) -> Tally:
    """Reads sources of the layout `name` until `lines` damaged lines have passed.

    A trial is one source with some damaged lines. It is unchanged when it is read and every line
    left whole is found in what was read, refused when a DataError names one of its files.
    """
    tally = Tally(f"lines of {name}")
    chance = random.Random(f"{seed}/{name}")
    signal.signal(signal.SIGALRM, _expired)
    passed = 0
    while passed < lines:
        source = CORPUS[name].make(chance)
        place = folder / f"{name}-{seed}-{passed}"
        place.mkdir(parents=True)
        damaged = _write(source, place, chance)
        passed += len(damaged)
        _judge(tally, CORPUS[name].kind, source, place, damaged)
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
    tally.what = f"{passed:,} damaged lines of {name}"
    return tally


def _judge(
    tally: Tally, kind: str, source: Source, place: Path, damaged: dict[tuple[str, int], bytes]
) -> None:
    note = f"{kind}: " + "; ".join(
        f"{n}:{row + 1} {line[:80]!r}" for (n, row), line in damaged.items()
    )
    signal.alarm(_SECONDS)
    began = time.monotonic()
    try:
        found = read(place, kind, filters=Filters(min_seq_len=3), decode_images=False)
    except DataError as error:
        named = error.file.name in (*source.lines, place.name) and "\n" not in str(error)
        tally.count("refused" if named else "unnamed", f"{note}: {error}"[:400])
        return
    except Exception as error:
        tally.count("crashes", f"{note}: {type(error).__name__}: {error}"[:400])
        return
    finally:
        signal.alarm(0)
    bought = {
        user: {found.items.ids[i - 1] for i in found.sequences[row].tolist()}
        for row, user in enumerate(found.users)
    }
    whole: dict[str, set[str]] = {}
    for name, row, user, items in source.facts:
        if (name, row) not in damaged:
            whole.setdefault(user, set()).update(items)
    lost = {
        user: items - bought.get(user, set())
        for user, items in whole.items()
        if len(items) >= 3 and items - bought.get(user, set())
    }
    if found.report.interactions_unknown:  # counted, so not lost in silence
        lost = {}
    seconds = time.monotonic() - began
    tally.count("silent" if lost else "unchanged", f"{note}: lost {lost} ({seconds:.1f} s)"[:400])


def _write(source: Source, place: Path, chance: random.Random) -> dict[tuple[str, int], bytes]:
    """Writes the source, some of its lines damaged; those lines by file and row."""
    damaged: dict[tuple[str, int], bytes] = {}
    rate = chance.choice((0.01, 0.05, 0.3))
    for name, lines in source.lines.items():
        written = []
        for row, line in enumerate(lines):
            content = line.encode()
            if chance.random() < rate:
                content = damaged[name, row] = _damage(content, chance)
            written.append(content)
        (place / name).write_bytes(b"\n".join(written) + b"\n")
    return damaged


def _damage(line: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        at = chance.randrange(len(line) + 1)
        end = at + chance.choice((0, 0, 1, 3))
        return line[:at] + chance.choice(_PIECES) + line[end:]
    _, content = mutate(line, line[::-1], chance)
    return content or b""


def _expired(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"reading took more than {_SECONDS} s")
