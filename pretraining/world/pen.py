"""A pen on a Skia canvas: the only module of the drawn world that knows Skia.

Lengths are in the unit of the surrounding :meth:`Pen.at`: a picture's short side for scenes, a head's height for
people. ``alpha`` is opacity in [0, 1]. Every edge is anti-aliased.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import skia

from pretraining.world.palette import Rgb

Path: TypeAlias = Any
"""A ``skia.Path``: skia-python ships no types."""

Point: TypeAlias = tuple[float, float]


def outline(start: Point, *segments: tuple[float, ...], closed: bool = True) -> Path:
    """A path of lines ``(x, y)``, quadratic ``(cx, cy, x, y)`` and cubic ``(ax, ay, bx, by, x, y)`` segments."""
    path = skia.Path()
    path.moveTo(*start)
    draw = {2: path.lineTo, 4: path.quadTo, 6: path.cubicTo}
    for segment in segments:
        draw[len(segment)](*segment)
    if closed:
        path.close()
    return path


def smooth(points: Sequence[Point], *, closed: bool = True) -> Path:
    """A Catmull-Rom curve through the points."""
    count = len(points)
    path = skia.Path()
    path.moveTo(*points[0])
    for index in range(count if closed else count - 1):
        before, here = points[index - 1 if closed or index else 0], points[index]
        there = points[(index + 1) % count]
        after = points[(index + 2) % count if closed else min(index + 2, count - 1)]
        path.cubicTo(
            here[0] + (there[0] - before[0]) / 6,
            here[1] + (there[1] - before[1]) / 6,
            there[0] - (after[0] - here[0]) / 6,
            there[1] - (after[1] - here[1]) / 6,
            *there,
        )
    return path


def symmetric(right: Sequence[Point]) -> list[Point]:
    """The points of a right half, top to bottom, followed by their mirror images bottom to top."""
    return [*right, *((-x, y) for x, y in reversed(right) if x != 0)]


def oval(x: float, y: float, rx: float, ry: float) -> Path:
    """An ellipse around ``(x, y)``."""
    path = skia.Path()
    path.addOval(skia.Rect(x - rx, y - ry, x + rx, y + ry))
    return path


def box(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Path:
    """A rectangle, its corners rounded by ``radius``."""
    path = skia.Path()
    path.addRoundRect(skia.Rect(left, top, right, bottom), radius, radius)
    return path


def limb(joints: Sequence[Point], radii: Sequence[float]) -> Path:
    """A chain of bones as one rounded shape, as thick at each joint as its radius says."""
    path = skia.Path()
    pairs = list(zip(joints, radii, strict=True))
    for (x, y), radius in pairs:
        path.addCircle(x, y, radius)
    for ((ax, ay), first), ((bx, by), second) in itertools.pairwise(pairs):
        length = math.hypot(bx - ax, by - ay) or 1.0
        nx, ny = (by - ay) / length, (ax - bx) / length
        path.moveTo(ax + nx * first, ay + ny * first)
        path.lineTo(bx + nx * second, by + ny * second)
        path.lineTo(bx - nx * second, by - ny * second)
        path.lineTo(ax - nx * first, ay - ny * first)
        path.close()
    return path


def discs(centres: Iterable[Point], radius: float) -> Path:
    """Many circles of one size as one path."""
    path = skia.Path()
    for x, y in centres:
        path.addCircle(x, y, radius)
    return path


class Pen:
    """Fills and strokes paths on one canvas."""

    def __init__(self, width: int, height: int) -> None:
        """Open a black canvas of ``width`` x ``height`` pixels."""
        self._surface = skia.Surface(width, height)
        self._canvas = self._surface.getCanvas()

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The picture so far, shape ``(height, width, 3)``."""
        rgba: npt.NDArray[np.uint8] = self._surface.toarray(colorType=skia.kRGBA_8888_ColorType)
        return rgba[:, :, :3]

    @contextmanager
    def at(self, x: float, y: float, scale: float = 1.0, degrees: float = 0.0, *, flip: bool = False) -> Iterator[None]:
        """Draw around the origin ``(x, y)``, turned clockwise by ``degrees``, in units of ``scale``."""
        self._canvas.save()
        self._canvas.translate(x, y)
        self._canvas.rotate(degrees)
        self._canvas.scale(-scale if flip else scale, scale)
        yield
        self._canvas.restore()

    @contextmanager
    def inside(self, path: Path) -> Iterator[None]:
        """Draw only inside the path."""
        self._canvas.save()
        self._canvas.clipPath(path, doAntiAlias=True)
        yield
        self._canvas.restore()

    def fill(self, path: Path, colour: Rgb, alpha: float = 1.0) -> None:
        """Fill a path with one colour."""
        self._canvas.drawPath(path, _paint(colour, alpha))

    def fade(self, path: Path, start: Point, end: Point, first: Rgb, second: Rgb) -> None:
        """Fill a path with a gradient that runs from ``start`` to ``end``."""
        paint = _paint(first, 1.0)
        paint.setShader(skia.GradientShader.MakeLinear([start, end], [skia.Color(*first), skia.Color(*second)]))
        self._canvas.drawPath(path, paint)

    def glow(self, x: float, y: float, radius: float, colour: Rgb, alpha: float) -> None:
        """A disc that fades from ``alpha`` at its centre to nothing at its rim."""
        paint = _paint(colour, 1.0)
        colours = [skia.Color(*colour, round(255 * alpha)), skia.Color(*colour, 0)]
        paint.setShader(skia.GradientShader.MakeRadial((x, y), radius, colours))
        self._canvas.drawCircle(x, y, radius, paint)

    def stroke(self, path: Path, colour: Rgb, width: float, alpha: float = 1.0) -> None:
        """Draw along a path with round ends and joins."""
        paint = _paint(colour, alpha)
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
        self._canvas.drawPath(path, paint)

    def line(self, points: Sequence[Point], colour: Rgb, width: float, alpha: float = 1.0) -> None:
        """Draw straight lines from point to point."""
        self.stroke(outline(points[0], *points[1:], closed=False), colour, width, alpha)

    def disc(self, x: float, y: float, radius: float, colour: Rgb, alpha: float = 1.0) -> None:
        """Fill a circle."""
        self._canvas.drawCircle(x, y, radius, _paint(colour, alpha))

    def rect(
        self, left: float, top: float, right: float, bottom: float, colour: Rgb, radius: float = 0.0, alpha: float = 1.0
    ) -> None:
        """Fill a rectangle, its corners rounded by ``radius``."""
        rect = skia.Rect(left, top, right, bottom)
        self._canvas.drawRoundRect(rect, radius, radius, _paint(colour, alpha))

    def polygon(self, points: Sequence[Point], colour: Rgb, alpha: float = 1.0) -> None:
        """Fill a polygon."""
        self.fill(outline(points[0], *points[1:]), colour, alpha)


def _paint(colour: Rgb, alpha: float) -> Any:
    paint = skia.Paint(AntiAlias=True)
    paint.setARGB(round(255 * alpha), *colour)
    return paint
