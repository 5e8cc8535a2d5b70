"""Silhouettes of the things in the demo shop, as parts drawn from back to front.

A part says its cover, its form, and points "x,y" in hundredths of the picture, y downwards. The
cover is a colour of the palette, or "body", which takes the pattern. A curve goes smoothly through
its points; an ellipse and a box have two corners. The number after "line" is its width, the one
after "box" the radius of its corners.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

Points = list[tuple[float, ...]]
CURVE_STEPS = 10

SHAPES = {
    "mug": """
        plain line 6 66,40 83,40 86,56 78,69 64,70; body box 9 20,27 70,84; body box 2 20,27 70,50;
        light ellipse 20,21 70,34; deep ellipse 23.5,23.2 66.5,32.2""",
    "teapot": """
        plain line 5.5 70,45 87,42 89,58 80,70 70,70;
        plain curve 30,55 18,50 8,36 15,35 24,46 34,62;
        body curve 50,36 70,42 78,61 68,80 50,84 32,80 22,61 30,42; light ellipse 34,34 66,44;
        trim curve 36,38.5 42,31 50,29 58,31 64,38.5 50,41; deep ellipse 46,21.5 54,29.5""",
    "vase": """
        body curve 43,40 45,49 33,62 34,78 43,87 57,87 66,78 67,62 55,49 57,40;
        deep line 1.6 50,42 47,27 40,17; deep line 1.6 51,42 54,25 62,14; trim ellipse 33,10 45,22;
        trim ellipse 56,7 68,19; light ellipse 37,14 41,18; light ellipse 60,11 64,15;
        light ellipse 42,37.5 58,42.5; deep ellipse 44,38.5 56,41.5""",
    "bowl": """
        plain box 2 38,76 62,86; body curve 12,42 15,58 27,75 42,81 58,81 73,75 85,58 88,42 50,40;
        light ellipse 12,33 88,51; deep ellipse 15.5,35.2 84.5,48.8; trim ellipse 26,30 45,47;
        trim ellipse 54,31 72,47; light ellipse 40,26 59,44""",
    "planter": """
        deep curve 50,48 42,36 40,20 47,9 54,22 55,38;
        trim curve 49,48 36,43 25,32 22,20 35,25 46,37;
        trim curve 51,48 64,43 76,31 78,18 65,24 54,37; body polygon 28,50 72,50 65,87 35,87;
        plain box 2.5 25,45 75,55.5""",
    "lamp": """
        deep curve 32,87.5 50,82 68,87.5 50,90;
        plain curve 50,50 54,58 60,67 57,80 50,85 43,80 40,67 46,58;
        body polygon 37,14 63,14 81,53 19,53; trim line 2.4 19.5,52 80.5,52;
        trim line 2 37.2,15 62.8,15""",
    "cushion": """
        body curve 13,20 50,25 87,20 83,51 87,82 50,78 13,82 17,51;
        trim ellipse 10.5,16.5 16.5,22.5; trim ellipse 83.5,16.5 89.5,22.5;
        trim ellipse 10.5,79.5 16.5,85.5; trim ellipse 83.5,79.5 89.5,85.5""",
    "tote bag": """
        deep line 3.5 36,40 37,20 50,12 63,20 64,40; body polygon 20,36 80,36 84,87 16,87;
        plain polygon 20,36 80,36 80.7,43 19.3,43; trim box 1.2 62,70 74,80""",
    "jumper": """
        body polygon 34,22 20,30 7,69 19,74 30,48; body polygon 66,22 80,30 93,69 81,74 70,48;
        body polygon 34,21 66,21 74,32 72,84 28,84 26,32;
        plain polygon 28.5,79 71.5,79 71,86 29,86; plain polygon 7.5,65.5 20.5,70.5 18.5,76 5.5,71;
        plain polygon 92.5,65.5 79.5,70.5 81.5,76 94.5,71;
        plain curve 36,19 64,19 60,30 50,33 40,30; deep ellipse 40.5,16.5 59.5,27.5""",
    "umbrella": """
        deep line 2.6 50,12 50,80 53,87 60,86 62,79;
        body curve 9,54 13,37.5 25,24 50,16 75,24 87,37.5 91,54 77,49 64,55 50,49 36,55 23,49;
        deep line 0.9 50,16 40,32 36,55; deep line 0.9 50,16 60,32 64,55;
        trim ellipse 47.5,10 52.5,16.5""",
    "notebook": """
        light polygon 25,20 76,15 82,83 32,89; body polygon 20,17 71,12 77,81 26,86;
        deep polygon 20,17 28.5,16.2 34.5,85.2 26,86;
        light polygon 39,30 62,27.7 63.7,45 40.7,47.3; trim line 2.6 66.5,13 72.5,81""",
    "candle": """
        light curve 50,10 55.5,20.5 53,29 50,30.5 47,29 44.5,20.5;
        trim curve 50,16 53,22.5 51.5,27.5 50,28.5 48.5,27.5 47,22.5; body box 5 25,37 75,87;
        light ellipse 25,31 75,44; deep line 1.4 50,37.5 50,31""",
}


def parts(kind: str, side: int) -> Iterator[tuple[str, Image.Image]]:
    """The cover of every part of a silhouette, and its mask of `side` x `side` pixels."""
    for part in SHAPES[kind].split(";"):
        cover, form, *rest = part.split()
        size = float(rest.pop(0)) * side / 100 if form in ("line", "box") else 0.0
        points = [tuple(float(x) * side / 100 for x in point.split(",")) for point in rest]
        mask = Image.new("L", (side, side), 0)
        _draw(ImageDraw.Draw(mask), form, points, size)
        yield cover, mask


def _draw(draw: ImageDraw.ImageDraw, form: str, points: Points, size: float) -> None:
    if form == "ellipse":
        draw.ellipse([*points[0], *points[1]], fill=255)
    elif form == "box":
        draw.rounded_rectangle([*points[0], *points[1]], radius=size, fill=255)
    elif form == "line":
        path = _smooth([points[0], *points, points[-1]])
        draw.line(path, fill=255, width=round(size), joint="curve")
        for x, y in (path[0], path[-1]):
            draw.ellipse([x - size / 2, y - size / 2, x + size / 2, y + size / 2], fill=255)
    else:
        outline = _smooth([points[-1], *points, *points[:2]]) if form == "curve" else points
        draw.polygon(outline, fill=255)


def _smooth(points: Points) -> Points:
    """A Catmull-Rom curve from the second to the last but one of `points`."""
    a, b, c, d = (np.array(points[i : len(points) - 3 + i])[:, None] for i in range(4))
    t = np.linspace(0, 1, CURVE_STEPS, endpoint=False)[:, None]
    curve = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return [tuple(point) for point in (*curve.reshape(-1, 2), points[-2])]
