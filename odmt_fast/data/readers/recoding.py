"""Files in another encoding than UTF-8, read as UTF-8."""

from __future__ import annotations

import codecs
import difflib
import encodings.aliases
import io
from pathlib import Path
from typing import IO

from odmt_fast.data.errors import DataError

UTF8 = "utf-8"
_CHUNK = 1 << 20


def of_file(setting: str, path: Path) -> str | None:
    """The value of ``VALUE`` or ``FILE=VALUE`` for `path`; None where it is of another file."""
    name, equals, value = setting.partition("=")
    if not (name and equals):
        return setting
    return value if path.name == name else None


def is_utf8(encoding: str) -> bool:
    """Whether `encoding` is a name of UTF-8, with or without a byte order mark.

    Raises:
        ValueError: it is the name of no encoding of texts.
    """
    try:
        "a".encode(encoding)
        name = codecs.lookup(encoding).name
    except LookupError:
        known = [*encodings.aliases.aliases, *encodings.aliases.aliases.values()]
        near = difflib.get_close_matches(encoding.lower().replace("-", "_"), known, 1)
        hint = f"; did you mean {near[0]}?" if near else ", such as latin-1, cp1252 or utf-16"
        raise ValueError(f"--encoding {encoding} is not known{hint}") from None
    return name in (UTF8, "utf-8-sig")


class Translated(io.RawIOBase):
    """A file seen through a translation of its bytes; subclasses define `piece`.

    Args:
        file: its bytes; closed with this one.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self._left = file, b""

    def piece(self) -> bytes:
        """The next translated bytes; none at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills `buffer`; 0 = the end."""
        self._left = self._left or self.piece()
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def close(self) -> None:
        """Closes the file below too."""
        self._file.close()
        super().close()


class Recoded(Translated):
    """A file in another encoding as a stream of UTF-8.

    Args:
        path: the file, for errors.
        file: its bytes.
        encoding: a name Python knows.

    Raises:
        DataError: while it is read: bytes are not of that encoding, or all of them are UTF-8 beyond
            ASCII, which another encoding would garble.
    """

    def __init__(self, path: Path, file: IO[bytes], encoding: str) -> None:
        super().__init__(file)
        self._path, self._encoding = path, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rival: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder(UTF8)()
        self._beyond_ascii = False
        self._line, self._byte = 1, 0

    @property
    def _remedy(self) -> str:
        return (
            f"if another file is, pass --encoding FILE={self._encoding}; else name the right "
            "encoding"
        )

    def piece(self) -> bytes:
        """The next letters in UTF-8."""
        while True:
            raw = self._file.read(_CHUNK)
            letters = self._decoded(raw).encode()
            if letters or not raw:
                return letters

    def _decoded(self, raw: bytes) -> str:
        self._compare(raw)
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(self._encoding, "replace")
            raise DataError(
                self._path,
                f"not {self._encoding} (byte {self._byte + error.start + 1:,} of the file); "
                f"{self._remedy}",
                line=self._line + before.count("\n"),
            ) from error
        except UnicodeError as error:  # a byte order mark is missing
            raise DataError(
                self._path, f"not {self._encoding} ({error}); {self._remedy}", line=1
            ) from error
        self._line += text.count("\n")
        self._byte += len(raw)
        return text

    def _compare(self, raw: bytes) -> None:
        """Raises a DataError at the end of a file that is UTF-8 all the same."""
        if self._rival is None:
            return
        self._beyond_ascii |= not raw.isascii()
        try:
            self._rival.decode(raw, final=not raw)
        except UnicodeDecodeError:
            self._rival = None
            return
        # UTF-7 and the like write other letters in ASCII, UTF-16 with zeros between.
        if not raw and self._beyond_ascii:
            raise DataError(
                self._path,
                f"this is UTF-8, which --encoding {self._encoding} would garble; {self._remedy}",
            )
