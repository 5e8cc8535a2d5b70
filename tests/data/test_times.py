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

from odmt_fast.data import AmazonOptions, DataError, Filters, TableOptions, read
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


def rounded(column: Any) -> int:
    faults = Faults(Path("x.csv"))
    times = TimeColumn("t", faults)
    for start in range(0, len(column), 2):  # in blocks
        times.numbers(column.slice(start, 2), start)
    faults.check()
    return times.finish()


SECONDS = [1_600_000_007, 1_600_000_108, 1_599_999_940, 1_600_100_001]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(SECONDS), 0),
        (pa.array(SECONDS, pa.float64()), 0),
        (pa.array(np.float32(SECONDS)), 4),
        (pa.array(np.float32(SECONDS).astype(np.float64)), 4),
        (pa.array(np.float32(SECONDS).astype(np.int64)), 4),
        (pa.array([str(value) for value in np.float32(SECONDS)]), 4),
        (pa.array(np.float16([2047, 2049, 4099, 1.5])), 2),
        (pa.array(np.float32([1.5, 2, 16_777_215, 3])), 0),
        (pa.array(["1.6e9", "1.6E+09", "1.600000001e9", "1600000001"]), 2),
        (pa.array(["1.6e9", "7", "1e400"]), 2),
        (pa.array([86_400 * day for day in (18_000, 18_001, 18_003)]), 0),
        (pa.array([1_599_999_872, 1_600_000_007]), 0),
        (pa.array(["2020-01-01", "2020-01-02"]), 0),
    ],
)
def test_times_in_coarse_steps_are_counted(column: Any, expected: int) -> None:
    assert rounded(column) == expected


@pytest.mark.parametrize("kind", ["float32", "scientific"])
def test_collapsed_neighbours_are_named_in_the_report(tmp_path: Path, kind: str) -> None:
    times = np.float32([1_600_000_007, 1_600_000_006, 1_600_000_005])
    (tmp_path / "items.csv").write_text(ITEMS)
    if kind == "float32":
        rows = {"user": ["u"] * 3, "item": ["i0", "i1", "i2"], "timestamp": times}
        pq.write_table(pa.table(rows), tmp_path / "interactions.parquet")
    else:
        lines = "".join(f"u,i{n},{time:.3e}\n" for n, time in enumerate(times))
        (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + lines)
    report = read(tmp_path, filters=FILTERS).report
    assert (report.times_rounded, report.times_equal) == (3, 2)
    shown = "\n".join(report.lines())
    assert "3 times in steps of more than one (float32 or scientific notation)" in shown


@pytest.mark.parametrize(
    ("unit", "times", "refused"),
    [
        ("none", (1_600_000_000, 1_600_000_100_000, 5), None),
        ("s", (1_600_000_000, 1_600_000_002, 1_600_000_001), None),
        ("ms", (1_600_000_000_000, 1_600_000_002_000, 1_600_000_001_000), None),
        ("s", (1_600_000_000, 5, 1_600_000_001), "csv, line 3: .* has 5, which is no time in sec"),
        ("ms", (1_600_000_000, 5, 7), "csv, line 2: .* in milliseconds .*3 faults in all"),
        ("ns", ("2020-01-01", "2020-01-02", "2020-01-03"), "holds dates .* --time-unit ns does"),
    ],
)
def test_a_unit_settles_what_the_numbers_leave_open(
    tmp_path: Path, unit: Any, times: tuple[Any, ...], refused: str | None
) -> None:
    rows = "".join(f"u,i{n},{time}\n" for n, time in enumerate(times))
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + rows)
    (tmp_path / "items.csv").write_text(ITEMS)
    options = TableOptions(time_unit=unit)
    if refused:
        with pytest.raises(DataError, match=refused):
            read(tmp_path, options=options)
        return
    expected = [f"i{n}" for n in np.argsort(times)]
    data = read(tmp_path, options=options, filters=FILTERS)
    assert [data.items.ids[i - 1] for i in data.sequences[0].tolist()] == expected


def test_mixed_units_name_the_way_on_which_every_reader_takes(tmp_path: Path) -> None:
    times = (1_600_000_000, 1_600_000_100_000, 1_600_000_000)
    reviews = [{"reviewerID": "u", "asin": "i", "unixReviewTime": time} for time in times]
    (tmp_path / "Things_5.json").write_text("".join(json.dumps(r) + "\n" for r in reviews))
    (tmp_path / "meta_Things.json").write_text('{"asin": "i", "title": "Tea"}\n')
    with pytest.raises(DataError, match="write all in one unit; --time-unit none takes"):
        read(tmp_path)
    data = read(tmp_path, options=AmazonOptions(time_unit="none"), filters=FILTERS)
    assert data.report.interactions == 3
