"""Options that readers share, and the flags of ``odmt-fast prepare`` that set them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from odmt_fast.data.readers.csv_format import CsvFormat
from odmt_fast.data.readers.recoding import UTF8, is_utf8, of_file
from odmt_fast.data.readers.times import TimeUnit

Rule = Literal["error", "drop"]
_FLAGS = {
    "user": "--user-column",
    "item": "--item-column",
    "timestamp": "--time-column",
    "item_id": "--item-id-column",
    "texts": "--text-columns",
    "image": "--image-column",
}


def flag(name: str) -> str:
    """The flag that sets the option `name` of a reader."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """What every reader takes.

    Attributes:
        encoding: of the text files, a name Python knows; ``FILE=NAME`` is of that file alone.
        unknown_items: "error" refuses interactions with items that the table of items lacks, "drop"
            leaves them out and counts them.
        missing_ids: "error" refuses rows whose user or item is blank or what programs write for a
            missing value, "drop" leaves them out and counts them.

    Raises:
        ValueError: a value is none of those an option takes.
    """

    encoding: str = UTF8
    unknown_items: Rule = "error"
    missing_ids: Rule = "error"

    def __post_init__(self) -> None:
        is_utf8(self.encoding.rpartition("=")[2])
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(kind) is Literal and value not in get_args(kind):
                raise ValueError(
                    f"{flag(name)} {value} does not exist; use {', '.join(get_args(kind))}"
                )

    def encoding_of(self, path: Path) -> str:
        """How the letters of `path` are written."""
        return of_file(self.encoding, path) or UTF8

    def check_files(self, *files: Path) -> None:
        """Raises a ValueError where an option is of a file that is not among those read."""
        for name in ("encoding", "delimiter"):
            setting = getattr(self, name, None)
            if setting and all(of_file(setting, file) is None for file in files):
                raise ValueError(
                    f"{flag(name)} {setting} is of no file that is read; these are "
                    f"{', '.join(file.name for file in files)}"
                )


@dataclass(frozen=True, kw_only=True)
class TabularOptions(ReaderOptions):
    """What readers of CSV and Parquet take besides.

    Attributes:
        delimiter: what stands between the columns of CSV files; see `CsvFormat`.
        quotes: whether their fields may stand in quotation marks; see `CsvFormat`.
        time_unit: unit of times that are numbers; see `TimeColumn`.
    """

    delimiter: str | None = None
    quotes: bool | None = None
    time_unit: TimeUnit = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.form  # refused now if it cannot be

    @property
    def form(self) -> CsvFormat:
        """How the CSV files are written."""
        return CsvFormat(self.encoding, self.delimiter, self.quotes)
