"""Outlines of hair, in head heights."""

import math

from pretraining.world.face import Head
from pretraining.world.pen import Path, Point, outline, smooth
from pretraining.world.people import Person


def _crown(head: Head, volume: float, foot: float, width: float = 1.1) -> list[Point]:
    """The right half of a cap's outer edge, top to bottom; ``foot`` is the y where it ends."""
    half, top = head.half * width, -0.5 - 0.1 * volume
    return [(0.0, top), (half * 0.52, top + 0.045), (half * 0.92, -0.36), (half * 1.03, -0.14), (half * 1.0, foot)]


def cap(head: Head, volume: float, foot: float, inner: list[Point], width: float = 1.1) -> Path:
    """A cap between the crown and an inner edge given from the right foot to the left one."""
    outer = _crown(head, volume, foot, width)
    left = [(-x, y) for x, y in reversed(outer)]
    return smooth([*left, *outer[1:], *inner])


def hairline(person: Person) -> float:
    """The y of the hairline's middle."""
    return -0.27 - 0.1 * person.hairline


def crop(person: Person, head: Head) -> Path:
    """Short hair, combed to one side."""
    half, line, part = head.half, hairline(person), person.parting
    swoop = 0.07 if part > 0 else -0.07
    inner = [(half * 0.90, -0.02), (half * 0.86, -0.16), (half * 0.60, line + 0.04 - swoop),
             (half * part * 0.4, line - 0.03),
             (-half * 0.60, line + 0.04 + swoop), (-half * 0.86, -0.16), (-half * 0.90, -0.02)]  # fmt: skip
    return cap(head, person.hair_volume * 1.15, 0.03, inner, 1.06)


def swept_back(person: Person, head: Head) -> Path:
    """Hair combed back from the forehead."""
    half, line, part = head.half, hairline(person), person.parting
    inner = [(half * 0.93, -0.01), (half * 0.84, -0.19), (half * 0.45, line + 0.0), (half * 0.25 * part, line - 0.055),
             (-half * 0.45, line + 0.0), (-half * 0.84, -0.19), (-half * 0.93, -0.01)]  # fmt: skip
    return cap(head, person.hair_volume * 0.8, 0.04, inner, 1.05)


def curtains(person: Person, head: Head) -> Path:
    """Hair parted at the forehead that falls along both cheeks."""
    half, line, part = head.half, hairline(person), person.parting * 0.42
    foot = {"bob": 0.38, "braids": 0.12}.get(person.hair_style, 0.46)
    tuck = 0.76 if person.hair_style != "braids" else 0.9
    width = 1.12 if person.hair_style == "braids" else 1.1 + 0.16 * person.hair_volume
    inner = [(half * tuck * 1.06, foot - 0.01), (half * (tuck + 0.13), 0.1), (half * 0.82, -0.12),
             (half * (0.42 + part * 0.5), line + 0.07),
             (half * part, line - 0.075), (half * (-0.42 + part * 0.5), line + 0.07), (-half * 0.82, -0.12),
             (-half * (tuck + 0.13), 0.1),
             (-half * tuck * 1.06, foot - 0.01)]  # fmt: skip
    return cap(head, person.hair_volume, foot, inner, width)


def bangs(person: Person, head: Head) -> Path:
    """Hair cut straight above the brows that falls along both cheeks."""
    half, line = head.half, -0.155 - 0.05 * person.hairline
    inner = [(half * 0.86, 0.36), (half * 0.90, 0.05), (half * 0.80, line - 0.005), (half * 0.45, line + 0.012),
             (half * 0.05, line - 0.004),
             (-half * 0.4, line + 0.012), (-half * 0.80, line - 0.005), (-half * 0.90, 0.05),
             (-half * 0.86, 0.36)]  # fmt: skip
    return cap(head, person.hair_volume, 0.40, inner, 1.1 + 0.1 * person.hair_volume)


def spikes(person: Person, head: Head) -> Path:
    """Short hair that stands up in five points."""
    half, line = head.half, hairline(person)
    tall = 0.24 * person.hair_volume
    tips: list[tuple[float, ...]] = []
    for index in range(5):
        left, right = (-1.0 + index / 2.5) * half * 1.06, (-1.0 + (index + 1) / 2.5) * half * 1.06
        base = -0.5 + 0.24 * (right / half / 1.06) ** 2
        middle = (left + right) / 2
        lean = 0.03 + 0.06 * person.parting
        tips += [(middle + lean * 0.4, -0.56 - tall + 0.22 * (middle / half) ** 2), (right, base)]
    return outline(
        (-half * 0.90, 0.0), (-half * 1.06, -0.02), (-half * 1.14, -0.14, -half * 1.06, -0.26),
        *tips, (half * 1.14, -0.14, half * 1.06, -0.02),
        (half * 0.90, 0.0), (half * 0.84, -0.2), (half * 0.5, line - 0.06), (half * 0.3, line + 0.03),
        (half * 0.02, line - 0.06),
        (-half * 0.25, line + 0.03), (-half * 0.5, line - 0.06), (-half * 0.84, -0.2),
    )  # fmt: skip


def mane(half: float, volume: float, reach: float) -> list[Point]:
    """The right half of hair that falls straight to the y ``reach``."""
    wide = half * (1.12 + 0.2 * volume)
    return [(0.0, -0.56), (wide * 0.6, -0.5), (wide * 0.96, -0.2), (wide * 1.02, 0.15), (wide * 1.06, reach - 0.1),
            (wide * 0.86, reach + 0.02), (0.0, reach + 0.02)]  # fmt: skip


def bell(half: float, volume: float) -> list[Point]:
    """The right half of a bob, which widens towards its straight lower edge at the chin."""
    wide = half * (1.14 + 0.2 * volume)
    return [(0.0, -0.56), (wide * 0.6, -0.5), (wide * 0.94, -0.2), (wide * 1.06, 0.14), (wide * 1.22, 0.36),
            (wide * 1.12, 0.46), (0.0, 0.44)]  # fmt: skip


def waves(half: float, volume: float) -> list[Point]:
    """The right half of hair that falls in waves."""
    wide = half * (1.16 + 0.22 * volume)
    return [(0.0, -0.56), (wide * 0.6, -0.5), (wide * 0.98, -0.26), (wide * 0.94, -0.06), (wide * 1.2, 0.12),
            (wide * 1.0, 0.30), (wide * 1.34, 0.48), (wide * 1.08, 0.66), (wide * 1.32, 0.84), (wide * 0.9, 0.98),
            (0.0, 0.85)]  # fmt: skip


def wavy_lock(half: float, volume: float) -> list[Point]:
    """The right lock of wavy hair that falls in front of the shoulder."""
    wide = half * (1.16 + 0.22 * volume)
    return [(half * 0.5, -0.3), (wide * 0.93, -0.1), (wide * 1.18, 0.13), (wide * 0.98, 0.30), (wide * 1.32, 0.48),
            (wide * 1.06, 0.66), (wide * 1.3, 0.84), (wide * 0.95, 1.02), (wide * 0.62, 0.88), (wide * 0.8, 0.68),
            (wide * 0.62, 0.5), (half * 0.9, 0.3), (half * 0.7, 0.1)]  # fmt: skip


def ring(half: float, volume: float, count: int, start: float, stop: float) -> list[tuple[float, float, float]]:
    """Curls ``(x, y, radius)`` around the skull between two angles, clockwise from the right, in degrees."""
    curls = []
    for index in range(count):
        angle = math.radians(start + (stop - start) * index / (count - 1))
        radius = 0.125 * volume * (1.0 + 0.16 * math.sin(2.4 * index))
        curls.append((math.cos(angle) * half * 1.12, -0.12 + math.sin(angle) * 0.42, radius))
    return curls
