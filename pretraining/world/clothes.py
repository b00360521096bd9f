"""Neck, body and clothes, in head heights; the neck leaves the head at the chin."""

from pretraining.world.face import Head
from pretraining.world.palette import Rgb, darker, lighter, mix
from pretraining.world.pen import Path, Pen, outline, oval
from pretraining.world.people import Person
from pretraining.world.shots import Shot

_BOTTOM = 4.0
"""Below any picture's edge."""


def draw_body(pen: Pen, person: Person, head: Head, shot: Shot) -> None:
    """Neck, then the garment with its shadows."""
    woman = person.gender == "woman"
    neck, shoulder = (0.155, 0.80) if woman else (0.20, 0.93)
    top = head.chin + 0.13
    torso = _torso(neck, shoulder, top)
    if shot.clothes == "hoodie":
        pen.fill(oval(0.0, top + 0.06, neck * 2.7, 0.24), darker(shot.clothes_colour, 0.3))
    _draw_neck(pen, person, head, neck, top)
    pen.fill(torso, shot.clothes_colour)
    with pen.inside(torso):
        if shot.clothes == "sweater":
            _draw_stripes(pen, shot, top)
        _draw_arms(pen, shot, shoulder, top)
        away = -1.0 if shot.light_side > 0 else 1.0
        pen.rect(away * 0.46, top - 0.2, away * 0.46 + away * 2.0, _BOTTOM, darker(shot.clothes_colour, 0.6), 0.0, 0.13)
        if shot.clothes == "t-shirt":
            _draw_bare_arms(pen, person, shoulder, top)
    match shot.clothes:
        case "t-shirt":
            _draw_neckline(pen, person, shot.clothes_colour, neck * 1.28, top, 0.17)
        case "shirt":
            _draw_collar(pen, person, shot, neck, top)
        case "hoodie":
            _draw_hood(pen, person, shot, neck, top)
        case "sweater":
            _draw_neckline(pen, person, shot.clothes_colour, neck * 1.12, top, 0.09)
        case "jacket":
            _draw_jacket(pen, person, shot, neck, top)


def _torso(neck: float, shoulder: float, top: float) -> Path:
    """Shoulders that slope from the neck and arms that hang."""
    return outline(
        (0.0, top - 0.02), (neck * 1.15, top - 0.06), (neck * 1.5, top + 0.06, shoulder * 0.78, top + 0.13),
        (shoulder * 1.08, top + 0.19, shoulder * 1.16, top + 0.62),
        (shoulder * 1.22, top + 1.0, shoulder * 1.26, _BOTTOM),
        (-shoulder * 1.26, _BOTTOM), (-shoulder * 1.22, top + 1.0, -shoulder * 1.16, top + 0.62),
        (-shoulder * 1.08, top + 0.19, -shoulder * 0.78, top + 0.13),
        (-neck * 1.5, top + 0.06, -neck * 1.15, top - 0.06),
    )  # fmt: skip


def _draw_neck(pen: Pen, person: Person, head: Head, neck: float, top: float) -> None:
    pen.rect(-neck, 0.2, neck, top + 0.1, person.skin)
    shadow = outline(
        (-neck, 0.2), (neck, 0.2), (neck, head.chin + 0.02), (head.shift, head.chin + 0.16, -neck, head.chin + 0.02)
    )
    pen.fill(shadow, darker(person.skin, 0.32))


def _draw_arms(pen: Pen, shot: Shot, shoulder: float, top: float) -> None:
    """The folds between arms and chest."""
    fold = darker(shot.clothes_colour, 0.32)
    for side in (-1.0, 1.0):
        crease = outline(
            (side * shoulder * 0.80, top + 0.60),
            (side * shoulder * 0.86, top + 0.9, side * shoulder * 0.84, _BOTTOM),
            closed=False,
        )
        pen.stroke(crease, fold, 0.035)


def _draw_bare_arms(pen: Pen, person: Person, shoulder: float, top: float) -> None:
    """Skin below a short sleeve."""
    for side in (-1.0, 1.0):
        arm = outline(
            (side * shoulder * 0.84, top + 0.80),
            (side * shoulder * 1.5, top + 0.72),
            (side * shoulder * 1.5, _BOTTOM),
            (side * shoulder * 0.86, _BOTTOM),
        )
        pen.fill(arm, person.skin)
        pen.line(
            [(side * shoulder * 0.84, top + 0.81), (side * shoulder * 1.5, top + 0.73)], darker(person.skin, 0.3), 0.04
        )


def _draw_neckline(pen: Pen, person: Person, colour: Rgb, wide: float, top: float, deep: float) -> None:
    """A round opening with a hem."""
    opening = outline(
        (-wide, top - 0.14), (-wide * 0.9, top + deep * 1.25, wide * 0.9, top + deep * 1.25, wide, top - 0.14)
    )
    hem = outline(
        (-wide, top - 0.06),
        (-wide * 0.9, top + deep * 1.25, wide * 0.9, top + deep * 1.25, wide, top - 0.06),
        closed=False,
    )
    pen.fill(opening, mix(person.skin, darker(person.skin, 0.32), 0.35))
    pen.stroke(hem, darker(colour, 0.2), 0.065)


def _draw_collar(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    colour = shot.clothes_colour
    pen.polygon(
        [(-neck * 1.0, top - 0.08), (neck * 1.0, top - 0.08), (0.0, top + 0.24)],
        mix(person.skin, darker(person.skin, 0.32), 0.35),
    )
    pen.line([(0.0, top + 0.24), (0.0, _BOTTOM)], darker(colour, 0.26), 0.032)
    for index in range(3):
        pen.disc(
            0.0, top + 0.38 + 0.26 * index, 0.032, lighter(colour, 0.75) if sum(colour) < 600 else darker(colour, 0.5)
        )
    for side in (-1.0, 1.0):
        flap = outline((side * neck * 1.02, top - 0.12), (side * 0.0, top + 0.23), (side * 0.20, top + 0.33),
                       (side * neck * 1.75, top + 0.07),
                       (side * neck * 1.5, top - 0.02, side * neck * 1.02, top - 0.12))  # fmt: skip
        pen.fill(flap, lighter(colour, 0.22))
        pen.stroke(flap, darker(colour, 0.25), 0.022)


def _draw_hood(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    colour = shot.clothes_colour
    _draw_neckline(pen, person, colour, neck * 1.15, top, 0.16)
    for side in (-1.0, 1.0):
        roll = outline((side * neck * 1.1, top - 0.14),
                       (side * neck * 2.9, top - 0.04, side * neck * 2.5, top + 0.22, side * 0.02, top + 0.30),
                       (side * neck * 1.2, top + 0.14, side * neck * 1.1, top - 0.14))  # fmt: skip
        pen.fill(roll, lighter(colour, 0.14))
        pen.stroke(roll, darker(colour, 0.25), 0.022)
        pen.line([(side * 0.10, top + 0.25), (side * 0.115, top + 0.62)], shot.accent, 0.04)


def _draw_stripes(pen: Pen, shot: Shot, top: float) -> None:
    for index in range(8):
        y = top + 0.30 + 0.30 * index
        pen.rect(-2.0, y, 2.0, y + 0.13, shot.accent)


def _draw_jacket(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    colour = shot.clothes_colour
    inside = outline((-neck * 1.05, top - 0.1), (neck * 1.05, top - 0.1), (0.26, _BOTTOM), (-0.26, _BOTTOM))
    pen.fill(inside, shot.accent)
    with pen.inside(inside):
        _draw_neckline(pen, person, shot.accent, neck * 1.02, top, 0.10)
    for side in (-1.0, 1.0):
        lapel = outline((side * neck * 1.02, top - 0.13), (side * neck * 1.8, top + 0.0), (side * 0.44, top + 0.30),
                        (side * 0.33, top + 0.40),
                        (side * 0.36, top + 0.48), (side * 0.16, top + 0.95), (side * 0.20, top + 0.4))  # fmt: skip
        pen.fill(lapel, lighter(colour, 0.15))
        pen.stroke(lapel, darker(colour, 0.3), 0.022)
