"""Palettes, and the patterns that cloth, clay and paper are printed with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """Colours of one family: `plain` the base, `light` and `trim` go with it, `deep` its shade."""

    plain: Colour
    light: Colour
    trim: Colour
    deep: Colour


def _palette(*colours: str) -> Palette:
    r, g, b = slice(0, 2), slice(2, 4), slice(4, 6)
    return Palette(*((int(c[r], 16), int(c[g], 16), int(c[b], 16)) for c in colours))


COLOURS: dict[str, Palette] = {
    "crimson": _palette("c0293f", "fbe3d6", "f08a7d", "64101f"),
    "amber": _palette("f2a51f", "fff3d6", "c9591c", "6b3d0c"),
    "moss": _palette("5b9a3c", "eef2d8", "b9c96c", "34491c"),
    "teal": _palette("1f9292", "dcf4ee", "f4b183", "0b4a50"),
    "indigo": _palette("3b4fa3", "e2e7fa", "8fa8ec", "1a2356"),
    "plum": _palette("9a3c97", "f6e2f2", "dd92bd", "451a42"),
    "slate": _palette("434953", "f0eee8", "d6bb55", "262a31"),
    "blush": _palette("f5a3ad", "fff6f3", "93c7b6", "a54e5c"),
}


def _band(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.plain)
    draw = ImageDraw.Draw(cloth)
    for top in (0.33, 0.66):
        draw.rectangle([0, top * side, side, (top + 0.11) * side], fill=c.light)
        draw.rectangle([0, (top + 0.035) * side, side, (top + 0.075) * side], fill=c.trim)
    return cloth


def _stripes(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.light)
    draw = ImageDraw.Draw(cloth)
    step = side * rng.uniform(0.10, 0.13)
    for i in range(int(side / step) + 1):
        draw.rectangle([0, i * step, side, (i + 0.5) * step], fill=c.plain)
    return cloth


def _diagonal(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.plain)
    draw = ImageDraw.Draw(cloth)
    step = side * rng.uniform(0.13, 0.16)
    for i in range(int(2 * side / step) + 2):
        draw.line([(i * step, 0), (i * step - side, side)], fill=c.light, width=round(0.4 * step))
        draw.line(
            [((i + 0.5) * step, 0), ((i + 0.5) * step - side, side)],
            fill=c.trim,
            width=round(0.10 * step),
        )
    return cloth


def _gingham(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.light)
    step = side * rng.uniform(0.12, 0.15)
    veil = Image.new("L", (side, side), 0)
    for horizontal in (False, True):
        stripes = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(stripes)
        for i in range(int(side / step) + 1):
            low, high = i * step, (i + 0.5) * step
            draw.rectangle([0, low, side, high] if horizontal else [low, 0, high, side], fill=128)
        veil = ImageChops.add(veil, stripes)
    cloth.paste(c.plain, mask=veil)
    return cloth


def _dots(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.plain)
    draw = ImageDraw.Draw(cloth)
    step = side * rng.uniform(0.12, 0.145)
    for row, column in np.ndindex(int(side / step) + 2, int(side / step) + 2):
        x, y, r = (column + 0.5 * (row % 2)) * step, row * 0.87 * step, 0.27 * step
        draw.ellipse([x - r, y - r, x + r, y + r], fill=c.light)
    return cloth


def _zigzag(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.light)
    draw = ImageDraw.Draw(cloth)
    step = side * rng.uniform(0.13, 0.16)
    for row in range(-1, int(side / step) + 2):
        points = [
            (i * 0.5 * step, (row + (0.5 if i % 2 else 0.0)) * step)
            for i in range(int(2 * side / step) + 3)
        ]
        fill = c.plain if row % 3 else c.trim
        draw.line(points, fill=fill, width=round(0.42 * step), joint="curve")
    return cloth


def _scallops(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.plain)
    draw = ImageDraw.Draw(cloth)
    step = side * rng.uniform(0.15, 0.18)
    for row in range(int(2 * side / step) + 2, -1, -1):
        for column in range(-1, int(side / step) + 2):
            x, y = (column + 0.5 * (row % 2)) * step, row * 0.5 * step
            for radius, fill in ((0.5, c.light), (0.42, c.plain), (0.22, c.trim)):
                r = radius * step
                draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    return cloth


def _blossom(c: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    cloth = Image.new("RGB", (side, side), c.light)
    draw = ImageDraw.Draw(cloth)
    step = side * rng.uniform(0.19, 0.22)
    turn = rng.uniform(0, 2 * math.pi)
    for row, column in np.ndindex(int(side / step) + 2, int(side / step) + 2):
        x, y = (column + 0.5 * (row % 2)) * step, row * 0.87 * step
        for leaf in range(5):
            angle = turn + row + leaf * 2 * math.pi / 5
            px, py = x + 0.21 * step * math.cos(angle), y + 0.21 * step * math.sin(angle)
            r = 0.15 * step
            draw.ellipse([px - r, py - r, px + r, py + r], fill=c.plain)
        r = 0.11 * step
        draw.ellipse([x - r, y - r, x + r, y + r], fill=c.trim)
    return cloth


PATTERN_PAINTERS: dict[str, Callable[[Palette, int, np.random.Generator], Image.Image]] = {
    "band": _band,
    "stripes": _stripes,
    "diagonal": _diagonal,
    "gingham": _gingham,
    "dots": _dots,
    "zigzag": _zigzag,
    "scallops": _scallops,
    "blossom": _blossom,
}
