"""Limbs, hands, neck, legs and shoes, in head heights around the head's centre, y down."""

import math
from collections.abc import Sequence

from pretraining.world.face import Head
from pretraining.world.palette import Rgb, darker, lighter, mix
from pretraining.world.pen import Path, Pen, Point, limb, outline, oval, smooth
from pretraining.world.people import Person
from pretraining.world.pose import Figure
from pretraining.world.shots import Shot

SIDES = (-1.0, 1.0)
EDGE = 0.032
"""Width of the shade around an arm in front of the body."""


def angle(start: Point, stop: Point) -> float:
    """The clockwise turn, in degrees, of a bone that would hang straight down."""
    return math.degrees(math.atan2(start[0] - stop[0], stop[1] - start[1]))


def between(start: Point, stop: Point, share: float) -> Point:
    """The point at a share of the way."""
    return start[0] + (stop[0] - start[0]) * share, start[1] + (stop[1] - start[1]) * share


def away(shot: Shot) -> float:
    """The side that the light does not reach."""
    return -1.0 if shot.light_side > 0 else 1.0


def hull(points: Sequence[Point]) -> list[Point]:
    """The convex hull of points."""
    ordered = sorted(points)
    halves: list[list[Point]] = []
    for run in (ordered, ordered[::-1]):
        half: list[Point] = []
        for point in run:
            while len(half) > 1 and _turns_back(half[-2], half[-1], point):
                half.pop()
            half.append(point)
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _turns_back(first: Point, second: Point, third: Point) -> bool:
    return (second[0] - first[0]) * (third[1] - first[1]) <= (second[1] - first[1]) * (third[0] - first[0])


def drape(body: Figure, waist: float, share: float, flare: float, level: float) -> Path:
    """Cloth from the waist around both thighs: ``share`` of the thigh long, its foot wider by ``flare``."""
    corners: list[Point] = [(side * waist, level) for side in SIDES]
    corners += [(side * body.hip, body.top + 1.22) for side in SIDES]
    for hip, knee, ankle in body.legs:
        end = between(hip, knee, share) if share <= 1 else between(knee, ankle, share - 1)
        turn = math.atan2(knee[0] - hip[0], knee[1] - hip[1])
        for side in SIDES:
            wide = side * (0.22 + flare)
            corners.append((end[0] + wide * math.cos(turn), end[1] - wide * math.sin(turn)))
    points = hull(corners)
    return outline(points[0], *points[1:])


def draw_neck(pen: Pen, person: Person, head: Head, neck: float, top: float) -> None:
    """The neck and the chin's shadow on it."""
    pen.rect(-neck, 0.2, neck, top + 0.12, person.skin)
    shadow = outline(
        (-neck, 0.2), (neck, 0.2), (neck, head.chin + 0.02), (head.shift, head.chin + 0.16, -neck, head.chin + 0.02)
    )
    pen.fill(shadow, darker(person.skin, 0.32))


def draw_legs(pen: Pen, person: Person, shot: Shot, body: Figure) -> None:
    """Legs from far to near, shoes, and what covers them below the upper garment."""
    order = (0, 1) if shot.side > 0 else (1, 0)
    if shot.pose in ("walking", "sitting"):
        order = (order[1], order[0])
    bare = shot.clothes == "dress" or shot.bottoms != "trousers"
    for rank, index in enumerate(order):
        hip, knee, ankle = body.legs[index]
        dim = 0.2 if rank == 0 and shot.pose in ("walking", "sitting") else 0.0
        if bare:
            skin = darker(person.skin, dim)
            _edged(pen, (hip, knee, ankle), (0.19, 0.145, 0.105), skin)
        _draw_shoe(pen, shot, ankle, angle(knee, ankle), body.toes[index], dim)
        if not bare:
            _edged(pen, (hip, knee, between(knee, ankle, 0.93)), (0.235, 0.20, 0.165), darker(shot.bottoms_colour, dim))
        elif shot.clothes != "dress" and shot.bottoms == "shorts":
            _draw_short(pen, hip, between(hip, knee, 0.94), darker(shot.bottoms_colour, dim))
    if shot.clothes == "dress":
        return
    colour, level = shot.bottoms_colour, body.top + (1.12 if shot.pose == "sitting" else 0.86)
    if shot.bottoms == "skirt":
        skirt = drape(body, 0.36, 0.86, 0.05, level)
        pen.fill(skirt, colour)
        with pen.inside(skirt):
            for x in (-0.22, 0.0, 0.22):
                pen.line([(x * 0.7, body.top + 1.3), (x * 1.6, body.top + 2.4)], darker(colour, 0.35), 0.035)
        return
    seat = outline((-0.38, level), (0.38, level), (body.hip, body.top + 1.3), (0.2, body.top + 1.5),
                   (-0.2, body.top + 1.5), (-body.hip, body.top + 1.3))  # fmt: skip
    pen.fill(seat, colour)
    if shot.pose not in ("walking", "sitting"):
        pen.line([(0.0, body.top + 1.38), (0.0, body.top + 1.5)], darker(colour, 0.5), 0.04)


def _draw_short(pen: Pen, hip: Point, end: Point, colour: Rgb) -> None:
    """One leg of a pair of shorts, cut straight."""
    long = math.hypot(end[0] - hip[0], end[1] - hip[1])
    with pen.at(*hip, 1.0, angle(hip, end)):
        leg = outline((-0.23, 0.0), (-0.23, -0.23, 0.0, -0.23), (0.23, -0.23, 0.23, 0.0), (0.245, long), (-0.245, long))
        pen.stroke(leg, darker(colour, 0.42), 0.036)
        pen.fill(leg, colour)
        pen.rect(-0.245, long - 0.05, 0.245, long, darker(colour, 0.25))


def _edged(pen: Pen, joints: tuple[Point, Point, Point], radii: tuple[float, float, float], colour: Rgb) -> None:
    """A leg with a darker rim."""
    pen.fill(limb(joints, tuple(radius + 0.018 for radius in radii)), darker(colour, 0.42))
    pen.fill(limb(joints, radii), colour)


def _draw_shoe(pen: Pen, shot: Shot, ankle: Point, degrees: float, toe: float, dim: float) -> None:
    colour = darker(shot.shoes_colour, dim)
    sole = lighter(colour, 0.7) if sum(colour) < 420 else darker(colour, 0.45)
    with pen.at(*ankle, 1.0, degrees, flip=toe < 0):
        long = 0.20 + 0.15 * abs(toe)
        shoe = outline(
            (-0.15, -0.06), (0.13, -0.06), (0.16, 0.02, long * 0.8, 0.03), (long + 0.06, 0.05, long + 0.04, 0.17),
            (-0.17, 0.17), (-0.19, 0.05, -0.15, -0.06),
        )  # fmt: skip
        pen.fill(shoe, colour)
        pen.rect(-0.18, 0.125, long + 0.05, 0.18, sole, 0.025)


def draw_bare_arm(pen: Pen, person: Person, arm: tuple[Point, Point, Point], woman: bool) -> None:
    """An arm of skin, with a darker rim."""
    radii = (0.14, 0.115, 0.085) if woman else (0.165, 0.135, 0.1)
    arm = (between(arm[0], arm[1], 0.5), arm[1], arm[2])
    pen.fill(limb(arm, tuple(radius + EDGE for radius in radii)), darker(person.skin, 0.4))
    pen.fill(limb(arm, radii), person.skin)


def draw_hand(pen: Pen, person: Person, arm: tuple[Point, Point, Point], side: float, kind: str) -> None:
    """A hand that is ``open`` with spread fingers, ``relaxed``, or a ``fist`` around something."""
    skin, rim = person.skin, darker(person.skin, 0.42)
    with pen.at(*arm[2], 1.0, angle(arm[1], arm[2]), flip=side < 0):
        if kind == "open":
            fingers = [(-0.17, 0.15), (-0.095, 0.265), (0.0, 0.295), (0.092, 0.26), (0.165, 0.17)]
            for colour, grow in ((rim, 0.034), (skin, 0.0)):
                for x, y in fingers:
                    pen.line([(x * 0.4, 0.08), (x, y)], colour, 0.072 + grow)
                pen.fill(oval(0.0, 0.085, 0.105 + grow / 2, 0.11 + grow / 2), colour)
        elif kind == "fist":
            pen.disc(0.0, 0.05, 0.132, rim)
            pen.disc(0.0, 0.05, 0.112, skin)
        else:
            palm = smooth([(-0.085, -0.02), (0.085, -0.02), (0.105, 0.11), (0.06, 0.235), (-0.04, 0.24), (-0.1, 0.11)])
            pen.stroke(palm, rim, 0.036)
            pen.line([(-0.06, 0.06), (-0.115, 0.15)], rim, 0.082)
            pen.line([(-0.06, 0.06), (-0.115, 0.15)], skin, 0.05)
            pen.fill(palm, skin)


def draw_seat(pen: Pen, shot: Shot, body: Figure) -> None:
    """The bench under someone who sits."""
    wood = ((164, 108, 62), (98, 104, 116), (188, 142, 92), (132, 74, 60))[shot.pose_seed // 2 % 4]
    level, ground = body.legs[0][0][1] + 0.17, body.ground
    near, far = -shot.side * 0.92, shot.side * 0.52
    if shot.pose_seed // 16 % 2:
        post = -shot.side * 1.0
        pen.rect(post - 0.07, body.top + 0.42, post + 0.07, ground - 0.02, darker(wood, 0.3), 0.05)
        pen.rect(post - 0.07, body.top + 0.42, post + 0.02, level, wood, 0.05)
        near = post
    left, right = min(near, far), max(near, far)
    for x in (left + 0.14, right - 0.14):
        pen.rect(x - 0.06, level, x + 0.06, ground - 0.02, darker(wood, 0.45), 0.03)
    pen.rect(left + 0.14, level + 0.42, right - 0.14, level + 0.49, darker(wood, 0.55), 0.02)
    pen.rect(left, level, right, level + 0.17, darker(wood, 0.3), 0.05)
    pen.rect(left, level, right, level + 0.10, lighter(wood, 0.12), 0.05)


def draw_ball(pen: Pen, shot: Shot, body: Figure) -> None:
    """The ball in front of a kicking foot."""
    index = 1 if shot.side > 0 else 0
    x, y = body.legs[index][2]
    x, y, size = x + shot.side * 0.42, y + 0.1, 0.235
    pen.disc(x, y, size + 0.02, (70, 70, 78))
    pen.disc(x, y, size, (248, 248, 246))
    ball = oval(x, y, size, size)
    with pen.inside(ball):
        pen.disc(x, y, size * 0.34, (44, 44, 52))
        for step in range(5):
            turn = math.radians(72 * step + 20)
            pen.disc(x + size * math.sin(turn), y - size * math.cos(turn), size * 0.3, (44, 44, 52))


def shaded(person: Person) -> Rgb:
    """Skin in the shadow of the chin."""
    return mix(person.skin, darker(person.skin, 0.32), 0.35)
