"""The people of the drawn world: traits that words name, and traits that words do not reach."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from pretraining.world.palette import (
    EYE_COLOURS,
    FRAME_COLOURS,
    HAIR_COLOURS,
    SKIN_TONES,
    Rgb,
    darker,
    jitter,
    mix,
    ramp,
)

Gender: TypeAlias = Literal["woman", "man"]
HairStyle: TypeAlias = Literal[
    "short", "long straight", "long wavy", "curly", "bun", "ponytail", "bob", "bald", "spiky", "fringe", "braids",
    "mohawk", "pigtails",
]  # fmt: skip
Glasses: TypeAlias = Literal["round", "square", "thick"]
Beard: TypeAlias = Literal["stubble", "full", "goatee", "moustache"]
Age: TypeAlias = Literal["young", "middle-aged", "old"]

HAIR_STYLES: dict[Gender, dict[HairStyle, float]] = {
    "woman": {
        "short": 0.06, "long straight": 0.12, "long wavy": 0.12, "curly": 0.09, "bun": 0.09,
        "ponytail": 0.09, "bob": 0.10, "spiky": 0.03, "fringe": 0.09, "braids": 0.08, "mohawk": 0.04, "pigtails": 0.09,
    },
    "man": {
        "short": 0.16, "long straight": 0.06, "long wavy": 0.06, "curly": 0.10, "bun": 0.06, "ponytail": 0.05,
        "bob": 0.04, "bald": 0.12, "spiky": 0.13, "fringe": 0.04, "braids": 0.04, "mohawk": 0.11, "pigtails": 0.03,
    },
}  # fmt: skip
"""How often each style occurs, by gender."""

AGES: dict[Age, float] = {"young": 0.5, "middle-aged": 0.28, "old": 0.22}
"""How often each age occurs."""

_HAIR_COLOUR_SHARES = (0.19, 0.19, 0.16, 0.14, 0.06, 0.13, 0.13)
"""In the order of ``HAIR_COLOURS``, before age."""
_TURNED_GRAY: dict[Age, float] = {"young": 0.0, "middle-aged": 0.0, "old": 0.6}
"""How often hair of any other colour is gray by that age."""
_GLASSES_SHARE = 0.4
_STREAK_SHARE = 0.2
_STREAK_COLOURS: tuple[Rgb, ...] = (
    (250, 248, 244), (40, 200, 190), (150, 84, 214), (110, 206, 84), (248, 138, 40), (250, 222, 80), (228, 52, 76),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One drawn person. Factors are multiples of the average, 1.0; lengths are in head heights, y down."""

    gender: Gender
    skin: Rgb
    face_width: float
    """Factor in [0.86, 1.14]."""
    face_length: float
    """Factor in [0.92, 1.08] on the distance from eyes to chin."""
    jaw: float
    """Width of the jaw relative to the cheeks, [0.6, 0.98]."""
    chin: float
    """Width of the chin, 0 pointed to 1 broad."""
    ears: float
    """Factor in [0.8, 1.25]."""
    hair_style: HairStyle
    hair_name: str
    """A key of ``HAIR_COLOURS``."""
    hair_colour: Rgb
    hair_volume: float
    """Factor in [0.85, 1.2]."""
    parting: float
    """Where the hair parts: -1 left to 1 right."""
    hairline: float
    """Height of the hairline, 0 low to 1 high."""
    eye_colour: Rgb
    eye_size: float
    """Factor in [0.82, 1.22]."""
    eye_distance: float
    """Factor in [0.88, 1.14]."""
    eye_slant: float
    """Rise of the outer corner, [-1, 1]."""
    brow_thickness: float
    """Factor in [0.6, 1.6]."""
    brow_arch: float
    """0 straight to 1 arched."""
    brow_slant: float
    """Rise of the outer end, [-1, 1]."""
    nose_width: float
    """Factor in [0.75, 1.35]."""
    nose_length: float
    """Factor in [0.85, 1.15]."""
    mouth_width: float
    """Factor in [0.85, 1.18]."""
    lip_fullness: float
    """Factor in [0.6, 1.5]."""
    lip_colour: Rgb
    blush: float
    """Strength of the cheeks' colour, [0.15, 0.52]."""
    freckles: float
    """0 none, else opacity in [0.4, 0.8]."""
    mole: tuple[float, float] | None
    """Place on the face."""
    glasses: Glasses | None
    glasses_name: str
    """A key of ``FRAME_COLOURS``."""
    glasses_colour: Rgb
    beard: Beard | None
    earrings: Rgb | None
    age: Age
    """Seen in wrinkles, lips and lids, and often in gray hair."""
    streak: Rgb | None
    """A lock of another colour in the hair; no caption names it."""
    birthmark: tuple[float, float] | None
    """Centre of a large patch on the face, darker on light skin and lighter on dark skin; no caption names it."""
    scar: float
    """Through one brow: 0 none, -1 left, 1 right in the picture; no caption names it."""
    other_eye: Rgb | None
    """Colour of the eye on the picture's right where it differs from ``eye_colour``; no caption names it."""


def sample_person(rng: np.random.Generator) -> Person:
    """Draw one person from the population.

    Args:
        rng: Source of randomness; a few dozen draws are taken from it.

    Returns:
        A woman or a man with equal probability.
    """
    gender: Gender = "woman" if rng.random() < 0.5 else "man"
    woman = gender == "woman"
    styles = HAIR_STYLES[gender]
    style = list(styles)[rng.choice(len(styles), p=list(styles.values()))]
    age = list(AGES)[rng.choice(len(AGES), p=list(AGES.values()))]
    hair_name = _hair_name(rng, age)
    hair_colour = jitter(rng, HAIR_COLOURS[hair_name], 12)
    glasses_name = _pick(rng, FRAME_COLOURS)
    eye_name = _pick(rng, EYE_COLOURS)
    skin = jitter(rng, ramp(SKIN_TONES, float(rng.beta(1.1, 1.5))), 4)
    return Person(
        gender=gender,
        skin=skin,
        face_width=_uniform(rng, 0.86, 1.10) + (0.0 if woman else 0.04),
        face_length=_uniform(rng, 0.92, 1.08),
        jaw=_uniform(rng, 0.6, 0.86) + (0.0 if woman else 0.12),
        chin=_uniform(rng, 0.0, 0.7) + (0.0 if woman else 0.3),
        ears=_uniform(rng, 0.8, 1.25),
        hair_style=style,
        hair_name=hair_name,
        hair_colour=hair_colour,
        hair_volume=_uniform(rng, 0.85, 1.2),
        parting=_uniform(rng, -1.0, 1.0),
        hairline=_uniform(rng, 0.0, 1.0),
        eye_colour=jitter(rng, EYE_COLOURS[eye_name], 10),
        eye_size=_uniform(rng, 0.82, 1.14) + (0.08 if woman else 0.0),
        eye_distance=_uniform(rng, 0.88, 1.14),
        eye_slant=_uniform(rng, -1.0, 1.0),
        brow_thickness=_uniform(rng, 0.6, 1.3) + (0.0 if woman else 0.3),
        brow_arch=_uniform(rng, 0.0, 1.0),
        brow_slant=_uniform(rng, -1.0, 1.0),
        nose_width=_uniform(rng, 0.75, 1.25) + (0.0 if woman else 0.1),
        nose_length=_uniform(rng, 0.85, 1.15),
        mouth_width=_uniform(rng, 0.85, 1.18),
        lip_fullness=_uniform(rng, 0.6, 1.3) + (0.2 if woman else 0.0),
        lip_colour=_lips(rng, skin, woman),
        blush=_uniform(rng, 0.15, 0.4) + (0.12 if woman else 0.0),
        freckles=_uniform(rng, 0.4, 0.8) if rng.random() < 0.2 else 0.0,
        mole=_mole(rng) if rng.random() < 0.25 else None,
        glasses=("round", "square", "thick")[rng.integers(3)] if rng.random() < _GLASSES_SHARE else None,
        glasses_name=glasses_name,
        glasses_colour=jitter(rng, FRAME_COLOURS[glasses_name], 12),
        beard=None if woman or rng.random() < 0.5 else ("stubble", "full", "goatee", "moustache")[rng.integers(4)],
        earrings=_earrings(rng, woman),
        age=age,
        streak=_streak(rng, hair_colour) if style != "bald" and rng.random() < _STREAK_SHARE else None,
        birthmark=_birthmark(rng) if rng.random() < 0.15 else None,
        scar=(1.0 if rng.random() < 0.5 else -1.0) if rng.random() < 0.15 else 0.0,
        other_eye=_other_eye(rng, eye_name) if rng.random() < 0.08 else None,
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _pick(rng: np.random.Generator, names: dict[str, Rgb]) -> str:
    return list(names)[rng.integers(len(names))]


def _hair_name(rng: np.random.Generator, age: Age) -> str:
    """A hair colour by its share, or the gray of age."""
    name = list(HAIR_COLOURS)[rng.choice(len(HAIR_COLOURS), p=_HAIR_COLOUR_SHARES)]
    return "gray" if rng.random() < _TURNED_GRAY[age] else name


def _streak(rng: np.random.Generator, hair: Rgb) -> Rgb:
    """A colour far from the hair's own."""
    far = [c for c in _STREAK_COLOURS if sum(abs(a - b) for a, b in zip(c, hair, strict=True)) > 190]
    return jitter(rng, far[rng.integers(len(far))], 6)


def _birthmark(rng: np.random.Generator) -> tuple[float, float]:
    """A place on one cheek."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    return side * _uniform(rng, 0.20, 0.26), _uniform(rng, 0.19, 0.27)


def _other_eye(rng: np.random.Generator, eye_name: str) -> Rgb:
    """Blue or green beside a brownish eye, brown beside a light one."""
    light = eye_name in ("blue", "green", "gray")
    return jitter(rng, EYE_COLOURS["brown" if light else ("blue", "green")[rng.integers(2)]], 8)


def _lips(rng: np.random.Generator, skin: Rgb, woman: bool) -> Rgb:
    """Lips redder and darker than the skin; women's more so, as if painted."""
    painted = _uniform(rng, 0.35, 0.8) if woman else _uniform(rng, 0.1, 0.3)
    return mix(darker(skin, 0.22), jitter(rng, (196, 62, 72), 16), painted)


def _mole(rng: np.random.Generator) -> tuple[float, float]:
    """A place on one cheek or beside the mouth."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    return side * _uniform(rng, 0.13, 0.24), _uniform(rng, 0.17, 0.36)


def _earrings(rng: np.random.Generator, woman: bool) -> Rgb | None:
    if rng.random() > (0.4 if woman else 0.08):
        return None
    return jitter(rng, ((226, 176, 60), (206, 212, 220), (44, 150, 150), (208, 60, 90))[rng.integers(4)], 10)
