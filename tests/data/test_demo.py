from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from odmt_fast.data import DataError, ImageSource, Sequences, detect, leave_one_out, read
from odmt_fast.data.demo import DemoOptions, ceiling, generate, write_demo
from odmt_fast.data.demo.catalogue import KINDS, MAKERS, PALETTES, PATTERNS, THEMES
from odmt_fast.data.demo.patterns import COLOURS
from odmt_fast.data.demo.patterns import PATTERNS as PRINTS
from odmt_fast.data.demo.pictures import render
from odmt_fast.data.demo.shapes import SHAPES

TINY = DemoOptions(users=60, items=90, side=24, seed=5)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "shop", TINY)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_folder_goes_through_the_official_reader(shop: Path) -> None:
    assert detect(shop) == "official"
    data = read(shop)
    catalogue, purchases = generate(TINY)
    assert data.n_users == TINY.users
    assert data.report.items_without_text == data.report.items_without_image == 0
    for user in (0, 7, 59):
        expected = [catalogue.ids[i - 1] for i in purchases.sequences[user]]
        assert [data.items.ids[i - 1] for i in data.sequences[user]] == expected
        assert len(set(expected)) == len(expected) >= 6
    image = data.items.images[0]
    assert image is not None and image.load().size == (24, 24)
    about = json.loads((shop / "demo.json").read_text())
    assert about["ceiling_hr@10"] == pytest.approx(ceiling(purchases), abs=1e-4)


def test_same_options_same_files_other_seed_other_shop(shop: Path, tmp_path: Path) -> None:
    again = write_demo(tmp_path / "again", TINY)
    assert contents(again) == contents(shop)
    other = write_demo(tmp_path / "other", DemoOptions(users=60, items=90, side=24, seed=6))
    assert contents(other)["behaviors.tsv"] != contents(shop)["behaviors.tsv"]


def test_existing_folders_are_respected(shop: Path, tmp_path: Path) -> None:
    before = (shop / "behaviors.tsv").stat().st_mtime_ns
    assert write_demo(shop, TINY) == shop
    assert (shop / "behaviors.tsv").stat().st_mtime_ns == before
    with pytest.raises(DataError, match="something other than the demo asked for"):
        write_demo(shop, DemoOptions(users=61, items=90))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="something other"):
        write_demo(tmp_path, TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("bad", [{"users": 0}, {"items": 79}, {"side": 8}, {"seed": -1}])
def test_options_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be at least"):
        DemoOptions(**bad)


def hit_rate(scores: np.ndarray, sequences: Sequences) -> float:
    """HR@10 of scores [users, n_items + 1] on the last items, everything before excluded."""
    rows = np.arange(len(sequences))
    targets = sequences.items[sequences.offsets[1:] - 1]
    history = sequences.cut(None, -1)
    scores = scores.copy()
    scores[:, 0] = -np.inf
    scores[history.user_of_item(), history.items] = -np.inf
    return float(((scores > scores[rows, targets][:, None]).sum(axis=1) < 10).mean())


def test_there_is_something_to_learn_and_each_part_adds_to_it() -> None:
    catalogue, purchases = generate(DemoOptions(users=1500, items=400, seed=3))
    sequences, n = purchases.sequences, len(catalogue.ids)
    history = sequences.cut(None, -1)
    users = history.user_of_item()
    popularity = np.tile(leave_one_out(sequences, n, 40).popularity, (len(sequences), 1))

    def liked(values: np.ndarray) -> np.ndarray:
        """Share of a user's last purchases that agree with each item in `values`."""
        recent = history.tail(6)
        seen = np.zeros((len(sequences), values.max() + 1))
        np.add.at(seen, (recent.user_of_item(), values[recent.items - 1]), 1)
        return np.pad(seen[:, values], ((0, 0), (1, 0)))

    follows = np.zeros((n + 1, n + 1))
    within = users[1:] == users[:-1]
    np.add.at(follows, (history.items[:-1][within], history.items[1:][within]), 1)
    circle = np.pad(catalogue.circle + 1, (1, 0))
    moves = np.zeros((circle.max() + 1, circle.max() + 1))
    np.add.at(moves, (circle[history.items[:-1][within]], circle[history.items[1:][within]]), 1)
    last = history.items[history.offsets[1:] - 1]
    odds = moves / moves.sum(axis=1, keepdims=True).clip(1)

    seen = liked(catalogue.palette) + 0.8 * liked(catalogue.pattern)
    said = liked(catalogue.theme) + 0.8 * liked(catalogue.maker)
    hidden = np.log(odds[circle[last]][:, circle] + 1e-3)
    base = hit_rate(popularity, sequences)
    markov = hit_rate(follows[last] + popularity, sequences)
    alone = [hit_rate(part + popularity, sequences) for part in (seen, said, hidden)]
    together = hit_rate(seen + said + hidden + popularity, sequences)
    best = ceiling(purchases)

    assert base < 0.12
    assert markov > 1.5 * base
    assert min(alone) > 1.3 * base
    assert together > 1.2 * max(alone)
    assert together > 3 * base
    assert together < best


def test_titles_say_theme_and_maker_but_not_what_the_picture_shows() -> None:
    catalogue, _ = generate(TINY)
    for i, title in enumerate(catalogue.titles):
        assert KINDS[catalogue.kind[i]] in title
        assert title.startswith(THEMES[catalogue.theme[i]])
        assert title.endswith(f"by {MAKERS[catalogue.maker[i]]}")
        assert not any(word in title.lower() for word in (*PALETTES, *PATTERNS))


def test_pictures_show_kind_palette_and_pattern() -> None:
    assert tuple(SHAPES) == KINDS and tuple(COLOURS) == PALETTES
    assert tuple(PRINTS) == PATTERNS

    def pixels(kind: str, palette: str, pattern: str, seed: int = 1) -> np.ndarray:
        image = render(kind, palette, pattern, np.random.default_rng(seed), side=32)
        assert (image.mode, image.size) == ("RGB", (32, 32))
        return np.asarray(image, dtype=float)

    mug = pixels("mug", "crimson", "dots")
    assert np.array_equal(mug, pixels("mug", "crimson", "dots"))
    for other in (("lamp", "crimson", "dots"), ("mug", "teal", "dots"), ("mug", "crimson", "band")):
        assert np.abs(mug - pixels(*other)).mean() > 3
    red, green, blue = pixels("cushion", "crimson", "dots")[12:20, 12:20].mean(axis=(0, 1))
    assert red > green + 40 and red > blue + 40


@pytest.mark.parametrize("kind", KINDS)
def test_things_fit_their_picture(kind: str) -> None:
    image = render(kind, "indigo", "dots", np.random.default_rng(2), side=48)
    pixels = np.asarray(image.convert("L"), dtype=float)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert border.min() > 120  # wall and table, no part of a thing
    assert pixels.min() < 90


def test_image_hint_never_goes_below_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    Image.new("RGB", (400, 300)).save(path)
    assert ImageSource(path).load().size == (400, 300)
    assert min(ImageSource(path).load(longest=100).size) >= 75
