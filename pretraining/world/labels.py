"""What a picture shows, as one class number per kind: the answers against which pictures are judged."""

from typing import get_args

import numpy as np
import numpy.typing as npt

from pretraining.world.palette import CLOTHES_COLOURS, HAIR_COLOURS
from pretraining.world.people import Age, Gender, HairStyle, Person
from pretraining.world.shots import (
    FRAMINGS,
    FREE_HANDED,
    HATS,
    HELD,
    PATTERNS,
    POSES,
    SCENES,
    Clothes,
    Expression,
    Shot,
)

LABELS: dict[str, tuple[str, ...]] = {
    "scene": SCENES,
    "clothes colour": tuple(CLOTHES_COLOURS),
    "hair colour": tuple(HAIR_COLOURS),
    "hair style": get_args(HairStyle),
    "glasses": ("no glasses", "glasses"),
    "pose": POSES,
    "framing": FRAMINGS,
    "gender": get_args(Gender),
    "clothes": get_args(Clothes),
    "pattern": PATTERNS,
    "hat": ("none", *HATS),
    "expression": get_args(Expression),
    "beard": ("no beard", "beard"),
    "age": get_args(Age),
    "held": ("nothing", *HELD),
}
"""The classes of every kind, in the order of :func:`labels`."""

UNSEEN = -1

_BELOW_A_HAT: tuple[HairStyle, ...] = ("long straight", "long wavy", "braids", "pigtails")
"""The styles that a hat leaves recognisable."""
_SEEN_BELOW_A_HAT: tuple[HairStyle, ...] = (*_BELOW_A_HAT, "bob", "curly", "ponytail")
"""The styles of which a hat leaves enough to see the colour."""


def labels(person: Person, shot: Shot) -> npt.NDArray[np.int8]:
    """Name what a picture shows.

    Args:
        person: Who is in it.
        shot: Where and how.

    Returns:
        ``(len(LABELS),)``, the class of each kind, or ``UNSEEN`` where the picture does not show it or it is in doubt:
        the colour of no hair, the pose in a close-up, hair under a hat, stubble.
    """
    shown: dict[str, str | None] = {
        "scene": shot.scene,
        "clothes colour": shot.clothes_name,
        "hair colour": person.hair_name if hair_colour_shows(person, shot) else None,
        "hair style": person.hair_style if hair_style_shows(person, shot) else None,
        "glasses": "no glasses" if person.glasses is None else "glasses",
        "pose": None if shot.framing == "head" else shot.pose,
        "framing": shot.framing,
        "gender": person.gender,
        "clothes": shot.clothes,
        "pattern": shot.pattern,
        "hat": shot.hat or "none",
        "expression": shot.expression,
        "beard": None if person.beard == "stubble" else "no beard" if person.beard is None else "beard",
        "age": person.age,
        "held": None if shot.framing == "head" else held(shot) or "nothing",
    }
    numbers = [UNSEEN if name is None else LABELS[kind].index(name) for kind, name in shown.items()]
    return np.array(numbers, np.int8)


def hair_style_shows(person: Person, shot: Shot) -> bool:
    """Whether the picture tells how the hair is worn."""
    return shot.hat is None or person.hair_style in _BELOW_A_HAT


def hair_colour_shows(person: Person, shot: Shot) -> bool:
    """Whether the picture tells the hair's colour."""
    return person.hair_style != "bald" and (shot.hat is None or person.hair_style in _SEEN_BELOW_A_HAT)


def held(shot: Shot) -> str | None:
    """What is seen in a hand."""
    return shot.held if shot.framing != "head" and shot.pose in FREE_HANDED else None
