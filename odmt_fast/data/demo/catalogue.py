"""The items of the demo shop: what each looks like, what its title says, and what neither tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What a kind can be made of (words that carry no taste), and the kinds people like to buy after it.
THINGS = {
    "mug": (("stoneware", "porcelain", "enamel"), ("teapot", "bowl")),
    "teapot": (("earthenware", "porcelain", "cast iron"), ("mug", "candle")),
    "vase": (("glass", "ceramic", "terracotta"), ("planter", "lamp")),
    "bowl": (("stoneware", "olive wood", "porcelain"), ("mug", "teapot")),
    "planter": (("terracotta", "ceramic", "zinc"), ("vase", "notebook")),
    "lamp": (("linen", "paper", "brass"), ("cushion", "candle")),
    "cushion": (("velvet", "linen", "wool"), ("lamp", "jumper")),
    "tote bag": (("canvas", "cotton", "felt"), ("notebook", "umbrella")),
    "jumper": (("lambswool", "merino", "cotton"), ("tote bag", "umbrella")),
    "umbrella": (("waxed", "silk", "canopy"), ("jumper", "tote bag")),
    "notebook": (("cloth-bound", "leather", "paper"), ("mug", "tote bag")),
    "candle": (("beeswax", "soy", "scented"), ("vase", "cushion")),
}
KINDS = tuple(THINGS)

# Words of a taste; a title carries one of them, so the same taste is said in many ways.
THEMES: tuple[tuple[str, ...], ...] = (
    ("Harbour", "Lighthouse", "Seaside", "Sailcloth"),
    ("Orchard", "Apple", "Cherry", "Harvest"),
    ("Midnight", "Starlit", "Moonrise", "Comet"),
    ("Alpine", "Glacier", "Summit", "Chalet"),
    ("Meadow", "Wildflower", "Clover", "Bumblebee"),
    ("Desert", "Cactus", "Canyon", "Oasis"),
    ("Circus", "Carnival", "Funfair", "Confetti"),
    ("Library", "Scholar", "Poet", "Storybook"),
)
MAKERS = (
    *("Finch & Daughter", "Old Mill Works", "Marlow Studio", "Sundry Bros."),
    *("Atelier Rosa", "Northgate", "Tin & Thread", "Juniper House"),
)
PALETTES = ("crimson", "amber", "moss", "teal", "indigo", "plum", "slate", "blush")
PATTERNS = ("band", "stripes", "diagonal", "gingham", "dots", "zigzag", "scallops", "blossom")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The latent attributes of n items; every array is int64 [n].

    Attributes:
        kind: place in KINDS; both title and picture show it.
        palette: place in PALETTES; only the picture shows it.
        pattern: place in PATTERNS; only the picture shows it.
        theme: place in THEMES; only the title says it.
        maker: place in MAKERS; only the title says it.
        circle: a group of items that are bought together; nothing shows it.
        rank: popularity of the item, 0 for the most popular.
        ids: names of the items.
        titles: titles of the items.
    """

    kind: NDArray[np.int64]
    palette: NDArray[np.int64]
    pattern: NDArray[np.int64]
    theme: NDArray[np.int64]
    maker: NDArray[np.int64]
    circle: NDArray[np.int64]
    rank: NDArray[np.int64]
    ids: tuple[str, ...]
    titles: tuple[str, ...]


def make_catalogue(n_items: int, n_circles: int, rng: np.random.Generator) -> Catalogue:
    """Draws `n_items` items; every value of every attribute is about equally frequent."""

    def balanced(n_values: int) -> NDArray[np.int64]:
        return rng.permutation(np.arange(n_items) % n_values)

    kind, theme, maker = balanced(len(KINDS)), balanced(len(THEMES)), balanced(len(MAKERS))
    return Catalogue(
        kind=kind,
        palette=balanced(len(PALETTES)),
        pattern=balanced(len(PATTERNS)),
        theme=theme,
        maker=maker,
        circle=balanced(n_circles),
        rank=rng.permutation(n_items),
        ids=tuple(f"p{number:05d}" for number in range(1, n_items + 1)),
        titles=tuple(
            f"{_pick(THEMES[t], rng)} {_pick(THINGS[KINDS[k]][0], rng)} {KINDS[k]} by {MAKERS[m]}"
            for k, t, m in zip(kind, theme, maker, strict=True)
        ),
    )


def _pick(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
