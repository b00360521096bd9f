"""One colour per model, the same in every chart: base grey, full UNet orange, LoRAs blues that deepen with rank.

Orange, blue and grey stay apart for all common kinds of colour blindness, and the blues differ in lightness.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from portrayal.report.record import Model

Ramp = tuple[str, str]
_RAMPS: dict[str, tuple[Ramp, Ramp]] = {  # kind: (from, to) on a light page, and on a dark one
    "base": (("#878c94", "#878c94"), ("#9aa0a8", "#9aa0a8")),
    "unet": (("#d1541c", "#9c3c10"), ("#f2884b", "#c96227")),
    "lora": (("#6fb1e3", "#0f4a85"), ("#b5dbf8", "#3486d1")),
    "other": (("#2f9d7e", "#0f5f49"), ("#6fd0b2", "#2f9d7e")),
}


@dataclass(frozen=True)
class Colour:
    """A model's colour: the CSS variable that carries it, and its value on a light and on a dark page."""

    variable: str
    light: str
    dark: str


def colours(models: tuple[Model, ...]) -> dict[str, Colour]:
    """Give each model, by name, a colour of its kind's family."""
    found: dict[str, Colour] = {}
    for kind, group in groupby(sorted(models, key=_kind), key=_kind):
        light, dark = _RAMPS[kind]
        members = list(group)
        for place, model in enumerate(members):
            share = 0.5 if len(members) == 1 and kind == "lora" else place / max(1, len(members) - 1)
            found[model.name] = Colour(f"--model-{len(found)}", _mix(*light, share), _mix(*dark, share))
    return found


def _kind(model: Model) -> str:
    return model.kind if model.kind in _RAMPS else "other"


def _mix(start: str, end: str, share: float) -> str:
    pairs = ((int(start[i : i + 2], 16), int(end[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in pairs)
