"""Things held in a hand, in head heights around the hand."""

import numpy as np

from pretraining.world.palette import CLOTHES_COLOURS, WHITE, Rgb, darker, lighter
from pretraining.world.pen import Pen, Point, outline, oval, smooth
from pretraining.world.shots import Held, Shot

_CANOPY_Y = -2.12
"""The top of an umbrella above the hand."""


def colour_of(shot: Shot) -> Rgb:
    """A bright colour unlike the garment's."""
    names = [name for name in CLOTHES_COLOURS if name not in (shot.clothes_name, "black", "white")]
    return CLOTHES_COLOURS[names[shot.pose_seed // 8 % len(names)]]


def draw_canopy(pen: Pen, shot: Shot, hand: Point, side: float) -> None:
    """The roof of an umbrella, behind the head, and its shaft."""
    colour = colour_of(shot)
    with pen.at(*hand, 1.0, 23.0 * -side, flip=side < 0):
        pen.line([(0.0, 0.1), (0.0, _CANOPY_Y)], (92, 70, 60), 0.055)
        with pen.at(0.0, _CANOPY_Y):
            edge = [(-1.1, 0.52), (-0.66, 0.44), (-0.22, 0.42), (0.22, 0.42), (0.66, 0.44), (1.1, 0.52)]
            roof = outline((0.0, 0.0), (0.92, 0.02, 1.1, 0.52), *(
                (x + 0.22, 0.32, x, y) for x, y in reversed(edge[:-1])
            ), (-0.92, 0.02, 0.0, 0.0))  # fmt: skip
            pen.fill(roof, colour)
            with pen.inside(roof):
                for x, wide in ((-0.66, 0.22), (0.22, 0.22)):
                    pen.polygon([(0.0, 0.0), (x, 0.7), (x + 2 * wide, 0.7)], lighter(colour, 0.55))
            pen.line([(0.0, 0.02), (0.0, -0.1)], (92, 70, 60), 0.055)


def draw_held(pen: Pen, shot: Shot, thing: Held, hand: Point, side: float) -> None:
    """The thing itself; fingers are drawn over it afterwards."""
    colour = colour_of(shot)
    with pen.at(*hand, flip=side < 0):
        match thing:
            case "cup":
                _draw_cup(pen, colour)
            case "book":
                _draw_book(pen, colour)
            case "phone":
                _draw_phone(pen)
            case "flowers":
                _draw_flowers(pen, shot, colour)
            case "balloon":
                _draw_balloon(pen, colour)
            case "umbrella":
                pen.line([(0.02, 0.0), (-0.03, 0.42)], (92, 70, 60), 0.06)
                hook = outline((-0.03, 0.42), (-0.05, 0.56, 0.08, 0.50), closed=False)
                pen.stroke(hook, (92, 70, 60), 0.065)


def _draw_cup(pen: Pen, colour: Rgb) -> None:
    pen.stroke(oval(0.19, -0.12, 0.10, 0.11), darker(colour, 0.3), 0.05)
    pen.fill(outline((-0.18, -0.32), (0.18, -0.32), (0.15, 0.10), (-0.15, 0.10)), colour)
    pen.rect(-0.18, -0.2, 0.17, -0.08, WHITE)
    pen.fill(oval(0.0, -0.32, 0.18, 0.05), (92, 58, 40))
    for x in (-0.07, 0.08):
        steam = outline((x, -0.42), (x + 0.07, -0.5, x, -0.57), (x - 0.07, -0.64, x, -0.72), closed=False)
        pen.stroke(steam, WHITE, 0.04, 0.75)


def _draw_book(pen: Pen, colour: Rgb) -> None:
    with pen.at(0.02, -0.16, 1.0, 8.0):
        pen.rect(-0.26, -0.34, 0.27, 0.34, darker(colour, 0.45), 0.03)
        pen.rect(-0.20, -0.31, 0.30, 0.31, WHITE, 0.02)
        pen.rect(-0.24, -0.34, 0.25, 0.31, colour, 0.03)
        pen.rect(-0.12, -0.22, 0.16, -0.06, lighter(colour, 0.75), 0.02)
        pen.rect(-0.24, -0.34, -0.18, 0.31, darker(colour, 0.35), 0.02)


def _draw_phone(pen: Pen) -> None:
    with pen.at(0.0, -0.18, 1.0, 6.0):
        pen.rect(-0.165, -0.33, 0.165, 0.31, (34, 34, 42), 0.05)
        pen.rect(-0.135, -0.28, 0.135, 0.26, (120, 196, 236), 0.02)
        pen.rect(-0.09, -0.20, 0.09, -0.12, WHITE, 0.02)
        pen.rect(-0.09, -0.06, 0.05, 0.0, WHITE, 0.02, 0.8)


def _draw_flowers(pen: Pen, shot: Shot, colour: Rgb) -> None:
    heads = [(-0.27, -0.40), (-0.05, -0.55), (0.20, -0.50), (0.34, -0.30), (0.06, -0.32)]
    for x, y in heads:
        pen.line([(0.0, 0.18), (x, y)], (58, 130, 66), 0.045)
    pen.fill(smooth([(0.0, 0.1), (-0.22, -0.1), (-0.32, -0.24), (-0.1, -0.16)]), (74, 154, 78))
    pen.fill(smooth([(0.0, 0.1), (0.24, -0.06), (0.36, -0.14), (0.14, -0.16)]), (74, 154, 78))
    rng = np.random.default_rng(shot.pose_seed)
    petals: list[Rgb] = [colour, (236, 108, 148), (250, 214, 84), (246, 244, 240), colour]
    for index, (x, y) in zip(rng.permutation(5), heads, strict=True):
        for dx, dy in ((-0.07, -0.03), (0.07, -0.03), (0.0, -0.09), (-0.045, 0.06), (0.045, 0.06)):
            pen.disc(x + dx, y + dy, 0.068, petals[index])
        pen.disc(x, y, 0.045, (236, 176, 50) if index != 2 else (150, 90, 40))


def _draw_balloon(pen: Pen, colour: Rgb) -> None:
    string = outline((0.0, 0.0), (0.10, -0.4, 0.02, -0.72), closed=False)
    pen.stroke(string, (90, 84, 90), 0.028)
    with pen.at(0.02, -1.12):
        pen.polygon([(0.0, 0.36), (0.07, 0.46), (-0.07, 0.46)], darker(colour, 0.3))
        pen.fill(oval(0.0, 0.0, 0.34, 0.40), colour)
        pen.fill(oval(-0.12, -0.16, 0.07, 0.11), lighter(colour, 0.7), 0.8)
