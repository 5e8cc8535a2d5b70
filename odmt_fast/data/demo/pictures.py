"""Pictures of the things in the demo shop: silhouette, palette and pattern, light and shadow."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter

from odmt_fast.data.demo.patterns import COLOURS, Colour, cloth
from odmt_fast.data.demo.shapes import parts

OVERSAMPLING = 2
SHADOW = (70, 55, 50)
# How much white a wall and a table mix into the colour of the thing.
WALL, TABLE = 0.68, 0.50


def render(
    kind: str, palette: str, pattern: str, rng: np.random.Generator, *, side: int = 96
) -> Image.Image:
    """A picture of `side` x `side` pixels, mode RGB.

    Args:
        kind: a key of ``SHAPES``.
        palette: a key of ``COLOURS``.
        pattern: a key of ``PATTERNS``.
        rng: gives small differences of colour, size, place and tilt.
        side: width and height in pixels.
    """
    big = side * OVERSAMPLING
    shift = rng.uniform(-10, 10) + rng.uniform(-5, 5, size=3)  # lighter, darker; warmer, colder
    colours = {
        name: _rgb(np.array(ImageColor.getrgb(colour)) + shift * (name != "light"))
        for name, colour in COLOURS[palette].items()
    }
    printed = cloth(pattern, colours, big, rng.uniform(0.12, 0.15))

    thing, outline = Image.new("RGB", (big, big)), Image.new("L", (big, big))
    for cover, mask in _parts(kind, big):
        thing.paste(printed if cover == "body" else colours[cover], mask=mask)
        outline.paste(255, mask=mask)
    thing = ImageChops.multiply(thing, _light(big))
    inner, tilt = round(big * rng.uniform(0.80, 0.92)), rng.uniform(-4, 4)
    thing, outline = (
        layer.resize((inner, inner), Image.Resampling.BILINEAR).rotate(
            tilt, Image.Resampling.BILINEAR
        )
        for layer in (thing, outline)
    )
    left, top = ((big - inner) // 2 + round(big * rng.uniform(-0.02, 0.02)) for _ in range(2))
    picture = _scene(colours["plain"], big, rng.uniform(0.67, 0.73))
    picture.paste(SHADOW, mask=_shadow(outline, left, top, big))
    picture.paste(thing, (left, top), outline)
    return picture.reduce(OVERSAMPLING)


@lru_cache(maxsize=64)
def _parts(kind: str, side: int) -> tuple[tuple[str, Image.Image], ...]:
    return tuple(parts(kind, side))


@lru_cache(maxsize=4)
def _light(side: int) -> Image.Image:
    """Light from the upper left: white where it falls, grey towards the right and the bottom."""
    y, x = np.mgrid[:side, :side] / (side - 1)
    shade = 1.0 - 0.34 * np.clip(x - 0.42, 0, 1) ** 1.2 / 0.52 - 0.10 * np.clip(y - 0.5, 0, 1)
    return Image.fromarray((255 * shade).astype(np.uint8)).convert("RGB")


def _scene(colour: Colour, side: int, edge: float) -> Image.Image:
    """A wall and a table in pale tones of the thing itself, as a photographer would choose."""
    base = np.array(colour)
    wall, table = (_rgb(base + (252 - base) * white) for white in (WALL, TABLE))
    scene = Image.new("RGB", (side, side), wall)
    scene.paste(table, (0, round(side * edge), side, side))
    return scene


def _shadow(outline: Image.Image, x: int, y: int, side: int) -> Image.Image:
    """A soft ellipse under the lowest points of `outline`, whose corner is at x, y."""
    left, _, right, bottom = outline.getbbox() or (0, 0, 0, 0)
    shadow = Image.new("L", (side, side))
    box = [x + left, y + bottom - 0.045 * side, x + right + 0.04 * side, y + bottom + 0.02 * side]
    ImageDraw.Draw(shadow).ellipse(box, fill=120)
    return shadow.filter(ImageFilter.BoxBlur(0.015 * side))


def _rgb(values: NDArray[np.float64]) -> Colour:
    r, g, b = (int(min(max(value, 0), 255)) for value in values)
    return r, g, b
