"""Pictures of the things in the demo shop: silhouette, palette and pattern, light and shadow."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from odmt_fast.data.demo.parts import Cover
from odmt_fast.data.demo.patterns import COLOURS, PATTERN_PAINTERS, Colour, Palette
from odmt_fast.data.demo.silhouettes import SHAPES

OVERSAMPLING = 3
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
        pattern: a key of ``PATTERN_PAINTERS``.
        rng: gives small differences of size, place, tilt and light.
        side: width and height in pixels.
    """
    big = side * OVERSAMPLING
    colours = _tinted(COLOURS[palette], rng)
    size, tilt = rng.uniform(0.80, 0.92), rng.uniform(-4.0, 4.0)
    place = (round(big * rng.uniform(-0.025, 0.025)), round(big * rng.uniform(-0.01, 0.02)))

    thing = Image.new("RGB", (big, big), colours.plain)
    cloth = PATTERN_PAINTERS[pattern](colours, big, rng)
    for part, (box, mask) in zip(SHAPES[kind], _masks(kind, big), strict=True):
        cover = cloth.crop(box) if part.cover == "body" else _colour(colours, part.cover)
        thing.paste(cover, box, mask)
    thing = ImageChops.multiply(thing, _light(big))
    inner = round(big * size)
    thing, outline = (_turned(layer, inner, tilt) for layer in (thing, _outline(kind, big)))
    corner = ((big - inner) // 2 + place[0], (big - inner) // 2 + place[1])
    picture = _scene(colours, big, rng)
    picture.paste(SHADOW, mask=_shadow(outline, corner, big))
    picture.paste(thing, corner, outline)
    return picture.reduce(OVERSAMPLING)


def _shadow(outline: Image.Image, corner: tuple[int, int], side: int) -> Image.Image:
    """A soft ellipse under the lowest points of `outline`, drawn at a quarter of the size."""
    left, _, right, bottom = (value / 4 for value in outline.getbbox() or (0, 0, 0, 0))
    x, y = corner[0] / 4, corner[1] / 4
    small = Image.new("L", (side // 4, side // 4), 0)
    width, height = 0.04 * (right - left), 0.022 * side / 4
    box = [x + left + width, y + bottom - 2 * height, x + right + 2 * width, y + bottom + height]
    ImageDraw.Draw(small).ellipse(box, fill=120)
    return small.filter(ImageFilter.GaussianBlur(side * 0.004)).resize((side, side))


def _colour(colours: Palette, cover: Cover) -> Colour:
    return {
        "plain": colours.plain,
        "trim": colours.trim,
        "deep": colours.deep,
        "light": colours.light,
    }[cover]


def _tinted(palette: Palette, rng: np.random.Generator) -> Palette:
    """The palette, a little lighter or darker, warmer or colder."""
    shift = rng.uniform(-10, 10) + rng.uniform(-5, 5, size=3)

    def tint(colour: Colour) -> Colour:
        r, g, b = (int(min(max(c + s, 0), 255)) for c, s in zip(colour, shift, strict=True))
        return r, g, b

    return Palette(tint(palette.plain), palette.light, tint(palette.trim), tint(palette.deep))


def _turned(layer: Image.Image, side: int, degrees: float) -> Image.Image:
    """`layer` shrunk to `side` x `side` pixels and turned about its middle."""
    scale, angle = layer.width / side, math.radians(degrees)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    middle, half = layer.width / 2, side / 2
    matrix = (
        *(cos, -sin, middle - half * (cos - sin)),
        *(sin, cos, middle - half * (sin + cos)),
    )
    return layer.transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


@lru_cache(maxsize=64)
def _masks(kind: str, side: int) -> tuple[tuple[tuple[int, int, int, int], Image.Image], ...]:
    """For every part of a silhouette the box around it and its mask within the box."""
    masks = []
    for part in SHAPES[kind]:
        mask = Image.new("L", (side, side), 0)
        part.draw(ImageDraw.Draw(mask), side)
        box = mask.getbbox() or (0, 0, 1, 1)
        masks.append((box, mask.crop(box)))
    return tuple(masks)


@lru_cache(maxsize=64)
def _outline(kind: str, side: int) -> Image.Image:
    outline = Image.new("L", (side, side), 0)
    for box, mask in _masks(kind, side):
        outline.paste(255, box, mask)
    return outline


@lru_cache(maxsize=4)
def _light(side: int) -> Image.Image:
    """Light from the upper left: white where it falls, grey towards the right and the bottom."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    shade = 1.0 - 0.34 * np.clip(x - 0.42, 0, 1) ** 1.2 / 0.52 - 0.10 * np.clip(y - 0.5, 0, 1)
    grey = Image.fromarray((255 * np.clip(shade, 0, 1)).astype(np.uint8))
    return Image.merge("RGB", (grey, grey, grey))


def _scene(colours: Palette, side: int, rng: np.random.Generator) -> Image.Image:
    """A wall and a table in pale tones of the thing itself, as a photographer would choose."""
    white = rng.uniform(-0.04, 0.04)
    scene = Image.new("RGB", (side, side), _paler(colours.plain, WALL + white))
    table = [0, round(side * rng.uniform(0.67, 0.73)), side, side]
    ImageDraw.Draw(scene).rectangle(table, fill=_paler(colours.plain, TABLE + white))
    return scene


def _paler(colour: Colour, white: float) -> Colour:
    r, g, b = (round(c + (252 - c) * white) for c in colour)
    return r, g, b
