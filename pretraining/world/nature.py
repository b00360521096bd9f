"""Forest, beach and snow. Every scene is drawn over [-0.4, 1.4] in both directions."""

import numpy as np

from pretraining.world.openair import HIGH, LOW, cloud, pick, pine, sky
from pretraining.world.palette import WHITE, Rgb, darker, jitter, lighter, mix
from pretraining.world.pen import Pen, box, outline, oval, smooth


def forest(pen: Pen, rng: np.random.Generator) -> None:
    """Pale trees far off, trunks and pines near by, a leafy floor."""
    air = pick(rng, ((186, 214, 170), (206, 218, 166), (164, 204, 182)))
    pen.fade(box(LOW, LOW, HIGH, 0.8), (0.0, 0.0), (0.0, 0.8), mix(air, (70, 130, 84), 0.45), lighter(air, 0.3))
    for _ in range(7):
        x = rng.uniform(LOW, HIGH)
        pen.rect(x, LOW, x + rng.uniform(0.03, 0.055), 0.8, mix(air, (88, 120, 84), 0.55))
    floor = pick(rng, ((110, 134, 66), (134, 116, 64), (92, 128, 74)))
    for index in range(6):
        pine(
            pen,
            LOW + 0.34 * index + rng.uniform(-0.08, 0.08),
            0.80,
            rng.uniform(0.55, 0.75),
            mix(jitter(rng, (64, 124, 80)), air, 0.3),
        )
    pen.rect(LOW, 0.76, HIGH, HIGH, floor)
    pen.fill(oval(rng.uniform(0.2, 0.8), 0.80, 0.7, 0.07), lighter(floor, 0.12))
    for x in (rng.uniform(-0.02, 0.12), rng.uniform(0.88, 1.02), rng.uniform(-0.36, -0.25), rng.uniform(1.22, 1.34)):
        if rng.random() < 0.5:
            pine(pen, x, 0.93, rng.uniform(0.8, 1.05), jitter(rng, (38, 98, 62), 8))
        else:
            _trunk(pen, rng, x)
    _canopy(pen, rng)
    for _ in range(4):
        x = rng.uniform(LOW, HIGH)
        for lean in (-0.07, -0.03, 0.03, 0.07):
            pen.line([(x, 0.99), (x + lean, 0.90 + abs(lean) * 0.5)], jitter(rng, (82, 152, 74), 6), 0.022)


def _trunk(pen: Pen, rng: np.random.Generator, x: float) -> None:
    bark, wide = pick(rng, ((104, 74, 54), (126, 96, 72), (86, 66, 56))), rng.uniform(0.055, 0.085)
    pen.fill(outline((x - wide, LOW), (x + wide, LOW), (x + wide, 0.7), (x + wide * 1.1, 0.86, x + wide * 1.9, 0.92),
                     (x - wide * 1.9, 0.92), (x - wide * 1.1, 0.86, x - wide, 0.7)), bark)  # fmt: skip
    pen.rect(x + wide * 0.35, LOW, x + wide, 0.86, darker(bark, 0.25))


def _canopy(pen: Pen, rng: np.random.Generator) -> None:
    """Leaves that hang into the picture from above."""
    leaf = pick(rng, ((54, 120, 66), (92, 146, 62), (44, 106, 76)))
    pen.rect(LOW, LOW, HIGH, -0.02, leaf)
    for index in range(10):
        pen.disc(
            LOW + 0.2 * index + rng.uniform(-0.04, 0.04),
            rng.uniform(-0.05, 0.03),
            rng.uniform(0.10, 0.14),
            jitter(rng, leaf, 5),
        )


def beach(pen: Pen, rng: np.random.Generator) -> None:
    """Sun, sea with a sail, sand with a parasol or a palm."""
    evening = rng.random() < 0.25
    horizon, shore = rng.uniform(0.36, 0.44), rng.uniform(0.64, 0.70)
    sky(pen, rng, horizon, ((250, 176, 128), (244, 160, 140)) if evening else ((98, 186, 236), (130, 204, 240)))
    x, y = rng.uniform(0.1, 0.9), rng.uniform(0.10, 0.17)
    pen.glow(x, y, 0.2, (255, 240, 170), 0.7)
    pen.disc(x, y, 0.075, (255, 232, 120))
    if not evening:
        cloud(pen, 1.0 - x, rng.uniform(0.1, 0.2), rng.uniform(0.07, 0.1))
    sea = jitter(rng, (56, 140, 186) if evening else (34, 142, 186), 8)
    pen.fade(box(LOW, horizon, HIGH, shore + 0.05), (0.0, horizon), (0.0, shore), darker(sea, 0.16), lighter(sea, 0.3))
    sail = rng.uniform(0.06, 0.24)
    pen.polygon([(sail, horizon - 0.11), (sail, horizon + 0.015), (sail + 0.08, horizon + 0.015)], WHITE)
    pen.polygon(
        [
            (sail - 0.05, horizon + 0.025),
            (sail + 0.09, horizon + 0.025),
            (sail + 0.06, horizon + 0.055),
            (sail - 0.03, horizon + 0.055),
        ],
        (190, 72, 60),
    )
    sand = jitter(rng, (242, 214, 160), 6)
    foam = [(LOW + 0.3 * index, shore + 0.022 * (-1) ** index) for index in range(7)]
    pen.fill(smooth([*foam, (HIGH + 0.2, HIGH), (LOW, HIGH)]), WHITE)
    pen.fill(smooth([*((px, py + 0.03) for px, py in foam), (HIGH + 0.2, HIGH + 0.1), (LOW - 0.1, HIGH + 0.1)]), sand)
    if rng.random() < 0.6:
        _parasol(
            pen,
            rng.uniform(0.80, 0.96),
            rng.uniform(0.36, 0.46),
            pick(rng, ((222, 78, 70), (64, 130, 190), (240, 176, 56), (72, 166, 140))),
        )
    else:
        _palm(pen, rng.uniform(0.86, 1.0), rng.uniform(0.22, 0.32), jitter(rng, (66, 150, 84)))


def _parasol(pen: Pen, x: float, top: float, colour: Rgb) -> None:
    pen.line([(x, top), (x - 0.03, 0.94)], (236, 232, 226), 0.02)
    dome = outline(
        (x - 0.21, top + 0.13), (x - 0.19, top - 0.04, x, top - 0.05), (x + 0.19, top - 0.04, x + 0.21, top + 0.13)
    )
    pen.fill(dome, colour)
    pen.fill(
        outline(
            (x - 0.11, top + 0.13), (x - 0.12, top - 0.03, x, top - 0.05), (x + 0.0, top + 0.04, x + 0.0, top + 0.13)
        ),
        WHITE,
    )
    pen.fill(
        outline(
            (x + 0.11, top + 0.13), (x + 0.12, top - 0.03, x, top - 0.05), (x + 0.17, top + 0.0, x + 0.21, top + 0.13)
        ),
        WHITE,
    )


def _palm(pen: Pen, x: float, top: float, leaf: Rgb) -> None:
    pen.stroke(outline((x + 0.02, 0.95), (x + 0.07, 0.6, x, top), closed=False), (150, 108, 70), 0.045)
    for dx, dy in ((-0.25, 0.10), (-0.19, -0.08), (0.22, 0.12), (0.19, -0.07), (0.03, -0.15)):
        pen.fill(
            outline(
                (x, top),
                (x + dx * 0.5, top + dy - 0.09, x + dx, top + dy),
                (x + dx * 0.5, top + dy * 0.6 + 0.02, x, top),
            ),
            leaf,
        )


def snow(pen: Pen, rng: np.random.Generator) -> None:
    """Snowy mountains and pines, with large flakes."""
    sky(pen, rng, 0.8, ((146, 178, 214), (120, 168, 222), (178, 186, 206)))
    for x, tip, wide in (
        (rng.uniform(0.0, 0.25), rng.uniform(0.12, 0.25), 0.5),
        (rng.uniform(0.65, 0.95), rng.uniform(0.05, 0.2), 0.55),
        (-0.3, 0.3, 0.4),
        (1.3, 0.28, 0.4),
    ):
        _mountain(pen, x, tip, wide, jitter(rng, (120, 142, 176), 6))
    ground = jitter(rng, (238, 243, 250), 3)
    for index in range(7):
        if rng.random() < 0.85:
            pine(
                pen,
                LOW + 0.3 * index + rng.uniform(-0.08, 0.08),
                rng.uniform(0.76, 0.86),
                rng.uniform(0.36, 0.6),
                jitter(rng, (58, 108, 98), 8),
                snow=True,
            )
    pen.fill(
        outline(
            (LOW, 0.76), (rng.uniform(0.1, 0.4), 0.66, 0.6, 0.76), (1.0, 0.84, HIGH, 0.74), (HIGH, HIGH), (LOW, HIGH)
        ),
        ground,
    )
    pen.fill(
        outline((LOW, 0.90), (0.3, 0.98, 0.7, 0.88), (1.1, 0.80, HIGH, 0.88), (HIGH, HIGH), (LOW, HIGH)),
        mix(ground, (168, 192, 226), 0.35),
    )
    for _ in range(34):
        pen.disc(rng.uniform(LOW, HIGH), rng.uniform(LOW, HIGH), rng.uniform(0.009, 0.016), (255, 255, 255), 0.95)


def _mountain(pen: Pen, x: float, tip: float, wide: float, rock: Rgb) -> None:
    pen.polygon([(x, tip), (x + wide, 0.85), (x - wide, 0.85)], rock)
    pen.polygon([(x, tip), (x + wide, 0.85), (x + wide * 0.15, 0.85)], darker(rock, 0.14))
    reach = (0.85 - tip) * 0.42
    pen.polygon([(x, tip), (x + wide * 0.42, tip + reach), (x + wide * 0.2, tip + reach * 0.8),
                 (x + wide * 0.04, tip + reach * 1.1),
                 (x - wide * 0.18, tip + reach * 0.78), (x - wide * 0.42, tip + reach)], (246, 250, 254))  # fmt: skip
