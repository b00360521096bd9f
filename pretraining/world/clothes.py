"""Garments of the upper body: torso, sleeves, patterns and collars, in head heights around the head's centre."""

from pretraining.world.body import (
    EDGE,
    SIDES,
    angle,
    away,
    between,
    drape,
    draw_bare_arm,
    draw_hand,
    draw_legs,
    draw_neck,
    shaded,
)
from pretraining.world.face import Head
from pretraining.world.palette import Rgb, darker, lighter, mix
from pretraining.world.pen import Path, Pen, Point, discs, limb, outline, oval
from pretraining.world.people import Person
from pretraining.world.pose import Figure
from pretraining.world.shots import Shot

_HEMS = {"t-shirt": 1.34, "shirt": 1.38, "hoodie": 1.36, "sweater": 1.36, "jacket": 1.40}
"""How far each garment reaches below the neck's foot."""
_SHORT = ("t-shirt", "dress")
"""Garments whose sleeves end above the elbow."""


def in_front(shot: Shot, body: Figure, index: int) -> bool:
    """Whether an arm is drawn over head and hair: raised arms and those that show a thing."""
    _, elbow, wrist = body.arms[index]
    return shot.framing != "head" and (index == body.held or wrist[1] < elbow[1] - 0.1)


def draw_body(pen: Pen, person: Person, head: Head, shot: Shot, body: Figure) -> None:
    """Legs, neck and garment, then the arms that stay below the head."""
    neck = 0.155 if person.gender == "woman" else 0.20
    over = shot.pose == "sitting" and shot.clothes not in ("dress", "coat")
    if shot.framing != "head" and not over:
        draw_legs(pen, person, shot, body)
    if shot.clothes == "hoodie":
        pen.fill(oval(0.0, body.top + 0.06, neck * 2.7, 0.24), darker(shot.clothes_colour, 0.3))
    draw_neck(pen, person, head, neck, body.top)
    garment = _garment(pen, person, shot, body, neck)
    with pen.inside(garment):
        _draw_trim(pen, shot, neck, body.top)
    if over:
        draw_legs(pen, person, shot, body)
    for index in (0, 1):
        if not in_front(shot, body, index):
            draw_arm(pen, person, shot, body, index)
    _draw_top(pen, person, shot, neck, body.top)


def draw_arm(pen: Pen, person: Person, shot: Shot, body: Figure, index: int) -> None:
    """Skin, sleeve, shade and hand of one arm."""
    arm, side, woman = body.arms[index], SIDES[index], person.gender == "woman"
    start, elbow, wrist = arm
    raised = wrist[1] < elbow[1] - 0.1
    fist = index == body.held or shot.pose in ("walking", "hands on hips")
    kind = "fist" if fist else "open" if raised and shot.pose in ("arms raised", "waving") else "relaxed"
    thick = 0.15 if woman else 0.178
    if shot.clothes in _SHORT:
        draw_bare_arm(pen, person, arm, woman)
        draw_hand(pen, person, arm, side, kind)
        end = between(start, elbow, 0.74)
        _draw_sleeve(pen, shot, (start, between(start, elbow, 0.5), end), (thick, thick, thick + 0.01), side)
        return
    draw_hand(pen, person, arm, side, kind)
    if shot.clothes in ("coat", "jacket", "hoodie"):
        thick += 0.015
    cuff = between(elbow, wrist, 0.9)
    _draw_sleeve(pen, shot, (start, elbow, cuff), (thick, thick * 0.88, thick * 0.76), side)


def _draw_sleeve(
    pen: Pen, shot: Shot, arm: tuple[Point, Point, Point], radii: tuple[float, float, float], side: float
) -> None:
    """Cloth around an arm; the pattern runs across it."""
    colour = shot.clothes_colour
    start, elbow, end = arm
    below = (between(start, elbow, 0.42), elbow, end)
    pen.fill(limb(below, tuple(radius + EDGE for radius in radii)), darker(colour, 0.5))
    sleeve = limb(arm, radii)
    pen.fill(sleeve, colour)
    if shot.pattern != "plain":
        for first, second, thick in ((start, elbow, radii[0]), (elbow, end, radii[1])):
            part = limb((first, second), (thick, thick))
            with pen.inside(part), pen.inside(sleeve), pen.at(*first, 1.0, angle(first, second)):
                _draw_pattern(pen, shot, -0.3, -0.24, 0.3, 0.8)
    if side == away(shot):
        pen.fill(sleeve, darker(colour, 0.6), 0.13)
    with pen.inside(sleeve), pen.at(*end, 1.0, angle(elbow, end)):
        pen.rect(-0.4, 0.05, 0.4, 0.1, darker(colour, 0.3))


def _garment(pen: Pen, person: Person, shot: Shot, body: Figure, neck: float) -> Path:
    """Fill the torso, and below it the skirts of a dress or coat; return the path for further trim."""
    colour, top = shot.clothes_colour, body.top
    long = {"dress": 1.0, "coat": 1.0}.get(shot.clothes)
    hem = top + _HEMS.get(shot.clothes, 1.1)
    waist = (0.40 if person.gender == "woman" else 0.50) + (0.05 if shot.clothes in ("coat", "hoodie") else 0.0)
    wide = body.hip + 0.04 if long is None else waist
    torso = _torso(neck, body.shoulder, top, waist, wide, hem)
    pieces = [torso]
    if long is not None and shot.framing != "head":
        flare = 0.10 if shot.clothes == "dress" else 0.05
        pieces.append(drape(body, waist * 0.98, long, flare, top + 0.95))
    for piece in reversed(pieces):
        pen.fill(piece, colour)
        with pen.inside(piece):
            _draw_pattern(pen, shot, -1.3, top - 0.1, 1.3, top + (2.6 if piece is not torso else 1.5))
            side = away(shot)
            pen.rect(side * 0.30, top - 0.2, side * 2.5, 4.0, darker(colour, 0.6), 0.0, 0.13)
    if long is None:
        with pen.inside(torso):
            pen.rect(-1.0, hem - (0.11 if shot.clothes in ("sweater", "hoodie") else 0.05), 1.0, hem + 0.1,
                     darker(colour, 0.28), 0.0, 0.7)  # fmt: skip
    else:
        _draw_skirts(pen, shot, pieces[-1], waist, top)
    if len(pieces) > 1:
        torso.addPath(pieces[1])
    return torso


def _draw_skirts(pen: Pen, shot: Shot, skirts: Path, waist: float, top: float) -> None:
    """Folds of a dress and its belt, or the belt of a coat."""
    colour = shot.clothes_colour
    fold = darker(colour, 0.4)
    if shot.clothes == "dress":
        with pen.inside(skirts):
            for x in (-0.2, 0.05, 0.26):
                pen.line([(x * 0.8, top + 1.25), (x * 1.7, top + 2.3)], fold, 0.032, 0.8)
        pen.rect(-waist, top + 0.93, waist, top + 1.03, shot.accent)
    else:
        pen.rect(-waist, top + 0.94, waist, top + 1.07, darker(colour, 0.55))
        pen.rect(-0.08, top + 0.92, 0.08, top + 1.09, lighter(colour, 0.6), 0.02)


def _torso(neck: float, shoulder: float, top: float, waist: float, hip: float, hem: float) -> Path:
    """Shoulders that slope from the neck, a waist, and hips down to the hem."""
    right = [
        (neck * 1.15, top - 0.06),
        (neck * 1.5, top + 0.05, shoulder * 0.8, top + 0.07),
        (shoulder + 0.08, top + 0.1, shoulder + 0.09, top + 0.26),
        (shoulder - 0.02, top + 0.5, waist + 0.03, top + 0.72),
        (waist - 0.02, top + 0.95, hip, hem),
    ]
    left: list[tuple[float, ...]] = [(-hip, hem)]
    ends = [segment[-2:] for segment in right]
    for segment, end in zip(reversed(right[1:]), reversed(ends[:-1]), strict=True):
        left.append((-segment[0], segment[1], -end[0], end[1]))
    return outline((0.0, top - 0.02), *right, *left)


def _draw_pattern(pen: Pen, shot: Shot, left: float, top: float, right: float, bottom: float) -> None:
    """Stripes, dots or checks in the accent colour."""
    accent = shot.accent
    across, down = round((right - left) / 0.27) + 1, round((bottom - top) / 0.27) + 1
    if shot.pattern == "striped":
        for index in range(round((bottom - top) / 0.3) + 1):
            y = top + 0.14 + 0.3 * index
            pen.rect(left, y, right, y + 0.135, accent)
    elif shot.pattern == "dotted":
        spots = [
            (left + 0.06 + 0.27 * (column + 0.5 * (row % 2)), top + 0.12 + 0.21 * row)
            for row in range(round((bottom - top) / 0.21) + 1) for column in range(across)
        ]  # fmt: skip
        pen.fill(discs(spots, 0.062), accent)
    elif shot.pattern == "checked":
        for index in range(across):
            x = left + 0.02 + 0.27 * index
            pen.rect(x, top, x + 0.125, bottom, accent, 0.0, 0.55)
        for index in range(down):
            y = top + 0.1 + 0.27 * index
            pen.rect(left, y, right, y + 0.125, accent, 0.0, 0.55)


def _draw_trim(pen: Pen, shot: Shot, neck: float, top: float) -> None:
    """What lies flat on the chest and may be covered by arms."""
    colour = shot.clothes_colour
    bright = lighter(colour, 0.75) if sum(colour) < 600 else darker(colour, 0.5)
    match shot.clothes:
        case "shirt":
            pen.line([(0.0, top + 0.24), (0.0, top + 1.5)], darker(colour, 0.26), 0.032)
            for index in range(5):
                pen.disc(0.0, top + 0.38 + 0.24 * index, 0.034, bright)
        case "hoodie":
            pocket = outline((-0.2, top + 0.86), (0.2, top + 0.86), (0.33, top + 1.05), (0.33, top + 1.24),
                             (-0.33, top + 1.24), (-0.33, top + 1.05))  # fmt: skip
            pen.fill(pocket, colour)
            pen.stroke(pocket, darker(colour, 0.35), 0.03)
        case "jacket":
            inside = outline((-neck * 1.05, top - 0.1), (neck * 1.05, top - 0.1), (0.17, top + 1.5), (-0.17, top + 1.5))
            pen.fill(inside, shot.accent)
            pen.stroke(inside, darker(colour, 0.4), 0.024)
        case "coat":
            pen.line([(0.0, top + 0.4), (0.0, top + 3.0)], darker(colour, 0.4), 0.036)
            for index in (0, 1, 3, 4):
                for side in SIDES:
                    pen.disc(side * 0.14, top + 0.56 + 0.25 * index, 0.042, bright)
        case _:
            pass


def _draw_top(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    """Neckline, collar, hood or lapels."""
    match shot.clothes:
        case "t-shirt":
            _draw_neckline(pen, person, shot.clothes_colour, neck * 1.28, top, 0.17)
        case "dress":
            _draw_neckline(pen, person, shot.clothes_colour, neck * 1.5, top, 0.24)
        case "shirt":
            _draw_collar(pen, person, shot, neck, top)
        case "hoodie":
            _draw_hood(pen, person, shot, neck, top)
        case "sweater":
            _draw_roll(pen, shot, neck, top)
        case "jacket":
            _draw_neckline(pen, person, shot.accent, neck * 1.02, top, 0.10)
            _draw_lapels(pen, shot, neck, top, 0.95)
        case "coat":
            _draw_scarf(pen, person, shot, neck, top)
            _draw_lapels(pen, shot, neck, top, 0.52)


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
    pen.fill(opening, shaded(person))
    pen.stroke(hem, darker(colour, 0.2), 0.065)


def _draw_collar(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    colour = shot.clothes_colour
    pen.polygon([(-neck * 1.0, top - 0.08), (neck * 1.0, top - 0.08), (0.0, top + 0.24)], shaded(person))
    for side in SIDES:
        flap = outline((side * neck * 1.02, top - 0.12), (side * 0.0, top + 0.23), (side * 0.20, top + 0.33),
                       (side * neck * 1.75, top + 0.07),
                       (side * neck * 1.5, top - 0.02, side * neck * 1.02, top - 0.12))  # fmt: skip
        pen.fill(flap, lighter(colour, 0.22))
        pen.stroke(flap, darker(colour, 0.25), 0.022)


def _draw_hood(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    colour = shot.clothes_colour
    _draw_neckline(pen, person, colour, neck * 1.15, top, 0.16)
    for side in SIDES:
        roll = outline((side * neck * 1.1, top - 0.14),
                       (side * neck * 2.9, top - 0.04, side * neck * 2.5, top + 0.22, side * 0.02, top + 0.30),
                       (side * neck * 1.2, top + 0.14, side * neck * 1.1, top - 0.14))  # fmt: skip
        pen.fill(roll, lighter(colour, 0.14))
        pen.stroke(roll, darker(colour, 0.25), 0.022)
        string = shot.accent if shot.pattern == "plain" else lighter(colour, 0.8)
        pen.line([(side * 0.10, top + 0.25), (side * 0.115, top + 0.62)], string, 0.04)


def _draw_roll(pen: Pen, shot: Shot, neck: float, top: float) -> None:
    """The rolled neck of a sweater."""
    colour = shot.clothes_colour
    roll = outline((-neck * 1.12, top - 0.14), (0.0, top - 0.04, neck * 1.12, top - 0.14),
                   (neck * 1.35, top - 0.02, neck * 1.3, top + 0.08), (0.0, top + 0.22, -neck * 1.3, top + 0.08),
                   (-neck * 1.35, top - 0.02, -neck * 1.12, top - 0.14))  # fmt: skip
    pen.fill(roll, lighter(colour, 0.1))
    pen.stroke(roll, darker(colour, 0.3), 0.026)


def _draw_scarf(pen: Pen, person: Person, shot: Shot, neck: float, top: float) -> None:
    """The skin and the lining inside a coat's collar."""
    pen.polygon([(-neck * 1.1, top - 0.1), (neck * 1.1, top - 0.1), (0.0, top + 0.5)], shot.accent)
    _draw_neckline(pen, person, shot.accent, neck * 0.98, top - 0.04, 0.08)


def _draw_lapels(pen: Pen, shot: Shot, neck: float, top: float, deep: float) -> None:
    colour = shot.clothes_colour
    foot = 0.16 if deep > 0.8 else 0.0
    for side in SIDES:
        lapel = outline((side * neck * 1.02, top - 0.13), (side * neck * 1.8, top + 0.0), (side * 0.44, top + 0.30),
                        (side * 0.33, top + 0.36), (side * 0.36, top + 0.44), (side * foot, top + deep),
                        (side * (foot + 0.04), top + 0.4))  # fmt: skip
        pen.fill(lapel, mix(colour, lighter(colour, 0.5), 0.3))
        pen.stroke(lapel, darker(colour, 0.3), 0.022)
