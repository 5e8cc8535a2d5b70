"""docs/data.md: its files and commands work as they stand, and no option is left out."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from odmt_fast.cli import main
from odmt_fast.cli.app import app
from odmt_fast.data import READERS, Interactions
from odmt_fast.data.readers.options import flag

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
FILE = re.compile(
    r"^`([\w./-]+)`(?: in `([\w-]+)`)?\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE
)
COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for command in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page."""
    for name, encoding, content in FILE.findall(PAGE):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding or "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_example_runs(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "odmt-fast"
        assert main(words) == 0, f"{command}\n{capsys.readouterr().err}"
    texts = {
        name: Interactions.load(examples / "out" / name).items.texts
        for name in ("german", "marks", "log", "amazon", "awkward", "ml-1m", "recbole", "steam")
    }
    assert texts == {
        "german": ("Käse", "Öl"),
        "marks": ('27" screen', '"Best of" box'),
        "log": ("Mug. Acme", "Pot. Acme"),
        "amazon": ("Red yarn. Arts. Yarn", "Ruler & pen"),
        "awkward": ("Mug & saucer", None),
        "ml-1m": (
            "Toy Story (1995). Animation, Children's",
            "Jumanji (1995). Adventure",
            "Léon (1994). Crime",
        ),
        "recbole": ("A blue mug", 'A 5" pot', "Green tea"),
        "steam": ("Half Life. Action, Indie", "Portal. Puzzle"),
    }


def test_every_layout_and_every_flag_is_on_the_page() -> None:
    (prepare,) = [
        command
        for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
        if name == "prepare"
    ]
    flags = {word for option in prepare.params for word in (*option.opts, *option.secondary_opts)}
    told = {word for word in flags if word.startswith("--")} - {"--help"}
    assert [word for word in sorted(told) if f"{word}" not in PAGE] == []
    for kind, reader in READERS.items():
        assert f"| `{kind}` |" in PAGE
        for option in fields(reader.options):
            assert flag(option.name) in PAGE or f"--option {option.name}=" in PAGE, option.name
