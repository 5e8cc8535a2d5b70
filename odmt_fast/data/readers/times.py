"""A column of times as numbers that sort."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.faults import Faults

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "none"]
UNITS = {
    "s": (10**8, 10**10),
    "ms": (10**11, 10**13),
    "us": (10**14, 10**16),
    "ns": (10**17, 2**63),
}
"""Numbers that are a time of 1973 to 2286 in that unit since 1970; the ranges do not touch."""
_SPOKEN = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_AS_NUMBERS = "--time-unit none takes the numbers as they are"
_SCIENTIFIC = r"^\s*[+-]?\d(?:\.(?P<decimals>\d*))?[eE]\+?(?P<exponent>\d+)\s*$"


@dataclass
class TimeColumn:
    """A column of times that arrives block by block: numbers, dates, or ISO 8601 texts.

    Attributes:
        title: name of the column, for errors.
        faults: gathers what is no time; the numbers there are then of no use.
        unit: of times that are numbers: one of `UNITS`, which all must be in; "none" for any
            numbers; "auto" for any, unless they are in several of `UNITS`.
        kind: the Arrow type the first block of texts was read as.
        first: the Arrow type of the first block, texts parsed.
        rounded: times written in steps of more than one: as float32 or float16, or in scientific
            notation with too few digits.
    """

    title: str
    faults: Faults
    unit: TimeUnit = "auto"
    kind: Any = None
    first: Any = None
    rounded: int = 0
    _mixture_of: int = 0
    _on_grid: bool = True
    _whole_minutes: bool = True
    _beyond_grid: int = 0

    def numbers(self, column: Any, start: int) -> NDArray[Any]:
        """int64 or float64 values that sort by time.

        Args:
            column: the block.
            start: the row it begins at, from 0.

        Raises:
            DataError: the column is of a type that is no time, or another one than before.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        types = pa.types
        if not len(column):
            return np.empty(0, np.int64)
        if types.is_string_view(column.type):
            column = pc.cast(column, pa.string())
        if types.is_string(column.type) or types.is_large_string(column.type):
            column = self._parsed(column, start)
        if types.is_date(column.type):
            column = pc.cast(column, pa.timestamp("ms"))
        dated = types.is_timestamp(column.type)
        column = self._like_the_first(column)
        if dated:
            self._refuse_unit(column.type)
            column = pc.cast(column, pa.int64())
        elif not (types.is_integer(column.type) or types.is_floating(column.type)):
            raise DataError(
                self.faults.path,
                f"column {self.title!r} is of type {column.type}, which is not a time",
            )
        missing = pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
        self.faults.add(
            (np.flatnonzero(missing) + start).tolist(),
            lambda _: f"column {self.title!r} is empty or NaN",
        )
        values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
        if not dated:
            self._check_unit(np.where(missing, 0, values) if missing.any() else values, start)
            self._watch_rounding(values[~missing])
        return np.asarray(values, np.int64 if values.dtype.kind in "iu" else np.float64)

    def finish(self) -> int:
        """How many times were rounded, after the last block.

        Numbers of any type that all lie on the grid of float32 were one, unless they are whole
        minutes.
        """
        if self._on_grid and not self._whole_minutes:
            return max(self.rounded, self._beyond_grid)
        return self.rounded

    def _refuse_unit(self, kind: Any) -> None:
        if self.unit not in ("auto", "none"):
            raise DataError(
                self.faults.path,
                f"column {self.title!r} holds dates ({kind}), which --time-unit {self.unit} does "
                "not fit; leave it out",
            )

    def _like_the_first(self, column: Any) -> Any:
        """`column` in the unit of the first block: the parts of a table may differ in it.

        Raises:
            DataError: it is of a kind that does not compare with the first block, or finer.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self.first = first = self.first or column.type
        stamps = [pa.types.is_timestamp(kind) for kind in (first, column.type)]
        if not any(stamps):
            return column
        try:
            if all(stamps) and (first.tz is None) == (column.type.tz is None):
                return pc.cast(column, first)
        except pa.ArrowInvalid:  # it would lose digits
            pass
        raise DataError(
            self.faults.path,
            f"column {self.title!r} is of type {column.type} after rows of type {first}; write all "
            "parts alike",
        )

    def _check_unit(self, values: NDArray[Any], start: int) -> None:
        """Finds seconds, milliseconds ... since 1970 in one column."""
        if self.unit == "none":
            return
        if self.unit != "auto":
            least, end = UNITS[self.unit]
            outside = np.flatnonzero((values < least) | (values >= end))
            self.faults.add(
                (outside + start).tolist(),
                lambda row: (
                    f"column {self.title!r} has {values[row - start]}, which is no time in "
                    f"{_SPOKEN[str(self.unit)]} (1973 to 2286)"
                ),
                _AS_NUMBERS,
            )
            return
        self._check_mixture(values, start)

    def _check_mixture(self, values: NDArray[Any], start: int) -> None:
        if values.dtype == np.float16:
            return  # it ends below the first unit
        unit_of = np.zeros(values.size, np.int8)
        for number, (least, end) in enumerate(UNITS.values(), 1):
            unit_of[(values >= least) & (values < end)] = number
        timed = np.flatnonzero(unit_of)
        if not timed.size:
            return
        self._mixture_of = first = self._mixture_of or int(unit_of[timed[0]])
        names = ("", *_SPOKEN.values())
        self.faults.add(
            (timed[unit_of[timed] != first] + start).tolist(),
            lambda row: (
                f"column {self.title!r} has {values[row - start]}, which seems to be "
                f"{names[unit_of[row - start]]} where times before are {names[first]}"
            ),
            f"write all in one unit; {_AS_NUMBERS}",
        )

    def _watch_rounding(self, values: NDArray[Any]) -> None:
        """Counts numbers that are written in steps of more than one."""
        if not values.size:
            return
        coarse = values.dtype if values.dtype in (np.float16, np.float32) else np.dtype(np.float32)
        with np.errstate(over="ignore"):
            near = values.astype(coarse)
        steps = np.spacing(np.abs(near)) > 1
        if values.dtype == coarse:
            self.rounded += int(steps.sum())
            return
        self._on_grid &= bool((near[steps].astype(np.float64) == values[steps]).all())
        self._whole_minutes &= bool((values[steps] % 60 == 0).all())
        self._beyond_grid += int(steps.sum())

    def _parsed(self, column: Any, start: int) -> Any:
        """A column of texts as numbers or timestamps, all blocks alike."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kinds = [pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")]
        if self.kind is not None:
            kinds = kinds[:2] if self.kind in kinds[:2] else [self.kind]
        for kind in kinds:
            try:
                parsed = pc.cast(column, kind)
            except pa.ArrowInvalid:
                continue
            # A block without any value says nothing about the kind.
            self.kind = self.kind or (kind if parsed.null_count < len(parsed) else None)
            if pa.types.is_floating(kind):
                self.rounded += _coarsely_written(column)
            return parsed
        readable, kind = _readable(column, kinds)
        bad = np.flatnonzero(~readable)
        self.faults.add(
            (bad + start).tolist(),
            lambda row: (
                f"column {self.title!r} has {column[row - start].as_py()[:60]!r}, which is not a "
                "time like the ones before"
            ),
        )
        self.kind = self.kind or kind
        # Any value there will do: the fault is told.
        filled = pc.if_else(pa.array(readable), column, column[int(np.argmax(readable))])
        return pc.cast(filled if readable.any() else pa.nulls(len(column), pa.string()), kind)


def _readable(column: Any, kinds: list[Any]) -> tuple[NDArray[np.bool_], Any]:
    """Which texts are times like those before them, and the kind that reads them."""
    readable = np.zeros(len(column), bool)
    left = list(kinds)
    for at, value in enumerate(column):
        able = list(_able(value, left))
        readable[at] = bool(able)
        left = able or left
    return readable, left[0]


def _able(value: Any, kinds: list[Any]) -> Iterator[Any]:
    import pyarrow as pa

    for kind in kinds:
        try:
            value.cast(kind)
        except pa.ArrowInvalid:
            continue
        yield kind


def _coarsely_written(column: Any) -> int:
    """Texts in scientific notation whose last digit stands for more than one."""
    import pyarrow.compute as pc

    found = pc.drop_null(pc.extract_regex(column, _SCIENTIFIC))
    decimals = pc.utf8_length(pc.struct_field(found, "decimals"))
    exponent = pc.struct_field(found, "exponent")
    kept = np.array([min(int(digits), 400) for digits in exponent.to_pylist()], np.int64)
    return int((kept > np.asarray(decimals)).sum())
