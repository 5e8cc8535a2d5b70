"""Times of one column are of one unit, whatever blocks and parts they come in."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.data import DataError, Filters, read
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.times import UNITS, TimeColumn

FILTERS = Filters(min_seq_len=3)
ITEMS = "item,text\n" + "".join(f"i{n},Tea\n" for n in range(4))


def parts(folder: Path, *times: Any) -> Path:
    """A folder of Parquet parts of two rows each, and its items i0, i1, ... in order of rows."""
    (folder / "items.csv").write_text(ITEMS)
    table = folder / "interactions.parquet"
    table.mkdir()
    for part, values in enumerate(times):
        rows = {"user": ["u"] * 2, "item": [f"i{2 * part}", f"i{2 * part + 1}"]}
        pq.write_table(pa.table({**rows, "timestamp": values}), table / f"part-{part}.parquet")
    return folder


def years(unit: str, *values: int, tz: str | None = None) -> Any:
    zone = UTC if tz else None
    return pa.array([datetime(year, 1, 1, tzinfo=zone) for year in values], pa.timestamp(unit, tz))


def order(folder: Path) -> str:
    data = read(folder, filters=FILTERS)
    return " ".join(data.items.ids[i - 1] for i in data.sequences[0].tolist())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (years("us", 2020, 2022), years("ms", 2021, 2023)),
        (years("ms", 2020, 2022), years("ns", 2021, 2023)),
        (years("us", 2020, 2022, tz="UTC"), years("us", 2021, 2023, tz="Asia/Tokyo")),
        (years("us", 2020, 2022), pa.array([date(2021, 1, 1), date(2023, 1, 1)])),
        (pa.array([0, 2]), pa.array([1.0, 3.0])),
        (pa.array([0, 2], pa.int32()), pa.array(["1", "3"]).cast(pa.string_view())),
    ],
)
def test_parts_in_several_units_are_put_in_time_order(
    tmp_path: Path, first: Any, second: Any
) -> None:
    assert order(parts(tmp_path, first, second)) == "i0 i2 i1 i3"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (years("us", 2020, 2022), pa.array([1, 3])),
        (pa.array([1, 3]), years("us", 2020, 2022)),
        (years("us", 2020, 2022), years("us", 2021, 2023, tz="UTC")),
        (years("ms", 2020, 2022), pa.array([1, 3], pa.timestamp("us"))),
    ],
)
def test_parts_that_do_not_compare_are_refused(tmp_path: Path, first: Any, second: Any) -> None:
    with pytest.raises(DataError, match=r"interactions\.parquet: column 'timestamp' is of type"):
        read(parts(tmp_path, first, second))


@pytest.mark.parametrize(
    ("times", "line", "found"),
    [
        ((1_600_000_000, 1_600_000_100_000, 1_600_000_200), 3, "milliseconds"),
        ((1_600_000_000_000, 5, 1_600_000_200), 4, "seconds"),
        ((1_600_000_000, 1_600_000_100, 1_600_000_200_000_000_000), 4, "nanoseconds"),
        ((1.6e9, 1.6e9, 1.6e15), 4, "microseconds"),
    ],
)
def test_mixed_units_are_refused_by_the_first_line(
    tmp_path: Path, times: tuple[float, ...], line: int, found: str
) -> None:
    rows = "".join(f"u,i{n},{time}\n" for n, time in enumerate(times))
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + rows)
    (tmp_path / "items.csv").write_text(ITEMS)
    with pytest.raises(DataError, match=rf"csv, line {line}: .* which seems to be {found} where"):
        read(tmp_path)


def test_mixed_units_are_refused_in_reviews(tmp_path: Path) -> None:
    times = (1_600_000_000, 1_600_000_100_000)
    reviews = [{"reviewerID": "u", "asin": "i", "unixReviewTime": time} for time in times]
    (tmp_path / "Things_5.json").write_text("".join(json.dumps(r) + "\n" for r in reviews))
    (tmp_path / "meta_Things.json").write_text('{"asin": "i", "title": "Tea"}\n')
    with pytest.raises(DataError, match=r"Things_5\.json, line 2: .* seems to be milliseconds"):
        read(tmp_path)


@given(st.lists(st.integers(-(2**40), 2**63 - 1), min_size=1, max_size=20), st.integers(1, 20))
def test_units_do_not_depend_on_blocks(values: list[int], size: int) -> None:
    """As one by one: the first value whose unit is another than that of the first that has one."""
    unit_of = [
        next((u for u, (least, end) in UNITS.items() if least <= v < end), None) for v in values
    ]
    known = [(at, unit) for at, unit in enumerate(unit_of) if unit]
    expected = next((at for at, unit in known if unit != known[0][1]), None)
    faults, found = Faults(Path("x.csv")), None
    column = TimeColumn("t", faults)
    try:
        for start in range(0, len(values), size):
            block = values[start : start + size]
            assert column.numbers(pa.array(block), start).tolist() == block
        faults.check()
    except DataError as error:
        found = error.line
    assert found == expected


def test_units_are_apart() -> None:
    edges = np.array(list(UNITS.values()), object).ravel()
    assert (edges[1:] > edges[:-1]).all()
