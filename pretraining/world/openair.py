"""Sky, clouds and trees: what scenes out of doors share."""

import numpy as np

from pretraining.world.palette import WHITE, Rgb, jitter, lighter
from pretraining.world.pen import Pen, box

LOW, HIGH = -0.4, 1.4
"""How far a scene reaches beyond the unit square."""


def pick(rng: np.random.Generator, colours: tuple[Rgb, ...], spread: float = 10.0) -> Rgb:
    """One of the colours, moved a little."""
    return jitter(rng, colours[rng.integers(len(colours))], spread)


def sky(pen: Pen, rng: np.random.Generator, horizon: float, colours: tuple[Rgb, ...]) -> None:
    """A sky that pales towards the horizon."""
    top = pick(rng, colours)
    pen.fade(box(LOW, LOW, HIGH, horizon), (0.0, 0.0), (0.0, horizon), top, lighter(top, 0.55))


def cloud(pen: Pen, x: float, y: float, size: float) -> None:
    """One cloud, ``size`` about a third of its width."""
    for dx, dy, radius in ((-0.7, 0.0, 0.42), (0.0, -0.22, 0.6), (0.7, 0.02, 0.4)):
        pen.disc(x + dx * size, y + dy * size, radius * size, WHITE)
    pen.rect(x - 1.1 * size, y - 0.02 * size, x + 1.1 * size, y + 0.42 * size, WHITE, 0.2 * size)


def clouds(pen: Pen, rng: np.random.Generator, top: float, bottom: float) -> None:
    """A row of clouds between two heights."""
    for index in range(3):
        cloud(pen, -0.25 + 0.62 * index + rng.uniform(-0.12, 0.12), rng.uniform(top, bottom), rng.uniform(0.07, 0.12))


def round_tree(pen: Pen, x: float, ground: float, size: float, leaf: Rgb, trunk: Rgb) -> None:
    """A deciduous tree: a crown of four discs, lit from above."""
    pen.rect(x - 0.07 * size, ground - 0.6 * size, x + 0.07 * size, ground, trunk)
    for dx, dy, radius in ((-0.27, -0.72, 0.27), (0.27, -0.72, 0.27), (0.0, -0.66, 0.24), (0.0, -0.95, 0.32)):
        pen.disc(x + dx * size, ground + dy * size, radius * size, leaf)
    pen.disc(x - 0.07 * size, ground - 1.02 * size, 0.17 * size, lighter(leaf, 0.16))


def pine(pen: Pen, x: float, ground: float, size: float, leaf: Rgb, snow: bool = False) -> None:
    """A conifer of three tiers, perhaps with snow on each."""
    pen.rect(x - 0.045 * size, ground - 0.2 * size, x + 0.045 * size, ground, (92, 64, 46))
    for tier, (wide, low) in enumerate(((0.36, 0.12), (0.29, 0.38), (0.21, 0.62))):
        foot, tip = ground - low * size, ground - (low + 0.46) * size
        shade = lighter(leaf, 0.07 * tier)
        pen.polygon([(x, tip), (x + wide * size, foot), (x - wide * size, foot)], shade)
        if snow:
            pen.polygon([(x, tip), (x + wide * 0.5 * size, foot - 0.22 * size), (x + 0.06 * size, foot - 0.27 * size),
                         (x - 0.1 * size, foot - 0.2 * size),
                         (x - wide * 0.55 * size, foot - 0.2 * size)], (244, 248, 252))  # fmt: skip
