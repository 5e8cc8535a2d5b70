"""Repeats and equal times are counted, and left out only when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.cli import main
from odmt_fast.data import Filters, Interactions, read
from odmt_fast.data.readers.columns import _repeats

# Every row twice, as from an export that was appended to itself; and two purchases at one time.
ROWS = [("u", item, time) for item, time in (("a", 1), ("b", 2), ("c", 3), ("d", 3), ("b", 4))]


@pytest.fixture
def exported_twice(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    lines = ["user,item,timestamp", *(f"{u},{i},{t}" for u, i, t in ROWS + ROWS)]
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    (folder / "items.csv").write_text("item,text\n" + "".join(f"{i},Tea\n" for i in "abcd"))
    return folder


def names(data: Interactions) -> str:
    return "".join(data.items.ids[i - 1] for i in data.sequences[0].tolist())


@pytest.mark.parametrize(
    ("repeats", "expected", "dropped"),
    [("keep", "aabbcdcdbb", 0), ("drop", "abcdb", 5), ("collapse", "abcdcdb", 3)],
)
def test_repeats(exported_twice: Path, repeats: str, expected: str, dropped: int) -> None:
    data = read(exported_twice, filters=Filters(min_seq_len=3, repeats=repeats))  # type: ignore
    assert names(data) == expected
    report = data.report
    assert (report.interactions_read, report.interactions_repeated) == (10, 5)
    assert (report.runs_repeated, report.repeats_dropped) == (3, dropped)
    assert report.times_equal == 1
    shown = "\n".join(report.lines())
    assert "5 interactions that repeat a row exactly (--repeats drop)" in shown
    assert "1 interactions at one time with another, kept in the source's order" in shown


def test_sequences_without_times_are_counted_too(tmp_path: Path) -> None:
    (tmp_path / "behaviors.tsv").write_text("u\ta a b b b c\nv\tc a b c\n")
    (tmp_path / "text.tsv").write_text("a\tTea\nb\tCup\nc\tPot\n")
    data = read(tmp_path, filters=Filters(min_seq_len=3, repeats="collapse"))
    assert names(data) == "abc"
    assert (data.report.runs_repeated, data.report.repeats_dropped) == (3, 3)


def test_the_command_takes_the_rule_and_refuses_others(
    exported_twice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", str(exported_twice), str(tmp_path / "out"), "--min-length", "3"]
    assert main([*words, "--repeats", "drop"]) == 0
    assert names(Interactions.load(tmp_path / "out")) == "abcdb"
    for flag in ("--repeats", "--missing-images"):
        assert main([*words, flag, "sometimes", "--overwrite"]) == 1
        assert f"{flag} sometimes does not exist; use" in capsys.readouterr().err


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=30))
def test_exact_repeats_are_those_of_a_set(rows: list[tuple[bool, int]]) -> None:
    tied = np.array([row[0] and at > 0 for at, row in enumerate(rows)], bool)
    items = np.array([row[1] for row in rows], np.int32)
    seen: set[int] = set()
    expected = []
    for same_group, item in zip(tied.tolist(), items.tolist(), strict=True):
        seen = seen if same_group else set()
        expected.append(item in seen)
        seen.add(item)
    assert _repeats(tied, items).tolist() == expected
