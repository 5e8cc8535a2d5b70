"""A layout is one file and one line of the registry; sequences alone are a shop in every one."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from odmt_fast.cli import main
from odmt_fast.data import READERS, DataError, Filters, Interactions, ItemTable, Report, Sequences
from odmt_fast.data import read as read_folder
from odmt_fast.data.filters import Log
from odmt_fast.data.readers import Reader

ROOM = Path(__file__).parents[2] / "odmt_fast"
NEW = {"movielens": "movielens", "recbole": "recbole", "split": "ready_made", "steam": "steam"}


@dataclass(frozen=True)
class PlaylistOptions:
    """Of a layout that only this test knows."""

    least: float = 0.0
    texts: tuple[str, ...] = ("title",)


def read_playlists(path: Path, options: PlaylistOptions) -> Log:
    lists = [[1, 2, 3], [2, 3, 1]]
    texts = tuple(f"{'/'.join(options.texts)} {options.least}" for _ in "abc")
    items = ItemTable(("a", "b", "c"), texts, (None,) * 3)
    return Log(("u", "v"), items, Sequences.from_lists(lists), Report("playlists", str(path)))


def test_a_line_of_the_registry_is_all_that_a_reader_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(PlaylistOptions, read_playlists, lambda folder: (folder / "lists").exists())
    monkeypatch.setitem(READERS, "playlists", reader)
    (tmp_path / "lists").mkdir()
    words = ["--option", "least=4", "--option", "texts=title,artist", "--min-length", "3"]
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), *words]) == 0
    assert Interactions.load(tmp_path / "out").items.texts[0] == "title/artist 4.0"
    words = ["--kind", "playlists", "--option", "least=four"]
    assert main(["prepare", str(tmp_path), str(tmp_path / "out"), *words]) == 1


@pytest.mark.parametrize(("kind", "module"), NEW.items())
def test_a_reader_is_named_once_outside_its_file(kind: str, module: str) -> None:
    lines = []
    for file in (*(ROOM / "data" / "readers").glob("*.py"), *(ROOM / "cli").glob("*.py")):
        if file.name == f"{module}.py":
            continue
        tree = ast.parse(file.read_text("utf-8"))
        lines += [
            (file.name, node.lineno)
            for node in ast.walk(tree)
            if (isinstance(node, ast.Name) and node.id == module)
            or (isinstance(node, ast.Constant) and node.value == kind)
        ]
    assert len(set(lines)) == 1, lines
    assert lines[0][0] == "__init__.py"


def test_a_table_alone_is_a_shop_of_ids(tmp_path: Path) -> None:
    rows = ["user,item,timestamp", *(f"u,{item},{n}" for n, item in enumerate("cabc"))]
    (tmp_path / "interactions.csv").write_text("\n".join(rows) + "\n")
    data = read_folder(tmp_path, filters=Filters(min_seq_len=3))
    assert data.items.ids == ("c", "a", "b")
    assert data.sequences[0].tolist() == [1, 2, 3, 1]
    assert data.report.kind == "table, no items"
    (tmp_path / "products.csv").write_text("item,text\na,Tea\n")
    with pytest.raises(DataError, match=re.escape("no items here; expected items.parquet")):
        read_folder(tmp_path)
