"""The pieces a silhouette is made of: polygons, curves, ellipses, boxes and lines.

A part says where it is, in a unit square with y downwards, and what covers it: "body" takes the
pattern, "plain" the base colour, "trim" the accent, "deep" the dark colour, "light" the light one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import ImageDraw

Cover = Literal["body", "plain", "trim", "deep", "light"]
Point = tuple[float, float]
CURVE_STEPS = 10


@dataclass(frozen=True)
class Part:
    """One piece of a silhouette.

    Attributes:
        form: "polygon" (points), "curve" (points, joined smoothly), "ellipse" and "box" (two
            corners), "line" (points).
        cover: what it is covered with.
        points: where it is.
        size: width of a line, or radius of the corners of a box; in units of the square.
    """

    form: Literal["polygon", "curve", "ellipse", "box", "line"]
    cover: Cover
    points: tuple[Point, ...]
    size: float = 0.0

    def draw(self, draw: ImageDraw.ImageDraw, side: int) -> None:
        """Fills the part with 255 on a mask of `side` x `side` pixels."""
        points = [(x * side, y * side) for x, y in self.points]
        if self.form == "polygon":
            draw.polygon(points, fill=255)
        elif self.form == "curve":
            draw.polygon(smooth(points, closed=True), fill=255)
        elif self.form == "ellipse":
            draw.ellipse([*points[0], *points[1]], fill=255)
        elif self.form == "box":
            draw.rounded_rectangle([*points[0], *points[1]], radius=self.size * side, fill=255)
        else:
            path = smooth(points, closed=False) if len(points) > 2 else points
            width = self.size * side
            draw.line(path, fill=255, width=round(width), joint="curve")
            for x, y in (path[0], path[-1]):
                r = width / 2
                draw.ellipse([x - r, y - r, x + r, y + r], fill=255)


def smooth(points: list[Point], *, closed: bool) -> list[Point]:
    """A Catmull-Rom curve through `points`."""
    n = len(points)
    path: list[Point] = []
    for i in range(n if closed else n - 1):
        if closed:
            p0, p1, p2, p3 = (points[(i + j) % n] for j in (-1, 0, 1, 2))
        else:
            p0, p1, p2, p3 = (points[min(max(i + j, 0), n - 1)] for j in (-1, 0, 1, 2))
        for step in range(CURVE_STEPS):
            t = step / CURVE_STEPS
            path.append(
                (
                    _catmull_rom(p0[0], p1[0], p2[0], p3[0], t),
                    _catmull_rom(p0[1], p1[1], p2[1], p3[1], t),
                )
            )
    return path if closed else [*path, points[-1]]


def _catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    linear, square, cube = c - a, 2 * a - 5 * b + 4 * c - d, 3 * (b - c) + d - a
    return b + 0.5 * t * (linear + t * (square + t * cube))
