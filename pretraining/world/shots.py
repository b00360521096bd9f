"""A shot: everything about a picture that is not the person."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from pretraining.world.palette import CLOTHES_COLOURS, Rgb, jitter

Expression: TypeAlias = Literal["neutral", "smiling", "laughing", "surprised"]
Clothes: TypeAlias = Literal["t-shirt", "shirt", "hoodie", "sweater", "jacket"]
Light: TypeAlias = Literal["neutral", "warm", "cool", "dim"]

SCENES: tuple[str, ...] = (
    "street", "football", "kitchen", "office", "forest", "beach", "snow", "library", "park", "bedroom",
)  # fmt: skip

_LIGHTS: dict[Light, tuple[float, float, float]] = {
    "neutral": (1.0, 1.0, 1.0),
    "warm": (1.04, 1.0, 0.92),
    "cool": (0.96, 0.99, 1.04),
    "dim": (0.88, 0.85, 0.87),
}


@dataclass(frozen=True)
class Shot:
    """Where, how near, in what clothes, light and mood. Lengths are in units of the picture's short side."""

    scene: str
    """One of ``SCENES``."""
    scene_seed: int
    """Seeds the scene's objects and colours."""
    head_height: float
    """Crown to chin, [0.34, 0.6]."""
    x: float
    """Centre of the head, from the left."""
    y: float
    """Centre of the head, from the top."""
    tilt: float
    """Degrees clockwise, about [-10, 10]."""
    turn: float
    """How far the head turns, -1 left to 1 right."""
    expression: Expression
    clothes: Clothes
    clothes_name: str
    """A key of ``CLOTHES_COLOURS``."""
    clothes_colour: Rgb
    accent: Rgb
    """Second colour: stripes, strings, the shirt under a jacket."""
    light: Light
    gain: tuple[float, float, float]
    """Factor on each channel, about [0.75, 1.1]."""
    light_side: float
    """Where the light comes from: -1 left to 1 right."""


def sample_shot(rng: np.random.Generator, *, scene: str | None = None) -> Shot:
    """Draw one shot.

    Args:
        rng: Source of randomness.
        scene: One of ``SCENES``; ``None`` picks one.

    Returns:
        A shot in which the whole face is inside the picture.

    Raises:
        ValueError: If the scene is not one of ``SCENES``.
    """
    if scene is not None and scene not in SCENES:
        raise ValueError(f"unknown scene {scene!r}; choose one of {', '.join(SCENES)}")
    drawn_scene = SCENES[rng.integers(len(SCENES))]
    near = rng.random() < 0.5
    head = float(rng.uniform(0.45, 0.60) if near else rng.uniform(0.34, 0.45))
    room = 0.5 - 0.42 * head
    name = list(CLOTHES_COLOURS)[rng.integers(len(CLOTHES_COLOURS))]
    light = _pick_light(rng)
    clothes: tuple[Clothes, ...] = ("t-shirt", "shirt", "hoodie", "sweater", "jacket")
    shot = Shot(
        scene=drawn_scene if scene is None else scene,
        scene_seed=int(rng.integers(2**31)),
        head_height=head,
        x=0.5 + float(rng.uniform(-0.55, 0.55)) * room,
        y=float(rng.uniform(0.68 * head + 0.02, max(0.70 * head + 0.04, 0.52))),
        tilt=float(np.clip(rng.normal(0, 4), -10, 10)),
        turn=float(rng.uniform(-1, 1)),
        expression=_pick_expression(rng),
        clothes=clothes[rng.integers(len(clothes))],
        clothes_name=name,
        clothes_colour=jitter(rng, CLOTHES_COLOURS[name], 9),
        accent=_accent(rng, name),
        light=light,
        gain=(1.0, 1.0, 1.0),
        light_side=float(rng.uniform(-1, 1)),
    )
    red, green, blue = (float(v) for v in np.asarray(_LIGHTS[light]) * rng.uniform(0.95, 1.04))
    return replace(shot, gain=(red, green, blue))


def _pick_light(rng: np.random.Generator) -> Light:
    lights: tuple[Light, ...] = ("neutral", "neutral", "warm", "cool", "dim")
    return lights[rng.integers(len(lights))]


def _pick_expression(rng: np.random.Generator) -> Expression:
    moods: tuple[Expression, ...] = ("neutral", "neutral", "smiling", "smiling", "laughing", "surprised")
    return moods[rng.integers(len(moods))]


def _accent(rng: np.random.Generator, name: str) -> Rgb:
    """White on most colours, any other colour now and then, never the garment's own."""
    others = [colour for other, colour in CLOTHES_COLOURS.items() if other != name]
    plain = name not in ("white", "yellow") and rng.random() < 0.6
    drawn = others[rng.integers(len(others))]
    return jitter(rng, CLOTHES_COLOURS["white"] if plain else drawn, 6)
