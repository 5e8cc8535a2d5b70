"""Awkward inputs of real shops by the command line: read right, or refused with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from odmt_fast.cli import main
from odmt_fast.data import Interactions

CASES = Path(__file__).parent / "cases"
MOVIES = (
    "--kind table --option user=userId --option item=movieId --option item_id=movieId "
    "--option texts=title,genres --option interactions={0} --option items={1}"
).format
ATOMIC = (
    "--kind table --option interactions=ml.inter --option items=ml.item "
    "--option user=user_id:token --option item=item_id:token --option item_id=item_id:token "
    "--option timestamp=timestamp:float --option texts=movie_title:token_seq"
)

REFUSED = [
    ("01-hm-leading-zeros/c-only-transactions-resaved", "", "'0100028019' is, which differs only"),
    (
        "01-hm-leading-zeros/c-only-transactions-resaved",
        "--option unknown_items=drop",
        "all 36 interactions name items that are not in the item table",
    ),
    ("07-official-titles/a-one-title-missing", "", "--unknown-items drop leaves such items out"),
    ("07-official-titles/e-spaces-instead-of-tab", "", "text.tsv, line 1: no TAB"),
    ("07-official-titles/f-newline-in-csv-title", "", "x_title.csv, line 1: the quoted text"),
    ("08-movielens/b-latin1", MOVIES("ratings.csv", "movies.csv"), "movies.csv, line 4: not UTF-8"),
    (
        "08-movielens/f-utf16-from-excel",
        MOVIES("ratings.csv", "movies.csv") + " --encoding utf-16",
        "ratings.csv, line 1: not utf-16",
    ),
    (
        "08-movielens/f-utf16-from-excel",
        MOVIES("ratings.csv", "movies.csv"),
        "movies.csv, line 1: not UTF-8",
    ),
    ("08-movielens/g-semicolons", MOVIES("ratings.csv", "movies.csv"), "separated by ';'"),
    ("08-movielens/c-dat", MOVIES("ratings.dat", "movies.dat"), "separated by '::'"),
    (
        "08-movielens/d-u.data-no-header",
        MOVIES("u.data.tsv", "u.item.tsv"),
        "the first line is taken for the header",
    ),
    ("11-ids/a-float64-parquet", "", "column 'item' is of type double"),
    ("11-ids/d-binary-ids", "", "column 'user' is of type binary"),
    ("11-ids/f-int-with-null-users", "", "column 'user' is empty"),
    ("11-ids/g-float-text-against-int", "", "'104' is, which differs only"),
    ("11-ids/h-blanks-around", "", "'i4' is, which differs only"),
    ("11-ids/i-nfd-interactions-nfc-items", "", "which differs only in how it is written"),
    ("11-ids/j-nan-text-users", "", "column 'user' is 'nan', a missing value"),
    ("11-ids/k-case-differs", "", "'i4' is, which differs only"),
    ("11-ids/l-only-blanks", "", "column 'user' is empty"),
    ("11-ids/m-zero-width-and-nbsp", "", "'i2' is, which differs only"),
    ("15-parquet/a-text-is-a-list", "", "column 'text' is of type list"),
    ("15-parquet/d-text-float", "", "column 'text' is of type double"),
    ("15-parquet/h-csv-zip", "", "it holds "),
    ("22-lengths/b-sessions-of-one", "", "30 shorter than min_seq_len=3"),
    ("22-lengths/e-header-only", "", "has no rows"),
    ("22-lengths/f-empty-files", "", "items.csv"),
]
READ = [
    ("01-hm-leading-zeros/a-original", "", {"items_without_image": 0}),
    ("01-hm-leading-zeros/b-both-resaved-by-pandas", "", {"items_without_image": 0}),
    ("07-official-titles/b-title-empty", "", {"items_without_text": 1}),
    ("07-official-titles/c-quoted-csv-titles", "", {"items": 6}),
    ("07-official-titles/d-csv-with-header", "", {"items": 6}),
    ("08-movielens/a-csv", MOVIES("ratings.csv", "movies.csv"), {"items_without_text": 0}),
    ("08-movielens/e-recbole-atomic", ATOMIC, {"items_without_text": 0}),
    ("08-movielens/a-csv", "", {"items": 6, "items_without_text": 0}),
    ("08-movielens/c-dat", "", {"items": 6, "items_without_text": 0}),
    ("08-movielens/c-dat", "--option min_rating=2", {"interactions": 24, "ratings_low": 12}),
    ("08-movielens/e-recbole-atomic", "", {"items": 6, "items_without_text": 0}),
    ("21-split-already-made/input", "", {"interactions": 36, "items_without_text": 0}),
    (
        "08-movielens/b-latin1",
        MOVIES("ratings.csv", "movies.csv") + " --encoding latin-1",
        {"items_without_text": 0},
    ),
    (
        "08-movielens/f-utf16-from-excel",
        MOVIES("ratings.csv", "movies.csv") + " --encoding movies.csv=utf-16",
        {"items_without_text": 0},
    ),
    (
        "08-movielens/g-semicolons",
        MOVIES("ratings.csv", "movies.csv") + " --delimiter movies.csv=;",
        {"items_without_text": 0},
    ),
    ("07-official-titles/a-one-title-missing", "--unknown-items drop", {"items": 5}),
    ("11-ids/f-int-with-null-users", "--missing-ids drop", {"interactions_nameless": 1}),
    ("11-ids/l-only-blanks", "--missing-ids drop", {}),
    ("11-ids/j-nan-text-users", "--missing-ids drop", {}),
    ("11-ids/b-int-against-text", "", {}),
    ("11-ids/c-large-string-dictionary", "", {}),
    ("11-ids/e-string-view", "", {}),
    ("11-ids/n-quotes-comma-emoji-slash", "", {}),
    ("11-ids/o-nfd-picture-names", "", {"items_without_image": 0}),
    ("15-parquet/b-text-null-column", "", {"items_without_text": 6}),
    ("15-parquet/c-text-nan-object", "", {"items_without_text": 5}),
    ("15-parquet/e-folder-of-parts", "", {}),
    ("15-parquet/f-empty-row-group", "", {}),
    ("15-parquet/g-csv-and-parquet-both", "", {}),
    ("22-lengths/a-one-long-user", "", {"interactions": 10_036}),
    ("22-lengths/c-mostly-sessions-of-one", "", {"users_too_short": 30}),
    ("22-lengths/d-same-item-again-and-again", "", {}),
    ("22-lengths/g-exactly-three", "", {}),
]


@pytest.mark.parametrize(("case", "words", "expected"), REFUSED)
def test_refused(
    case: str, words: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["prepare", str(CASES / case), str(tmp_path / "out"), "--min-length", "3"]
    assert main([*arguments, *words.split()]) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert expected in error
    assert CASES.name in error and "(a bug" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("case", "words", "counts"), READ)
def test_read(case: str, words: str, counts: dict[str, int], tmp_path: Path) -> None:
    arguments = ["prepare", str(CASES / case), str(tmp_path / "out"), "--min-length", "3"]
    assert main([*arguments, *words.split()]) == 0
    report = vars(Interactions.load(tmp_path / "out").report)
    assert {name: report[name] for name in counts} == counts
