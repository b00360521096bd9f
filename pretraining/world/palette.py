"""Colours of the drawn world, by the names that captions use, and arithmetic on them."""

from typing import TypeAlias

import numpy as np

Rgb: TypeAlias = tuple[int, int, int]
"""Red, green and blue, each in [0, 255], sRGB."""

INK: Rgb = (42, 30, 34)
WHITE: Rgb = (252, 250, 246)

SKIN_TONES: tuple[Rgb, ...] = (
    (255, 226, 204),
    (248, 206, 172),
    (232, 180, 138),
    (208, 148, 104),
    (172, 113, 74),
    (134, 84, 56),
    (98, 61, 44),
)
"""Anchors of the skin ramp, light to dark; people lie anywhere between them."""

HAIR_COLOURS: dict[str, Rgb] = {
    "black": (44, 36, 42),
    "brown": (104, 66, 42),
    "blond": (236, 192, 108),
    "red": (186, 80, 40),
    "gray": (166, 166, 174),
    "blue": (66, 104, 196),
    "pink": (232, 120, 168),
}

CLOTHES_COLOURS: dict[str, Rgb] = {
    "red": (206, 58, 56),
    "blue": (54, 92, 190),
    "green": (58, 150, 92),
    "yellow": (240, 200, 70),
    "black": (54, 54, 62),
    "white": (240, 238, 234),
    "purple": (132, 82, 176),
    "orange": (236, 134, 56),
}

FRAME_COLOURS: dict[str, Rgb] = {
    "black": (40, 38, 44),
    "brown": (112, 66, 40),
    "red": (186, 44, 52),
    "blue": (44, 84, 170),
    "teal": (20, 136, 140),
    "gold": (206, 156, 60),
}

EYE_COLOURS: dict[str, Rgb] = {
    "brown": (98, 60, 36),
    "dark": (58, 38, 30),
    "hazel": (146, 106, 52),
    "green": (74, 146, 88),
    "blue": (70, 132, 196),
    "gray": (112, 128, 142),
}


def mix(first: Rgb, second: Rgb, amount: float) -> Rgb:
    """Blend two colours: 0 gives the first, 1 the second."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: Rgb, amount: float) -> Rgb:
    """Blend towards a deep, slightly red shade of the same hue; ``amount`` in [0, 1]."""
    red, green, blue = colour
    return mix(colour, (round(20 + 0.34 * red), round(10 + 0.20 * green), round(14 + 0.24 * blue)), amount)


def lighter(colour: Rgb, amount: float) -> Rgb:
    """Blend towards white; ``amount`` in [0, 1]."""
    return mix(colour, WHITE, amount)


def ramp(anchors: tuple[Rgb, ...], position: float) -> Rgb:
    """The colour at ``position`` in [0, 1] along evenly spaced anchors."""
    place = position * (len(anchors) - 1)
    index = min(int(place), len(anchors) - 2)
    return mix(anchors[index], anchors[index + 1], place - index)


def jitter(rng: np.random.Generator, colour: Rgb, spread: float = 10.0) -> Rgb:
    """Move a colour by normal deviates: brightness by ``spread``, each channel by half of it, in units of 1/255."""
    common, *own = rng.normal(0, spread, 4)
    red, green, blue = (
        round(min(max(value + common + 0.5 * move, 0.0), 255.0)) for value, move in zip(colour, own, strict=True)
    )
    return red, green, blue
