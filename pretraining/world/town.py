"""Street, football and park. Every scene is drawn over [-0.4, 1.4] in both directions."""

import numpy as np

from pretraining.world.openair import HIGH, LOW, clouds, pick, round_tree, sky
from pretraining.world.palette import WHITE, Rgb, darker, jitter, lighter, mix
from pretraining.world.pen import Pen, outline, oval, smooth


def street(pen: Pen, rng: np.random.Generator) -> None:
    """Buildings with windows and awnings behind a pavement and a road."""
    sky(pen, rng, 0.8, ((140, 196, 236), (176, 204, 228), (246, 196, 150)))
    x = LOW - rng.uniform(0.0, 0.2)
    while x < HIGH:
        wide = rng.uniform(0.26, 0.40)
        _building(pen, rng, x, wide)
        x += wide + 0.006
    pen.rect(LOW, 0.80, HIGH, 0.87, jitter(rng, (190, 186, 182), 6))
    pen.rect(LOW, 0.865, HIGH, 0.885, (150, 148, 148))
    pen.rect(LOW, 0.885, HIGH, HIGH, jitter(rng, (92, 94, 104), 6))
    start = rng.uniform(0.0, 0.3)
    for index in range(7):
        left = LOW - 0.2 + start + 0.3 * index
        pen.polygon([(left + 0.03, 0.945), (left + 0.18, 0.945), (left + 0.16, 0.972), (left, 0.972)], (244, 236, 214))
    kind = rng.random()
    if kind < 0.5:
        _car(
            pen,
            rng.uniform(-0.05, 0.2) if rng.random() < 0.5 else rng.uniform(0.75, 0.95),
            0.93,
            pick(rng, ((204, 66, 58), (238, 190, 66), (70, 124, 190), (96, 168, 150))),
        )
    if kind > 0.3:
        _lamp_post(pen, rng.uniform(0.02, 0.16), rng.uniform(0.22, 0.34), 0.86)
    if rng.random() < 0.6:
        round_tree(pen, rng.uniform(0.84, 1.0), 0.85, rng.uniform(0.3, 0.4), jitter(rng, (88, 152, 84)), (106, 78, 60))


def _building(pen: Pen, rng: np.random.Generator, x: float, wide: float) -> None:
    wall = pick(
        rng, ((198, 112, 88), (226, 178, 126), (146, 158, 178), (214, 204, 188), (170, 116, 130), (118, 150, 148))
    )
    top = rng.uniform(-0.02, 0.34)
    pen.rect(x, top, x + wide, 0.81, wall)
    pen.rect(x - 0.008, top, x + wide + 0.008, top + 0.03, darker(wall, 0.25))
    glass = pick(rng, ((96, 128, 158), (255, 226, 150), (70, 88, 116)), 6)
    columns = 2 if wide < 0.32 else 3
    step = wide / columns
    for row in range(5):
        y = top + 0.075 + 0.145 * row
        if y > 0.52:
            break
        for column in range(columns):
            left = x + step * (column + 0.5) - 0.037
            pen.rect(left, y, left + 0.074, y + 0.09, glass if rng.random() < 0.75 else lighter(glass, 0.4))
    awning = pick(rng, ((204, 70, 62), (60, 128, 116), (232, 176, 70), (66, 98, 160)))
    pen.rect(x + 0.03, 0.68, x + wide - 0.03, 0.81, darker(wall, 0.55))
    pen.polygon([(x + 0.03, 0.62), (x + wide - 0.03, 0.62), (x + wide - 0.005, 0.70), (x + 0.005, 0.70)], awning)
    for index in range(2):
        left = x + wide * (0.28 + 0.28 * index)
        pen.rect(left, 0.62, left + wide * 0.14, 0.70, WHITE, 0.0, 0.8)


def _car(pen: Pen, x: float, ground: float, colour: Rgb) -> None:
    """A small car whose wheels stand on ``ground``."""
    pen.fill(
        smooth(
            [
                (x - 0.11, ground - 0.10),
                (x - 0.07, ground - 0.185),
                (x + 0.07, ground - 0.185),
                (x + 0.12, ground - 0.10),
            ]
        ),
        colour,
    )
    pen.fill(
        outline(
            (x - 0.085, ground - 0.105),
            (x - 0.055, ground - 0.165),
            (x + 0.055, ground - 0.165),
            (x + 0.09, ground - 0.105),
        ),
        (206, 228, 240),
    )
    pen.rect(x - 0.19, ground - 0.115, x + 0.19, ground - 0.03, colour, 0.035)
    for side in (-0.11, 0.11):
        pen.disc(x + side, ground - 0.03, 0.042, (44, 44, 52))
        pen.disc(x + side, ground - 0.03, 0.018, (196, 198, 204))


def _lamp_post(pen: Pen, x: float, top: float, ground: float) -> None:
    pen.line([(x, ground), (x, top)], (62, 66, 76), 0.018)
    pen.line([(x, top), (x + 0.07, top)], (62, 66, 76), 0.018)
    pen.rect(x + 0.04, top - 0.005, x + 0.11, top + 0.03, (255, 232, 160), 0.012)


def football(pen: Pen, rng: np.random.Generator) -> None:
    """A striped pitch with a goal, a ball and full stands."""
    sky(pen, rng, 0.3, ((126, 190, 238), (170, 200, 226), (92, 126, 190)))
    _stands(pen, rng)
    grass = jitter(rng, (84, 164, 78), 8)
    pen.rect(LOW, 0.42, HIGH, HIGH, grass)
    eye, step, start = rng.uniform(0.3, 0.7), 0.32, rng.uniform(0.0, 0.32)
    for index in range(-5, 8, 2):
        near, far = eye + (index * step + start) * 1.9, eye + (index * step + start) * 0.55
        pen.polygon(
            [(far, 0.42), (far + step * 0.55, 0.42), (near + step * 1.9, HIGH), (near, HIGH)], lighter(grass, 0.14)
        )
    pen.rect(LOW, 0.42, HIGH, 0.432, WHITE)
    _goal(pen, rng.uniform(-0.02, 0.16), rng.uniform(0.36, 0.46))
    pen.fill(outline((LOW, 0.83), (HIGH, 0.80), (HIGH, 0.825), (LOW, 0.855)), WHITE)
    _ball(
        pen,
        rng.uniform(0.08, 0.16) if rng.random() < 0.5 else rng.uniform(0.84, 0.92),
        rng.uniform(0.82, 0.90),
        rng.uniform(0.058, 0.074),
    )


def _stands(pen: Pen, rng: np.random.Generator) -> None:
    """Rows of spectators, coarse, above a board."""
    seats = pick(rng, ((84, 98, 140), (150, 72, 78), (88, 96, 104)))
    pen.rect(LOW, 0.16, HIGH, 0.37, seats)
    crowd = [pick(rng, ((238, 196, 92), (226, 226, 230), (206, 84, 80), (110, 160, 206)), 8) for _ in range(6)]
    for row in range(3):
        for column in range(17):
            if rng.random() < 0.8:
                pen.disc(
                    LOW + 0.11 * column + 0.05 * (row % 2), 0.205 + 0.06 * row, 0.027, crowd[(column * 5 + row * 3) % 6]
                )
    pen.rect(LOW, 0.355, HIGH, 0.42, pick(rng, ((240, 240, 240), (46, 84, 160), (236, 188, 60))))


def _goal(pen: Pen, left: float, wide: float) -> None:
    top, foot, right = 0.19, 0.50, left + wide
    pen.rect(left, top, right, foot, WHITE, 0.0, 0.22)
    for index in range(1, 6):
        x = left + wide * index / 6
        pen.line([(x, top), (x, foot)], WHITE, 0.011, 0.75)
    for index in range(1, 5):
        pen.line([(left, top + 0.062 * index), (right, top + 0.062 * index)], WHITE, 0.011, 0.75)
    pen.line([(left, foot), (left, top), (right, top), (right, foot)], WHITE, 0.026)


def _ball(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.fill(oval(x, y + radius * 0.95, radius * 1.1, radius * 0.28), (30, 80, 40), 0.5)
    pen.disc(x, y, radius, (250, 250, 250))
    with pen.inside(oval(x, y, radius, radius)):
        pen.disc(x, y, radius * 0.38, (40, 40, 48))
        for dx, dy in ((0.0, -1.0), (0.95, -0.31), (0.59, 0.81), (-0.59, 0.81), (-0.95, -0.31)):
            pen.disc(x + dx * radius, y + dy * radius, radius * 0.3, (40, 40, 48))


def park(pen: Pen, rng: np.random.Generator) -> None:
    """Lawn, round trees, a winding path, a pond and a bench."""
    sky(pen, rng, 0.6, ((128, 196, 240), (164, 210, 240), (250, 206, 160)))
    clouds(pen, rng, 0.04, 0.16)
    autumn = rng.random() < 0.25
    leaf: tuple[Rgb, ...] = (
        ((222, 136, 56), (206, 92, 56), (226, 176, 70)) if autumn else ((96, 168, 84), (74, 148, 88), (130, 182, 80))
    )
    lawn = jitter(rng, (138, 190, 92), 8)
    for index in range(10):
        pen.disc(
            LOW + 0.2 * index + rng.uniform(-0.05, 0.05),
            rng.uniform(0.52, 0.58),
            rng.uniform(0.12, 0.16),
            mix(pick(rng, leaf, 6), (190, 220, 210), 0.35),
        )
    pen.rect(LOW, 0.56, HIGH, HIGH, lawn)
    pen.fill(
        outline(
            (0.44, 0.57),
            (0.62, 0.68, 0.30, 0.78),
            (0.0, 0.9, -0.1, HIGH),
            (0.75, HIGH),
            (0.5, 0.95, 0.62, 0.80),
            (0.76, 0.66, 0.50, 0.57),
        ),
        jitter(rng, (232, 212, 172), 5),
    )
    if rng.random() < 0.6:
        pen.fill(oval(0.92, 0.70, 0.26, 0.065), (224, 226, 200))
        pen.fill(oval(0.92, 0.705, 0.24, 0.055), jitter(rng, (98, 172, 206), 8))
    for x, size in (
        (rng.uniform(0.0, 0.14), rng.uniform(0.5, 0.62)),
        (rng.uniform(0.82, 0.98), rng.uniform(0.42, 0.56)),
        (-0.28, 0.5),
        (1.25, 0.55),
    ):
        round_tree(pen, x, 0.70, size, pick(rng, leaf, 8), (120, 86, 62))
    _bench(pen, rng.uniform(0.06, 0.16), 0.86, pick(rng, ((166, 104, 60), (120, 84, 60), (70, 120, 100))))


def _bench(pen: Pen, x: float, ground: float, wood: Rgb) -> None:
    for dx in (-0.13, 0.13):
        pen.rect(x + dx - 0.013, ground - 0.14, x + dx + 0.013, ground, (70, 70, 78))
    for dy in (0.19, 0.145, 0.085):
        pen.rect(x - 0.17, ground - dy, x + 0.17, ground - dy + 0.032, wood, 0.008)
