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
    "short", "long straight", "long wavy", "curly", "bun", "ponytail", "bob", "bald", "spiky", "fringe", "braids"
]
Glasses: TypeAlias = Literal["round", "square", "thick"]
Beard: TypeAlias = Literal["stubble", "full", "goatee", "moustache"]

HAIR_STYLES: dict[Gender, dict[HairStyle, float]] = {
    "woman": {
        "short": 0.08, "long straight": 0.16, "long wavy": 0.16, "curly": 0.12, "bun": 0.11,
        "ponytail": 0.11, "bob": 0.12, "fringe": 0.08, "braids": 0.06,
    },
    "man": {
        "short": 0.36, "curly": 0.14, "spiky": 0.16, "bald": 0.12, "long straight": 0.05,
        "long wavy": 0.05, "bun": 0.06, "ponytail": 0.03, "bob": 0.03,
    },
}  # fmt: skip
"""How often each style occurs, by gender."""

_HAIR_COLOUR_SHARES = (0.24, 0.28, 0.18, 0.13, 0.08, 0.045, 0.045)


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
    hair_name = list(HAIR_COLOURS)[rng.choice(len(HAIR_COLOURS), p=_HAIR_COLOUR_SHARES)]
    glasses_name = _pick(rng, FRAME_COLOURS)
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
        hair_colour=jitter(rng, HAIR_COLOURS[hair_name], 12),
        hair_volume=_uniform(rng, 0.85, 1.2),
        parting=_uniform(rng, -1.0, 1.0),
        hairline=_uniform(rng, 0.0, 1.0),
        eye_colour=jitter(rng, EYE_COLOURS[_pick(rng, EYE_COLOURS)], 10),
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
        glasses=(None, None, None, "round", "square", "thick")[rng.integers(6)] if rng.random() < 0.7 else None,
        glasses_name=glasses_name,
        glasses_colour=jitter(rng, FRAME_COLOURS[glasses_name], 12),
        beard=None if woman or rng.random() < 0.5 else ("stubble", "full", "goatee", "moustache")[rng.integers(4)],
        earrings=_earrings(rng, woman),
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _pick(rng: np.random.Generator, names: dict[str, Rgb]) -> str:
    return list(names)[rng.integers(len(names))]


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
