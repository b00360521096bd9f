"""What a training does when steps are not finite or memory is too small, and what it remembers of it for resuming."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from portrayal.errors import TrainingDivergedError
from portrayal.files import write_json

PATIENCE, PATIENCE_FP16 = 5, 20
"""Skipped steps in a row that are borne; fp16's loss scale needs more to settle."""
BLAMED = 3
"""Times in a row that a picture's loss was not finite, while others' were, until it is to blame."""
LOWERED, MOST_LOWERED = 0.25, 2
"""By what the learning rate is lowered when a training diverges, and how often at most."""
NAME = "adapted.json"


class StreakError(TrainingDivergedError):
    """Too many steps in a row were skipped; a lower learning rate may mend it."""


@dataclass
class Health:
    """How the steps of a training went.

    Attributes:
        skipped: Steps whose loss or gradient was not finite: they left the weights as they were.
        in_a_row: Of these, the last ones.
        blamed: For each picture whose loss was not finite the last time, how often in a row.
    """

    skipped: int = 0
    in_a_row: int = 0
    blamed: dict[str, int] = field(default_factory=dict)

    def note(self, step: int, pictures: Mapping[str, bool], *, skipped: bool, fp16: bool) -> None:
        """Count a step.

        Args:
            step: Its number.
            pictures: Ids of its pictures, and whether the loss of each was finite.
            skipped: Whether it was.
            fp16: Whether the loss is scaled.

        Raises:
            TrainingDivergedError: If going on is of no use, with what is to blame.
        """
        self.skipped += skipped
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        for name, fine in pictures.items():
            if fine:
                self.blamed.pop(name, None)
            else:
                self.blamed[name] = self.blamed.get(name, 0) + 1
        if self.in_a_row > (PATIENCE_FP16 if fp16 else PATIENCE):
            raise self._streak(step, all(pictures.values()), fp16=fp16)
        guilty = sorted(name for name, times in self.blamed.items() if times >= BLAMED)
        if guilty and (self.in_a_row < BLAMED or any(pictures.values())):
            raise TrainingDivergedError(
                f"The loss of {', '.join(guilty)} was not finite the last {BLAMED} times, at last in step {step}, "
                "while that of other pictures was.",
                "Search the run for that id to see which photo it is, and leave it out with prepare.drop; or lower the "
                "learning rate.",
            )

    def _streak(self, step: int, finite_losses: bool, *, fp16: bool) -> TrainingDivergedError:
        said = f"{self.in_a_row} steps in a row, the last {step}, had a loss or gradient that is not finite"
        kept = "The weights were not touched by them, and the last checkpoint is intact."
        if fp16 and finite_losses:
            return TrainingDivergedError(
                f"{said}; the losses are finite, so it is fp16 that overflows.",
                f"Train with training.mixed_precision=bf16, or no. {kept}",
            )
        wider = " or with training.mixed_precision=no" if fp16 else ""
        return StreakError(f"{said}: the learning rate is too high.", f"Train with a lower one{wider}. {kept}")


@dataclass(frozen=True)
class Adaptation:
    """How a training departs from its settings, so that it can be done at all.

    Attributes:
        parts: Forward passes that each batch is split into; its gradient is the sum of theirs.
        checkpointing: Whether activations are recomputed although the settings do not say so.
        lowered: Steps from which on the learning rate is lowered, once for each.
    """

    parts: int = 1
    checkpointing: bool = False
    lowered: tuple[int, ...] = ()

    @classmethod
    def read(cls, work: Path) -> Adaptation:
        """What a training that goes on had come to; what cannot be read is come to again."""
        try:
            told = json.loads((work / NAME).read_text(encoding="utf-8"))
            return cls(int(told["parts"]), bool(told["checkpointing"]), tuple(map(int, told["lowered"])))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def write(self, work: Path) -> None:
        """Keep it for resuming."""
        write_json(work / NAME, asdict(self))

    def rate_at(self, step: int) -> float:
        """By what the learning rate of a step is multiplied."""
        return LOWERED ** sum(step >= since for since in self.lowered)

    def smaller(self, rows: int, *, checkpoints: bool) -> Adaptation | None:
        """What needs less memory: smaller forward passes, then recomputed activations; nothing if there is no less.

        Args:
            rows: Pictures of each learner in a forward pass.
            checkpoints: Whether activations are recomputed anyway.
        """
        if self.parts < rows:
            return replace(self, parts=min(rows, 2 * self.parts))
        return None if checkpoints or self.checkpointing else replace(self, checkpointing=True)

    def slower(self, step: int) -> Adaptation | None:
        """With a lower learning rate from a step on, to which it goes back; nothing if it was lowered often enough."""
        before = tuple(min(since, step) for since in self.lowered)
        return None if len(before) >= MOST_LOWERED else replace(self, lowered=(*before, step))

    def as_json(self) -> dict[str, Any]:
        """What `method.json` says of it; nothing where it is as the settings say."""
        found: dict[str, Any] = {"forward_passes": self.parts} if self.parts > 1 else {}
        found |= {"gradient_checkpointing": True} if self.checkpointing else {}
        return found | ({"learning_rate_lowered_at": list(self.lowered)} if self.lowered else {})


def said_of(before: Adaptation, after: Adaptation, step: int, cause: Sequence[str]) -> str:
    """What a person should know of an adaptation."""
    if after.lowered != before.lowered:
        return (
            f"{cause[0]} The learning rate is a quarter of what it was, and the training goes on from step {step}; "
            "set a lower one the next time."
        )
    if after.checkpointing:
        return f"{cause[0]} Activations are computed twice from here on: less memory, more time, the same result."
    return (
        f"{cause[0]} Each batch is done in {after.parts} parts from here on, whose gradients are added up: the same "
        "batches and noise, and the same result but for rounding."
    )
