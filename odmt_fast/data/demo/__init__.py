"""A small generated shop to try everything on, without a download.

Each item has a picture and a title that tell different halves of what people like about it, and
belongs to a hidden circle that only shows in what people buy one after the other (see `shoppers`).
The folder has the official layout, so it is read like any other data.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from odmt_fast.data.demo.catalogue import KINDS, PALETTES, PATTERNS, Catalogue, make_catalogue
from odmt_fast.data.demo.shoppers import Purchases, simulate
from odmt_fast.data.errors import DataError
from odmt_fast.randomness import numpy_generator

__all__ = ["DemoOptions", "generate", "write_demo"]

ABOUT = "demo.json"
VERSION = 3  # another one wherever the same options give another shop
ITEMS_A_CIRCLE = 25


@dataclass(frozen=True)
class DemoOptions:
    """Size and seed of the shop; the same options give the same files.

    Attributes:
        users: people who shop.
        items: things on sale.
        side: width and height of the pictures, in pixels.
        seed: another seed, another shop.

    Raises:
        ValueError: a number is out of range.
    """

    users: int = 3000
    items: int = 1000
    side: int = 96
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("users", 1), ("items", 80), ("side", 16), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


def generate(options: DemoOptions) -> tuple[Catalogue, Purchases]:
    """The items and what was bought, without the pictures."""
    catalogue = make_catalogue(
        options.items,
        max(options.items // ITEMS_A_CIRCLE, 2),
        numpy_generator(options.seed, "demo/catalogue"),
    )
    shoppers = numpy_generator(options.seed, "demo/shoppers")
    return catalogue, simulate(catalogue, options.users, shoppers)


def write_demo(
    directory: str | PathLike[str],
    options: DemoOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes behaviors.tsv, text.tsv, images/ and demo.json to `directory` and returns its path.

    The folder appears all at once. If it is there already and holds the same shop, nothing is done.
    `progress` is told after each picture how many are drawn, and of how many.

    Raises:
        DataError: something else is there.
    """
    options = options or DemoOptions()
    target = Path(directory)
    about = {"version": VERSION, "options": asdict(options)}
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        with suppress(OSError, ValueError, AttributeError):
            if about.items() <= json.loads((target / ABOUT).read_text("utf-8")).items():
                return target
        raise DataError(
            target, "this holds something other than the demo asked for; remove it or name another"
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        catalogue, purchases = generate(options)
        names = np.array(["", *catalogue.ids])
        bought = purchases.sequences
        _write_lines(
            partial / "behaviors.tsv",
            (f"u{u + 1:05d}\t{' '.join(names[bought[u]])}" for u in range(len(bought))),
        )
        _write_lines(
            partial / "text.tsv", map("\t".join, zip(catalogue.ids, catalogue.titles, strict=True))
        )
        _draw(partial / "images", catalogue, options, progress)
        about["ceiling_hr@10"] = round(ceiling(purchases), 4)
        (partial / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _draw(
    folder: Path,
    catalogue: Catalogue,
    options: DemoOptions,
    progress: Callable[[int, int], None] | None,
) -> None:
    from odmt_fast.data.demo.pictures import render

    folder.mkdir()
    for i, item in enumerate(catalogue.ids):
        looks = (
            KINDS[catalogue.kind[i]],
            PALETTES[catalogue.palette[i]],
            PATTERNS[catalogue.pattern[i]],
        )
        picture = render(
            *looks, numpy_generator(options.seed, "demo/picture", step=i), side=options.side
        )
        picture.save(folder / f"{item}.jpg", quality=88, subsampling=0)
        if progress is not None:
            progress(i + 1, len(catalogue.ids))


def ceiling(purchases: Purchases, k: int = 10) -> float:
    """HR@k of a model that knew every odd, on everybody's last purchase: the most one can get."""
    last = purchases.sequences.offsets[1:] - 1
    return float((purchases.surprise[last] < k).mean())
