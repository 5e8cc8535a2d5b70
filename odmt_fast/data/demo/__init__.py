"""A small generated shop to try everything on, without a download.

Each item has a picture and a title that tell different halves of what people like about it, and
belongs to a hidden circle that only shows in what people buy one after the other (see `shoppers`).
The folder has the official layout, so it is read like any other data.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
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
VERSION = 2  # another one wherever the same options give another shop
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
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        if _is_demo(target, options):
            return target
        raise DataError(
            target, "this holds something other than the demo asked for; remove it or name another"
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write(partial, options, progress)
        if target.exists():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write(folder: Path, options: DemoOptions, progress: Callable[[int, int], None] | None) -> None:
    from odmt_fast.data.demo.pictures import render

    catalogue, purchases = generate(options)
    sequences = purchases.sequences
    names = np.array(["", *catalogue.ids])
    with (folder / "behaviors.tsv").open("w", encoding="utf-8", newline="\n") as file:
        for user in range(len(sequences)):
            file.write(f"u{user + 1:05d}\t{' '.join(names[sequences[user]])}\n")
    with (folder / "text.tsv").open("w", encoding="utf-8", newline="\n") as file:
        for item, title in zip(catalogue.ids, catalogue.titles, strict=True):
            file.write(f"{item}\t{title}\n")
    (folder / "images").mkdir()
    for i, item in enumerate(catalogue.ids):
        picture = render(
            KINDS[catalogue.kind[i]],
            PALETTES[catalogue.palette[i]],
            PATTERNS[catalogue.pattern[i]],
            numpy_generator(options.seed, "demo/picture", step=i),
            side=options.side,
        )
        picture.save(folder / "images" / f"{item}.jpg", quality=88, subsampling=0)
        if progress is not None:
            progress(i + 1, len(catalogue.ids))
    about = {
        "what": "a generated shop of odmt_fast; no rights of others are involved",
        "version": VERSION,
        "options": asdict(options),
        "ceiling_hr@10": round(ceiling(purchases), 4),
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def ceiling(purchases: Purchases, k: int = 10) -> float:
    """HR@k of a model that knew every odd, on everybody's last purchase: the most one can get."""
    last = purchases.sequences.offsets[1:] - 1
    return float((purchases.surprise[last] < k).mean())


def _is_demo(folder: Path, options: DemoOptions) -> bool:
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    wanted = {"version": VERSION, "options": asdict(options)}
    return isinstance(about, dict) and {name: about.get(name) for name in wanted} == wanted
