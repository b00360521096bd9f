"""Hair in three layers, in head heights: behind the body, over the clothes, and over the face."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from pretraining.world.face import SIDES, Head
from pretraining.world.hair_shapes import (
    bangs,
    bell,
    cap,
    crop,
    curtains,
    hairline,
    mane,
    ring,
    spikes,
    swept_back,
    waves,
    wavy_lock,
)
from pretraining.world.palette import Rgb, darker, lighter
from pretraining.world.pen import Path, Pen, Point, outline, oval, smooth, symmetric
from pretraining.world.people import Person

_CURTAINS = ("long straight", "long wavy", "bob", "braids")
_GATHERED = ("bun", "ponytail", "pigtails")
_TAILED = ("ponytail", "pigtails")
_PRESSED = 0.24
"""How far a hat pushes tails down."""
_FALL = (-0.5, 1.1)
"""Where the shading of long hair starts and ends, the same on cap and locks so that no seam shows."""
_RIPPLE: tuple[Point, ...] = ((1.24, 0.40), (1.30, 0.52), (1.18, 0.64), (1.22, 0.80))
"""The fold inside a wavy lock; x in half face widths."""

_STREAK_RIPPLE: tuple[Point, ...] = ((1.0, -0.2), (1.16, 0.14), (1.04, 0.30), (1.24, 0.46), (1.12, 0.62), (1.18, 0.9))
_STREAK_WIDTH = 0.1
_FOREHEAD_CURLS: tuple[Point, ...] = ((-0.78, 0.08), (-0.42, 0.0), (0.0, -0.03), (0.42, 0.0), (0.78, 0.08))
_GLEAMS: tuple[Point, ...] = (
    (-0.62, -0.44), (-0.12, -0.5), (0.42, -0.45), (-0.85, -0.24), (0.86, -0.25), (0.15, -0.36), (-0.35, -0.36),
)  # fmt: skip
"""Where light catches curls; x in half face widths."""
_HAT_LINE = -0.17
"""A hat hides the curls centred above this y."""
_TIE: Rgb = (214, 74, 96)
"""The ribbon of braids and tails."""


def draw_hair_behind(pen: Pen, person: Person, head: Head, *, covered: bool = False) -> None:
    """What hangs behind neck and shoulders; ``covered`` leaves out what a hat hides."""
    with pen.at(-head.shift * 0.5, 0.0):
        if person.hair_style == "curly":
            _draw_cloud(pen, person, head, covered)
        elif person.hair_style in _TAILED:
            with pen.at(0.0, _PRESSED if covered else 0.0):
                _draw_tails(pen, person, head)
        else:
            with _below_hat(pen, head, covered):
                _draw_behind(pen, person, head)


def draw_hair_over_clothes(pen: Pen, person: Person, head: Head) -> None:
    """Locks and braids that fall in front of the shoulders; drawn before the face."""
    half, volume = head.half, person.hair_volume
    with pen.at(-head.shift * 0.5, 0.0):
        for side in SIDES:
            with pen.at(0.0, 0.0, flip=side < 0):
                if person.hair_style == "long straight":
                    lock = outline((half * 0.5, -0.2),
                                   (half * 1.25, -0.1, half * 1.3 * volume, 0.4, half * 1.3 * volume, 0.98),
                                   (half * 1.0, 1.08, half * 0.62, 1.0),
                                   (half * 0.95, 0.6, half * 0.7, 0.2))  # fmt: skip
                    _paint_mass(pen, lock, person.hair_colour, *_FALL)
                    _draw_streak(pen, person, side, lock, [(half * 1.02, -0.2), (half * 1.06, 0.5), (half * 0.98, 1.1)])
                elif person.hair_style == "long wavy":
                    lock = smooth(wavy_lock(half, volume))
                    _paint_mass(pen, lock, person.hair_colour, *_FALL)
                    wave = smooth([(half * x * (0.84 + 0.16 * volume), y) for x, y in _RIPPLE], closed=False)
                    pen.stroke(wave, darker(person.hair_colour, 0.55), 0.022, 0.32)
                    _draw_streak(pen, person, side, lock, [(half * x * 0.92, y) for x, y in _STREAK_RIPPLE])
                elif person.hair_style == "braids":
                    _draw_braid(pen, person, half, side)


def draw_hair_front(pen: Pen, person: Person, head: Head, *, covered: bool = False) -> None:
    """The cap of hair over skull and forehead; ``covered`` leaves out what a hat hides."""
    if person.hair_style == "bald":
        pen.fill(
            smooth([(-0.16, -0.42), (0.0, -0.455), (0.05, -0.44), (-0.02, -0.41), (-0.14, -0.36)]),
            lighter(person.skin, 0.6),
            0.5,
        )
        return
    if person.hair_style == "curly":
        _draw_curls(pen, person, head, covered)
        return
    with _below_hat(pen, head, covered):
        _draw_front(pen, person, head)


def _draw_behind(pen: Pen, person: Person, head: Head) -> None:
    half, volume, shade = head.half, person.hair_volume, darker(person.hair_colour, 0.26)
    style = person.hair_style
    if style in ("long straight", "fringe"):
        reach = 0.96 if style == "long straight" else 0.62
        pen.fill(smooth(symmetric(mane(half, volume, reach))), shade)
    elif style == "long wavy":
        pen.fill(smooth(symmetric(waves(half, volume))), shade)
    elif style == "bob":
        pen.fill(smooth(symmetric(bell(half, volume))), shade)
    elif style == "bun":
        _draw_bun(pen, person)
    elif style == "braids":
        pen.fill(smooth(symmetric(mane(half * 0.94, volume, 0.36))), shade)


def _draw_tails(pen: Pen, person: Person, head: Head) -> None:
    """One tail on the side of the parting, or one on each side."""
    for side in SIDES:
        with pen.at(0.0, 0.0, flip=side < 0):
            if person.hair_style == "pigtails":
                _draw_pigtail(pen, person, head.half, side)
            elif side == _side(person):
                _draw_tail(pen, person, head.half)


def _draw_front(pen: Pen, person: Person, head: Head) -> None:
    style = person.hair_style
    if style == "mohawk":
        _draw_mohawk(pen, person, head)
    elif style == "spiky":
        _paint_cap(pen, person, head, spikes(person, head))
    elif style == "fringe":
        _paint_cap(pen, person, head, bangs(person, head))
    elif style == "short":
        _paint_cap(pen, person, head, crop(person, head))
    elif style in _GATHERED:
        _paint_cap(pen, person, head, swept_back(person, head))
    elif style in _CURTAINS:
        _paint_cap(pen, person, head, curtains(person, head))
        _draw_strands(pen, person, head)


@contextmanager
def _below_hat(pen: Pen, head: Head, covered: bool) -> Iterator[None]:
    """Draw only what a hat leaves: all hair below a dome over the forehead."""
    if not covered:
        yield
        return
    half = head.half
    right = [(0.0, -0.30), (half * 0.9, -0.29), (half * 1.35, -0.12), (half * 1.9, 0.06), (3.0, 0.3), (3.0, 4.0)]
    dome = outline(right[0], *right[1:], *((-x, y) for x, y in reversed(right[1:])))
    with pen.inside(dome):
        yield


def _side(person: Person) -> float:
    """The side of the tail and of the streak: that of the parting."""
    return 1.0 if person.parting > 0 else -1.0


def _paint_mass(pen: Pen, path: Path, colour: Rgb, top: float, bottom: float) -> None:
    """Fill hair with its colour, lighter above and darker below."""
    pen.fade(path, (0.0, top), (0.0, bottom), lighter(colour, 0.06), darker(colour, 0.24))


def _paint_cap(pen: Pen, person: Person, head: Head, path: Path) -> None:
    """Fill a cap of hair, lay a band of light across it and the streak along it."""
    colour, half, side = person.hair_colour, head.half, _side(person)
    _paint_mass(pen, path, colour, *(_FALL if person.hair_style.startswith("long") else (-0.62, 0.25)))
    with pen.inside(path):
        band = outline((-0.36, -0.28), (-0.26, -0.50, 0.10, -0.50), closed=False)
        pen.stroke(band, lighter(colour, 0.5), 0.055, 0.42)
    with pen.at(0.0, 0.0, flip=side < 0):
        start = half * abs(person.parting) * 0.42 + 0.03
        if person.hair_style in _CURTAINS or person.hair_style == "fringe":
            course = [(start, -0.66), (half * 0.72, -0.30), (half * 1.02, 0.0), (half * 1.05, 0.5)]
        else:
            course = [(half * 0.34, -0.78), (half * 0.46, -0.42), (half * 0.62, -0.1)]
        _draw_streak(pen, person, side, path, course, mirrored=side < 0)


def _draw_streak(
    pen: Pen, person: Person, side: float, path: Path, course: list[Point], *, mirrored: bool = False
) -> None:
    """A lock of another colour along a course inside a mass of hair, if that is the streak's side.

    ``mirrored`` says that the course, unlike the path, is given in a flipped frame.
    """
    if person.streak is None or side != _side(person):
        return
    if mirrored:
        with pen.at(0.0, 0.0, flip=True), pen.inside(path), pen.at(0.0, 0.0, flip=True):
            pen.stroke(smooth(course, closed=False), person.streak, _STREAK_WIDTH)
        return
    with pen.inside(path):
        pen.stroke(smooth(course, closed=False), person.streak, _STREAK_WIDTH)


def _draw_strands(pen: Pen, person: Person, head: Head) -> None:
    """Shaded strands that fall from the parting to both temples."""
    half, part, line = head.half, person.parting * 0.42, hairline(person)
    shade = darker(person.hair_colour, 0.55)
    for side in (-1.0, 1.0):
        foot = 0.10 if person.hair_style == "braids" else 0.34
        for lift, reach in ((0.05, 1.02), (0.13, 1.16)):
            strand = outline((half * (part + side * 0.12), line - 0.06 - lift),
                             (half * side * reach * 0.92, line - 0.02 - lift * 0.5, half * side * reach,
                              foot - lift), closed=False)  # fmt: skip
            pen.stroke(strand, shade, 0.022, 0.32)


def _draw_cloud(pen: Pen, person: Person, head: Head, covered: bool) -> None:
    for x, y, radius in ring(head.half * 1.06, person.hair_volume, 11, 150, 390):
        if y > _HAT_LINE or not covered:
            pen.disc(x, y, radius * 1.35, darker(person.hair_colour, 0.2))
    with _below_hat(pen, head, covered):
        pen.fill(smooth(symmetric(mane(head.half * 0.98, 1.0, 0.3))), darker(person.hair_colour, 0.2))


def _draw_curls(pen: Pen, person: Person, head: Head, covered: bool) -> None:
    colour, half, line, side = person.hair_colour, head.half, hairline(person), _side(person)
    inner = [(half * 0.95, -0.06), (half * 0.84, -0.2), (half * 0.4, line - 0.03), (-half * 0.4, line - 0.03),
             (-half * 0.84, -0.2),
             (-half * 0.95, -0.06)]  # fmt: skip
    with _below_hat(pen, head, covered):
        pen.fill(cap(head, person.hair_volume, 0.0, inner, 1.1), colour)
    fringe = [(x * half, line - 0.045 + y, 0.092 * person.hair_volume) for x, y in _FOREHEAD_CURLS]
    for x, y, radius in [*ring(half, person.hair_volume, 9, 168, 372), *fringe]:
        if y > _HAT_LINE or not covered:
            pen.disc(x, y, radius, colour)
    if person.streak is not None:
        for x, y, radius in ((1.14, -0.06, 0.08), (1.02, -0.20, 0.09), (0.82, -0.32, 0.095), (0.6, -0.42, 0.09)):
            if y > _HAT_LINE or not covered:
                pen.disc(x * half * side, y, radius * person.hair_volume, person.streak)
    if covered:
        return
    for x, y in _GLEAMS:
        arc = outline(
            (x * half - 0.055, y + 0.03), (x * half - 0.035, y - 0.045, x * half + 0.05, y - 0.01), closed=False
        )
        pen.stroke(arc, lighter(colour, 0.42), 0.03, 0.5)


def _draw_mohawk(pen: Pen, person: Person, head: Head) -> None:
    """A crest along the middle of a shaven skull."""
    half, line, colour = head.half, hairline(person), person.hair_colour
    inner = [(half * 0.92, -0.03), (half * 0.84, -0.19), (half * 0.45, line), (0.0, line - 0.03),
             (-half * 0.45, line), (-half * 0.84, -0.19), (-half * 0.92, -0.03)]  # fmt: skip
    with pen.inside(head.face):
        pen.fill(cap(head, 0.2, 0.02, inner, 1.02), colour, 0.3)
    tall = 0.31 * person.hair_volume
    with pen.at(-head.shift * 0.4, 0.0):
        crest = outline(
            (-0.105, line + 0.03), (-0.20, -0.48), (-0.27, -0.52 - tall * 0.72), (-0.15, -0.55 - tall * 0.55),
            (-0.11, -0.55 - tall * 0.98), (-0.02, -0.55 - tall * 0.68), (0.06, -0.56 - tall * 1.08),
            (0.10, -0.55 - tall * 0.64), (0.23, -0.53 - tall * 0.86), (0.20, -0.48), (0.105, line + 0.03),
            (0.06, line - 0.02), (0.0, line + 0.07), (-0.05, line - 0.02),
        )  # fmt: skip
        _paint_mass(pen, crest, colour, -0.9, -0.2)
        pen.stroke(crest, darker(colour, 0.1), 0.02)
        side = _side(person)
        _draw_streak(pen, person, side, crest, [(side * 0.12, -1.0), (side * 0.07, -0.55), (side * 0.04, -0.1)])
        shine = outline((-0.13, -0.48), (-0.17, -0.62, -0.16, -0.56 - tall * 0.4), closed=False)
        pen.stroke(shine, lighter(colour, 0.5), 0.035, 0.45)


def _draw_bun(pen: Pen, person: Person) -> None:
    size, lean, colour = 0.21 * person.hair_volume, 0.1 * person.parting, darker(person.hair_colour, 0.1)
    y = -0.55 - size * 0.5
    pen.disc(lean, y, size, colour)
    _draw_streak(
        pen, person, _side(person), oval(lean, y, size, size),
        [(lean + size * 0.75, y - size), (lean + size * 0.25, y), (lean + size * 0.5, y + size)],
    )  # fmt: skip
    for turn in (0.62, 0.28):
        swirl = outline((lean - size * turn, y + size * 0.1),
                        (lean - size * turn, y - size * turn * 1.3, lean + size * turn, y - size * turn * 0.9),
                        closed=False)  # fmt: skip
        pen.stroke(swirl, lighter(person.hair_colour, 0.45), 0.035, 0.5)
    tie = outline((lean - size * 0.6, -0.555), (lean, -0.60, lean + size * 0.6, -0.555), closed=False)
    pen.stroke(tie, _TIE, 0.05)


def _draw_tail(pen: Pen, person: Person, half: float) -> None:
    """A thick tail that springs from high on the right and swings out beside the shoulder."""
    bulge = 0.85 + 0.15 * person.hair_volume
    tail = smooth([(half * 0.55, -0.42), (half * 0.85, -0.60), (half * 1.45 * bulge, -0.58),
                   (half * 1.98 * bulge, -0.3), (half * 2.12 * bulge, 0.12), (half * 1.9 * bulge, 0.5),
                   (half * 1.98 * bulge, 0.84), (half * 1.5, 0.66),
                   (half * 1.3, 0.25), (half * 1.22, -0.1), (half * 0.95, -0.26)])  # fmt: skip
    _paint_mass(pen, tail, darker(person.hair_colour, 0.1), -0.5, 0.8)
    course = [(half * 0.9, -0.5), (half * 1.5, -0.3), (half * 1.68 * bulge, 0.15), (half * 1.7 * bulge, 0.9)]
    _draw_streak(pen, person, _side(person), tail, course)
    pen.line([(half * 0.72, -0.52), (half * 0.98, -0.30)], _TIE, 0.085)


def _draw_pigtail(pen: Pen, person: Person, half: float, side: float) -> None:
    """A short, full tail that stands off from one side of the head."""
    wide = 0.85 + 0.15 * person.hair_volume
    tail = smooth([(half * 0.92, -0.24), (half * 1.35, -0.36), (half * 1.85 * wide, -0.24), (half * 2.1 * wide, 0.08),
                   (half * 1.95 * wide, 0.38), (half * 1.72, 0.52), (half * 1.5, 0.34), (half * 1.32, 0.06),
                   (half * 1.05, -0.10)])  # fmt: skip
    _paint_mass(pen, tail, darker(person.hair_colour, 0.06), -0.4, 0.5)
    _draw_streak(pen, person, side, tail, [(half * 1.0, -0.2), (half * 1.55, -0.1), (half * 1.75, 0.55)])
    fold = outline((half * 1.3, -0.2), (half * 1.75 * wide, -0.1, half * 1.8 * wide, 0.24), closed=False)
    pen.stroke(fold, lighter(person.hair_colour, 0.45), 0.03, 0.45)
    pen.line([(half * 1.08, -0.30), (half * 1.16, -0.10)], _TIE, 0.085)


def _draw_braid(pen: Pen, person: Person, half: float, side: float) -> None:
    """A plait in front of one shoulder, its streak in every other link."""
    colour = person.hair_colour
    for index in range(6):
        x, y, size = half * (1.16 + 0.04 * math.sin(index)), 0.20 + 0.135 * index, person.hair_volume
        dyed = person.streak is not None and side == _side(person) and index % 2 == 1
        link = person.streak if dyed and person.streak is not None else colour
        pen.fill(oval(x, y, 0.125 * size, 0.10), darker(colour, 0.34))
        pen.fill(oval(x - 0.012, y - 0.02, 0.104 * size, 0.078), link)
    pen.rect(half * 1.16 - 0.08, 0.96, half * 1.16 + 0.08, 1.02, _TIE, 0.025)
    pen.fill(oval(half * 1.17, 1.08, 0.075, 0.085), darker(colour, 0.1))
