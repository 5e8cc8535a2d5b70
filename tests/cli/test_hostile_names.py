"""Ids, titles, names and paths that try to be markup, colours, cursor moves or several lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from odmt_fast.cli.text import one_line

Command = Callable[..., Any]

TITLES = (
    "poster [/limited edition]",
    "a :heart: [bold]mug[/bold]",
    "\x1b[31mred\x1b[0m \x1b[2J\x07",
    "two\nlines\r\nthree",
    "invoice \u202egnp.exe",
    "long " * 2000,
    "100 % {braces} $math$ \\n",
    "[link=file:///etc/passwd]click[/link]",
)
COMMA_ITEM = "set, of two [/x]"
ITEMS = (COMMA_ITEM, "[/i1]", *(f"i{n:02d}" for n in range(2, 16)))
USERS = ("[/u0]", ":heart: u1", *(f"u{n}" for n in range(2, 12)))
UNSEEN = ("\x1b", "\x07", "\r", "\u202e")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shop, dataset and run, made by the commands, in a folder whose name is markup too."""
    from odmt_fast.cli import main

    folder = tmp_path_factory.mktemp("work") / "[red]:heart: [" / "[bold]"
    shop = folder / "shop"
    (shop / "images").mkdir(parents=True)
    with (shop / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("item", "text"))
        rows.writerows((item, TITLES[n % len(TITLES)]) for n, item in enumerate(ITEMS))
    with (shop / "interactions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("user", "item", "timestamp"))
        for u, user in enumerate(USERS):
            rows.writerows((user, ITEMS[(u + t) % len(ITEMS)], t) for t in range(7))
    colours = np.random.default_rng(0).integers(0, 255, (len(ITEMS), 3))
    for item, colour in zip(ITEMS[2:], colours[2:], strict=True):
        Image.new("RGB", (8, 8), tuple(colour.tolist())).save(shop / "images" / f"{item}.png")
    small = ("--width", 16, "--max-seq-len", 5, "--epochs", 1, "--batch-size", 8)
    for words in (
        ("prepare", shop, folder / "dataset", "--missing-images", "allow"),
        ("extract", folder / "dataset", "--modality", "text", "--width", 16),
        ("extract", folder / "dataset", "--modality", "image", "--width", 16),
        ("train", "--data", folder / "dataset", "--output", folder / "run", *small),
    ):
        assert main([str(word) for word in (*words, "--debug")]) == 0
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("prepare", "{w}/shop", "{w}/again", "--overwrite"),
        ("extract", "{w}/dataset", "--modality", "text", "--width", "16"),
        ("train", "--data", "{w}/dataset", "--output", "{w}/run2", "--epochs", "1")
        + ("--width", "16", "--max-seq-len", "5", "--batch-size", "8"),
        ("evaluate", "{w}/run", "--slices"),
        ("recommend", "{w}/run", "--user", USERS[0], "--user", USERS[1], "--item", COMMA_ITEM)
        + ("-k", "9", "--export", "{w}/vectors"),
        ("plot", "{w}/run"),
        ("baselines", "--data", "{w}/dataset", "--models", "popularity,markov")
        + ("--set", "model.max_seq_len=5"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_every_command_shows_them_as_they_are(
    command: Command, work: Path, words: tuple[str, ...], as_json: bool
) -> None:
    done = command(*(w.format(w=work) for w in words), *(["--json"] if as_json else []))
    assert done.status == 0, done.err
    assert not [letter for letter in UNSEEN if letter in done.out + done.err]
    if as_json:
        values = json.loads(done.out)
        if words[0] == "recommend":
            assert set(values["recommendations"]) == {USERS[0], USERS[1], "history"}
    elif words[0] == "recommend":
        flat = " ".join(done.out.split())
        assert all(name in flat for name in USERS[:2])
        assert "[/limited edition]" in flat and ":heart: [bold]mug[/bold]" in flat
        assert "\\x1b[31mred" in flat and "\\u202egnp.exe" in flat
        assert max(map(len, done.out.splitlines())) < 200
    elif words[0] in ("prepare", "train", "plot"):
        assert "[red]:heart: [" in done.out.replace("\n", "")


HOSTILE = "[/limited edition] :heart: \x1b[31m\u202e\nx"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("recommend", "{w}/run", "--user", HOSTILE), 1),
        (("recommend", "{w}/run", "--item", HOSTILE), 1),
        (("evaluate", HOSTILE), 1),
        (("train", "--preset", HOSTILE), 1),
        (("train", "--set", HOSTILE), 1),
        (("prepare", HOSTILE, "{w}/out"), 1),
        (("extract", "{w}/dataset", "--modality", HOSTILE), 1),
        (("plot", HOSTILE), 1),
        (("demo", "--set", f"model.width={HOSTILE}"), 1),
        ((HOSTILE,), 2),
        (("recommend", "{w}/run", "-k", HOSTILE), 2),
        (("recommend", "{w}/run", HOSTILE), 2),
        (("train", "--" + HOSTILE), 2),
        (("train", "--epochs"), 2),
        (("recommend",), 2),
    ],
)
def test_errors_show_them_on_one_line(
    command: Command, work: Path, words: tuple[str, ...], status: int
) -> None:
    done = command(*(word.replace("{w}", str(work)) for word in words))
    assert done.status == status, done.err
    assert not [letter for letter in UNSEEN if letter in done.out + done.err]
    line = done.err.splitlines()[-1]
    assert line.startswith("error: ")
    # Typer says of a number what it is not, and leaves out what it was.
    if HOSTILE in words and "-k" not in words:
        assert "[/limited edition] :heart: \\x1b[31m\\u202e" in line


def test_an_item_with_a_comma_is_asked_for_by_itself(command: Command, work: Path) -> None:
    done = command("recommend", work / "run", "--history", COMMA_ITEM)
    assert done.status == 1 and "a name with a comma is given by --item" in done.err
    values = json.loads(command("recommend", work / "run", "--item", COMMA_ITEM, "--json").out)
    assert COMMA_ITEM not in {item["id"] for item in values["recommendations"]["history"]}


def test_one_line_is_idempotent_and_printable() -> None:
    for title in TITLES:
        shown = one_line(title)
        assert shown.isprintable() and one_line(shown) == shown
