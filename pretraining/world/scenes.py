"""The eighteen scenes: each fills [-0.4, 1.4] in both directions, in units of the picture's short side, y down."""

from collections.abc import Callable

import numpy as np

from pretraining.world import indoors, nature, town, venues
from pretraining.world.pen import Pen
from pretraining.world.shots import SCENES

_DRAWN: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "street": town.street,
    "football": town.football,
    "kitchen": indoors.kitchen,
    "office": indoors.office,
    "forest": nature.forest,
    "beach": nature.beach,
    "snow": nature.snow,
    "library": indoors.library,
    "park": town.park,
    "bedroom": indoors.bedroom,
    "cafe": venues.cafe,
    "gym": venues.gym,
    "classroom": venues.classroom,
    "concert": venues.concert,
    "museum": venues.museum,
    "supermarket": venues.supermarket,
    "desert": venues.desert,
    "harbour": venues.harbour,
}


def draw_scene(pen: Pen, scene: str, seed: int) -> None:
    """Draw a scene whose objects, places and colours follow from the seed, half the time mirrored."""
    rng = np.random.default_rng(seed)
    mirrored = bool(rng.random() < 0.5)
    with pen.at(1.0 if mirrored else 0.0, 0.0, flip=mirrored):
        _DRAWN[scene](pen, rng)


__all__ = ["SCENES", "draw_scene"]
