"""Palettes, and the patterns that cloth, clay and paper are printed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[Any]
Cover = tuple[Field, Field]
"""How much light colour covers the base, and how much accent covers both: [side, side], 0 to 1."""
Colour = tuple[int, int, int]

# A family of colours: the base, a light one and an accent that go with it, and its shade.
COLOURS = {
    "crimson": {"plain": "#c0293f", "light": "#fbe3d6", "trim": "#f08a7d", "deep": "#64101f"},
    "amber": {"plain": "#f2a51f", "light": "#fff3d6", "trim": "#c9591c", "deep": "#6b3d0c"},
    "moss": {"plain": "#5b9a3c", "light": "#eef2d8", "trim": "#b9c96c", "deep": "#34491c"},
    "teal": {"plain": "#1f9292", "light": "#dcf4ee", "trim": "#f4b183", "deep": "#0b4a50"},
    "indigo": {"plain": "#3b4fa3", "light": "#e2e7fa", "trim": "#8fa8ec", "deep": "#1a2356"},
    "plum": {"plain": "#9a3c97", "light": "#f6e2f2", "trim": "#dd92bd", "deep": "#451a42"},
    "slate": {"plain": "#434953", "light": "#f0eee8", "trim": "#d6bb55", "deep": "#262a31"},
    "blush": {"plain": "#f5a3ad", "light": "#fff6f3", "trim": "#93c7b6", "deep": "#a54e5c"},
}


def _band(x: Field, y: Field) -> Cover:
    height = y % 2.6 - 1.8
    return np.abs(height) < 0.45, np.abs(height) < 0.16


def _stripes(x: Field, y: Field) -> Cover:
    return y % 1 > 0.5, np.zeros_like(x)


def _diagonal(x: Field, y: Field) -> Cover:
    across = 0.8 * (x + y) % 1
    return across < 0.4, np.abs(across - 0.7) < 0.06


def _gingham(x: Field, y: Field) -> Cover:
    return (1.0 * (x % 1 < 0.5) + (y % 1 < 0.5)) / 2, np.zeros_like(x)


def _dots(x: Field, y: Field) -> Cover:
    across, down, _ = _nearest(x, y)
    return np.hypot(across, down) < 0.27, np.zeros_like(x)


def _zigzag(x: Field, y: Field) -> Cover:
    row, height = np.divmod(y + np.abs(x % 1 - 0.5), 1)
    return height > 0.5, (height <= 0.5) & (row % 3 == 0)


def _scallops(x: Field, y: Field) -> Cover:
    """Rows of discs that cover the row below; the topmost disc over a point colours it."""
    x, y = x / 1.2, y / 1.2
    radius = np.full_like(x, np.inf)
    for row in range(int(y.max() * 2) + 2, -1, -1):
        across = (x + 0.5 * (row % 2)) % 1 - 0.5
        here = np.hypot(across, y - row / 2)
        radius = np.where(here < 0.5, here, radius)
    return radius > 0.42, radius < 0.22


def _blossom(x: Field, y: Field) -> Cover:
    across, down, row = _nearest(x / 1.5, y / 1.5)
    radius, angle = np.hypot(across, down), np.arctan2(down, across)
    return radius > 0.26 + 0.1 * np.cos(5 * (angle + row)), radius < 0.11


def _nearest(x: Field, y: Field) -> tuple[Field, Field, Field]:
    """Of a staggered lattice: the way to the nearest point across and down, and its row."""
    row = np.round(y / 0.87)
    return (x + 0.5 * (row % 2) + 0.5) % 1 - 0.5, y - 0.87 * row, row


PATTERNS: dict[str, Callable[[Field, Field], Cover]] = {
    "band": _band,
    "stripes": _stripes,
    "diagonal": _diagonal,
    "gingham": _gingham,
    "dots": _dots,
    "zigzag": _zigzag,
    "scallops": _scallops,
    "blossom": _blossom,
}
"""Each takes places in units of the pattern's repeat."""


def cloth(pattern: str, colours: Mapping[str, Colour], side: int, step: float) -> Image.Image:
    """`side` x `side` pixels of a pattern that repeats after `step` of the side."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / np.float32(side * step)
    printed = Image.new("RGB", (side, side), colours["plain"])
    for colour, cover in zip(("light", "trim"), PATTERNS[pattern](x, y), strict=True):
        printed.paste(colours[colour], mask=Image.fromarray((255 * cover).astype(np.uint8)))
    return printed
