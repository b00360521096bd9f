"""An estimate: the parts of a run, their seconds and memory, told to people and to programs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from portrayal.estimate.machine import Machine


@dataclass(frozen=True)
class Stage:
    """One part of a run: `name` is what its stages in `stages/` begin with; memory is the GPU's at its fullest."""

    name: str
    title: str
    seconds: float
    peak_gib: float | None = None
    what: str = ""


@dataclass(frozen=True)
class Estimate:
    """Seconds and memory of a run on a machine.

    Attributes:
        machine: The machine.
        reference: Name of the one that the table was measured on.
        scale: Times its seconds that a training takes here.
        photos: How many photos were reckoned with.
        stages: The parts, in order.
        modes: How the work is done, for people.
        notes: What to know of it: too little memory; a base the table does not know.
    """

    machine: Machine
    reference: str
    scale: float
    photos: int
    stages: tuple[Stage, ...]
    modes: dict[str, str]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """All stages together, to a tenth: what is told is what is kept."""
        return round(sum(stage.seconds for stage in self.stages), 1)

    @property
    def peak_gib(self) -> float | None:
        """GPU memory at its fullest; nothing where it was not measured."""
        return max((stage.peak_gib for stage in self.stages if stage.peak_gib is not None), default=None)

    def as_json(self) -> dict[str, Any]:
        """The estimate for programs, as `estimate.json` keeps it."""
        stages = [asdict(stage) | {"seconds": round(stage.seconds, 2)} for stage in self.stages]
        totals = {"seconds": self.seconds, "peak_gib": self.peak_gib, "scale": round(self.scale, 3)}
        return {"schema": 1, **asdict(self), **totals, "stages": stages}

    def lines(self) -> list[str]:
        """The estimate for people."""
        times = f"{self.scale:.2g} times as long as on {self.reference}"
        rows = [f"about {spoken(self.seconds)} for {self.photos} photos on {self.machine.name}, {times}"]
        measured = self.peak_gib is not None
        for stage in self.stages:
            memory = "" if stage.peak_gib is None else f"{stage.peak_gib:.1f} GiB"
            what = f"{memory:>10}  {stage.what}" if measured else f"  {stage.what}"
            rows.append(f"  {stage.title:<24}{spoken(stage.seconds):>8}{what}".rstrip())
        return [*rows, "", *(f"  {key:<24}{value}" for key, value in self.modes.items())]


def spoken(seconds: float) -> str:
    """`40 s`, `3.5 min`, `12 min`, `1.4 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = seconds / 60
    return f"{minutes:.{0 if minutes >= 10 else 1}f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
