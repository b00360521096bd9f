"""Hair in three layers, in head heights: behind the body, over the clothes, and over the face."""

import math

from pretraining.world.face import Head
from pretraining.world.palette import Rgb, darker, lighter
from pretraining.world.pen import Path, Pen, Point, outline, smooth, symmetric
from pretraining.world.people import Person

_CURTAINS = ("long straight", "long wavy", "bob", "braids")
_GATHERED = ("bun", "ponytail")
_FALL = (-0.5, 1.1)
"""Where the shading of long hair starts and ends, the same on cap and locks so that no seam shows."""
_RIPPLE: tuple[Point, ...] = ((1.24, 0.40), (1.30, 0.52), (1.18, 0.64), (1.22, 0.80))
"""The fold inside a wavy lock; x in half face widths."""


def draw_hair_behind(pen: Pen, person: Person, head: Head) -> None:
    """What hangs behind neck and shoulders."""
    half, volume, shade = head.half, person.hair_volume, darker(person.hair_colour, 0.26)
    style = person.hair_style
    with pen.at(-head.shift * 0.5, 0.0):
        if style in ("long straight", "fringe"):
            reach = 0.92 if style == "long straight" else 0.62
            pen.fill(smooth(symmetric(_mane(half, volume, reach))), shade)
        elif style == "long wavy":
            pen.fill(smooth(symmetric(_waves(half, volume))), shade)
        elif style == "bob":
            pen.fill(smooth(symmetric(_mane(half * 1.02, volume, 0.43))), shade)
        elif style == "curly":
            _draw_cloud(pen, person, head)
        elif style == "bun":
            _draw_bun(pen, person)
        elif style == "ponytail":
            _draw_tail(pen, person, half)
        elif style == "braids":
            pen.fill(smooth(symmetric(_mane(half * 0.94, volume, 0.36))), shade)


def draw_hair_over_clothes(pen: Pen, person: Person, head: Head) -> None:
    """Locks and braids that fall in front of the shoulders; drawn before the face."""
    half, volume = head.half, person.hair_volume
    with pen.at(-head.shift * 0.5, 0.0):
        for side in (-1.0, 1.0):
            with pen.at(0.0, 0.0, flip=side < 0):
                if person.hair_style == "long straight":
                    lock = outline((half * 0.5, -0.2),
                                   (half * 1.25, -0.1, half * 1.3 * volume, 0.4, half * 1.3 * volume, 0.98),
                                   (half * 1.0, 1.08, half * 0.62, 1.0),
                                   (half * 0.95, 0.6, half * 0.7, 0.2))  # fmt: skip
                    _paint_mass(pen, lock, person.hair_colour, *_FALL)
                elif person.hair_style == "long wavy":
                    _paint_mass(pen, smooth(_wavy_lock(half, volume)), person.hair_colour, *_FALL)
                    wave = smooth([(half * x * (0.84 + 0.16 * volume), y) for x, y in _RIPPLE], closed=False)
                    pen.stroke(wave, darker(person.hair_colour, 0.55), 0.022, 0.32)
                elif person.hair_style == "braids":
                    _draw_braid(pen, person, half)


def draw_hair_front(pen: Pen, person: Person, head: Head) -> None:
    """The cap of hair over skull and forehead."""
    style = person.hair_style
    if style == "bald":
        pen.fill(
            smooth([(-0.16, -0.42), (0.0, -0.455), (0.05, -0.44), (-0.02, -0.41), (-0.14, -0.36)]),
            lighter(person.skin, 0.6),
            0.5,
        )
        return
    if style == "curly":
        _draw_curls(pen, person, head)
    elif style == "spiky":
        _paint_cap(pen, person, _spikes(person, head))
    elif style == "fringe":
        _paint_cap(pen, person, _bangs(person, head))
    elif style == "short":
        _paint_cap(pen, person, _crop(person, head))
    elif style in _GATHERED:
        _paint_cap(pen, person, _swept_back(person, head))
    elif style in _CURTAINS:
        _paint_cap(pen, person, _curtains(person, head))
        _draw_strands(pen, person, head)


def _paint_mass(pen: Pen, path: Path, colour: Rgb, top: float, bottom: float) -> None:
    """Fill hair with its colour, lighter above and darker below."""
    pen.fade(path, (0.0, top), (0.0, bottom), lighter(colour, 0.06), darker(colour, 0.24))


def _paint_cap(pen: Pen, person: Person, path: Path) -> None:
    """Fill a cap of hair and lay a band of light across it."""
    colour = person.hair_colour
    _paint_mass(pen, path, colour, *(_FALL if person.hair_style.startswith("long") else (-0.62, 0.25)))
    with pen.inside(path):
        band = outline((-0.36, -0.28), (-0.26, -0.50, 0.10, -0.50), closed=False)
        pen.stroke(band, lighter(colour, 0.5), 0.055, 0.42)


def _draw_strands(pen: Pen, person: Person, head: Head) -> None:
    """Shaded strands that fall from the parting to both temples."""
    half, part, line = head.half, person.parting * 0.42, _brow_line(person)
    shade = darker(person.hair_colour, 0.55)
    for side in (-1.0, 1.0):
        foot = 0.10 if person.hair_style == "braids" else 0.34
        for lift, reach in ((0.05, 1.02), (0.13, 1.16)):
            strand = outline((half * (part + side * 0.12), line - 0.06 - lift),
                             (half * side * reach * 0.92, line - 0.02 - lift * 0.5, half * side * reach,
                              foot - lift), closed=False)  # fmt: skip
            pen.stroke(strand, shade, 0.022, 0.32)


def _crown(head: Head, volume: float, foot: float, width: float = 1.1) -> list[Point]:
    """The right half of a cap's outer edge, top to bottom; ``foot`` is the y where it ends."""
    half, top = head.half * width, -0.5 - 0.1 * volume
    return [(0.0, top), (half * 0.52, top + 0.045), (half * 0.92, -0.36), (half * 1.03, -0.14), (half * 1.0, foot)]


def _cap(head: Head, volume: float, foot: float, inner: list[Point], width: float = 1.1) -> Path:
    """A cap between the crown and an inner edge given from the right foot to the left one."""
    outer = _crown(head, volume, foot, width)
    left = [(-x, y) for x, y in reversed(outer)]
    return smooth([*left, *outer[1:], *inner])


def _brow_line(person: Person) -> float:
    """The y of the hairline's middle."""
    return -0.27 - 0.1 * person.hairline


def _crop(person: Person, head: Head) -> Path:
    half, line, part = head.half, _brow_line(person), person.parting
    swoop = 0.07 if part > 0 else -0.07
    inner = [(half * 0.90, -0.02), (half * 0.86, -0.16), (half * 0.60, line + 0.04 - swoop),
             (half * part * 0.4, line - 0.03),
             (-half * 0.60, line + 0.04 + swoop), (-half * 0.86, -0.16), (-half * 0.90, -0.02)]  # fmt: skip
    return _cap(head, person.hair_volume * 1.15, 0.03, inner, 1.06)


def _swept_back(person: Person, head: Head) -> Path:
    half, line, part = head.half, _brow_line(person), person.parting
    inner = [(half * 0.93, -0.01), (half * 0.84, -0.19), (half * 0.45, line + 0.0), (half * 0.25 * part, line - 0.055),
             (-half * 0.45, line + 0.0), (-half * 0.84, -0.19), (-half * 0.93, -0.01)]  # fmt: skip
    return _cap(head, person.hair_volume * 0.8, 0.04, inner, 1.05)


def _curtains(person: Person, head: Head) -> Path:
    """Hair parted at the forehead that falls along both cheeks."""
    half, line, part = head.half, _brow_line(person), person.parting * 0.42
    foot = {"bob": 0.40, "braids": 0.12}.get(person.hair_style, 0.46)
    tuck = 0.76 if person.hair_style != "braids" else 0.9
    width = 1.12 if person.hair_style == "braids" else 1.1 + 0.16 * person.hair_volume
    inner = [(half * tuck * 1.06, foot - 0.01), (half * (tuck + 0.13), 0.1), (half * 0.82, -0.12),
             (half * (0.42 + part * 0.5), line + 0.07),
             (half * part, line - 0.075), (half * (-0.42 + part * 0.5), line + 0.07), (-half * 0.82, -0.12),
             (-half * (tuck + 0.13), 0.1),
             (-half * tuck * 1.06, foot - 0.01)]  # fmt: skip
    return _cap(head, person.hair_volume, foot, inner, width)


def _bangs(person: Person, head: Head) -> Path:
    half, line = head.half, -0.155 - 0.05 * person.hairline
    inner = [(half * 0.86, 0.36), (half * 0.90, 0.05), (half * 0.80, line - 0.005), (half * 0.45, line + 0.012),
             (half * 0.05, line - 0.004),
             (-half * 0.4, line + 0.012), (-half * 0.80, line - 0.005), (-half * 0.90, 0.05),
             (-half * 0.86, 0.36)]  # fmt: skip
    return _cap(head, person.hair_volume, 0.40, inner, 1.1 + 0.1 * person.hair_volume)


def _spikes(person: Person, head: Head) -> Path:
    half, line = head.half, _brow_line(person)
    tall = 0.17 * person.hair_volume
    tips: list[tuple[float, ...]] = []
    for index in range(6):
        left, right = (-1.0 + index / 3) * half * 1.06, (-1.0 + (index + 1) / 3) * half * 1.06
        base = -0.5 + 0.24 * (right / half / 1.06) ** 2
        middle = (left + right) / 2
        lean = 0.03 + 0.06 * person.parting
        tips += [(middle + lean * 0.4, -0.56 - tall + 0.22 * (middle / half) ** 2), (right, base)]
    return outline(
        (-half * 0.90, 0.0), (-half * 1.06, -0.02), (-half * 1.14, -0.14, -half * 1.06, -0.26),
        *tips, (half * 1.14, -0.14, half * 1.06, -0.02),
        (half * 0.90, 0.0), (half * 0.84, -0.2), (half * 0.5, line - 0.06), (half * 0.3, line + 0.03),
        (half * 0.02, line - 0.06),
        (-half * 0.25, line + 0.03), (-half * 0.5, line - 0.06), (-half * 0.84, -0.2),
    )  # fmt: skip


def _mane(half: float, volume: float, reach: float) -> list[Point]:
    """The right half of hair that falls straight to the y ``reach``."""
    wide = half * (1.12 + 0.2 * volume)
    return [(0.0, -0.56), (wide * 0.6, -0.5), (wide * 0.96, -0.2), (wide * 1.02, 0.15), (wide * 1.06, reach - 0.1),
            (wide * 0.86, reach + 0.02), (0.0, reach + 0.02)]  # fmt: skip


def _waves(half: float, volume: float) -> list[Point]:
    """The right half of hair that falls in waves."""
    wide = half * (1.16 + 0.22 * volume)
    return [(0.0, -0.56), (wide * 0.6, -0.5), (wide * 0.95, -0.24), (wide * 0.96, -0.02), (wide * 1.12, 0.14),
            (wide * 1.03, 0.30),
            (wide * 1.22, 0.46), (wide * 1.10, 0.62), (wide * 1.18, 0.78), (wide * 0.9, 0.9), (0.0, 0.8)]  # fmt: skip


def _wavy_lock(half: float, volume: float) -> list[Point]:
    wide = half * (1.16 + 0.22 * volume)
    return [(half * 0.5, -0.3), (wide * 0.93, -0.1), (wide * 1.1, 0.14), (wide * 1.0, 0.30), (wide * 1.2, 0.46),
            (wide * 1.08, 0.62),
            (wide * 1.17, 0.78), (wide * 0.92, 0.94), (wide * 0.62, 0.84), (wide * 0.78, 0.66), (wide * 0.64, 0.5),
            (half * 0.9, 0.3),
            (half * 0.7, 0.1)]  # fmt: skip


def _ring(half: float, volume: float, count: int, start: float, stop: float) -> list[tuple[float, float, float]]:
    """Curls ``(x, y, radius)`` around the skull between two angles, clockwise from the right, in degrees."""
    curls = []
    for index in range(count):
        angle = math.radians(start + (stop - start) * index / (count - 1))
        radius = 0.125 * volume * (1.0 + 0.16 * math.sin(2.4 * index))
        curls.append((math.cos(angle) * half * 1.12, -0.12 + math.sin(angle) * 0.42, radius))
    return curls


def _draw_cloud(pen: Pen, person: Person, head: Head) -> None:
    for x, y, radius in _ring(head.half * 1.06, person.hair_volume, 11, 150, 390):
        pen.disc(x, y, radius * 1.35, darker(person.hair_colour, 0.2))
    pen.fill(smooth(symmetric(_mane(head.half * 0.98, 1.0, 0.3))), darker(person.hair_colour, 0.2))


def _draw_curls(pen: Pen, person: Person, head: Head) -> None:
    colour, half, line = person.hair_colour, head.half, _brow_line(person)
    inner = [(half * 0.95, -0.06), (half * 0.84, -0.2), (half * 0.4, line - 0.03), (-half * 0.4, line - 0.03),
             (-half * 0.84, -0.2),
             (-half * 0.95, -0.06)]  # fmt: skip
    pen.fill(_cap(head, person.hair_volume, 0.0, inner, 1.1), colour)
    for x, y, radius in _ring(half, person.hair_volume, 9, 168, 372):
        pen.disc(x, y, radius, colour)
    for x, y in ((-0.78, 0.08), (-0.42, 0.0), (0.0, -0.03), (0.42, 0.0), (0.78, 0.08)):
        pen.disc(x * half, line - 0.045 + y, 0.092 * person.hair_volume, colour)
    for x, y in (
        (-0.62, -0.44),
        (-0.12, -0.5),
        (0.42, -0.45),
        (-0.85, -0.24),
        (0.86, -0.25),
        (0.15, -0.36),
        (-0.35, -0.36),
    ):
        arc = outline(
            (x * half - 0.055, y + 0.03), (x * half - 0.035, y - 0.045, x * half + 0.05, y - 0.01), closed=False
        )
        pen.stroke(arc, lighter(colour, 0.42), 0.03, 0.5)


def _draw_bun(pen: Pen, person: Person) -> None:
    size = 0.175 * person.hair_volume
    lean = 0.1 * person.parting
    pen.disc(lean, -0.62, size, darker(person.hair_colour, 0.1))
    swirl = outline(
        (lean - size * 0.6, -0.62),
        (lean - size * 0.4, -0.62 - size * 0.9, lean + size * 0.5, -0.62 - size * 0.4),
        closed=False,
    )
    pen.stroke(swirl, lighter(person.hair_colour, 0.45), 0.035, 0.5)


def _draw_tail(pen: Pen, person: Person, half: float) -> None:
    side = 1.0 if person.parting > 0 else -1.0
    with pen.at(0.0, 0.0, flip=side < 0):
        tail = smooth([(half * 0.4, -0.45), (half * 1.0, -0.5), (half * 1.5, -0.3), (half * 1.72, 0.1),
                       (half * 1.55, 0.5), (half * 1.62, 0.82),
                       (half * 1.25, 0.62), (half * 1.1, 0.2), (half * 0.9, -0.1)])  # fmt: skip
        _paint_mass(pen, tail, darker(person.hair_colour, 0.1), -0.5, 0.8)


def _draw_braid(pen: Pen, person: Person, half: float) -> None:
    colour = person.hair_colour
    for index in range(6):
        y = 0.22 + 0.125 * index
        pen.disc(
            half * (1.12 + 0.04 * math.sin(index)), y, 0.105 * person.hair_volume - 0.006 * index, darker(colour, 0.24)
        )
        pen.disc(
            half * (1.12 + 0.04 * math.sin(index)) - 0.012, y - 0.02, 0.085 * person.hair_volume - 0.006 * index, colour
        )
    pen.rect(half * 1.12 - 0.05, 0.90, half * 1.12 + 0.06, 0.95, (214, 74, 96), 0.02)
    pen.disc(half * 1.13, 0.99, 0.06, darker(colour, 0.1))
