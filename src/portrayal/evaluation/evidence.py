"""What a run is judged by: its models, their trainings and what these painted, and the photos they are held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from portrayal.config import Config, Trial
from portrayal.evaluation.curves import Curve
from portrayal.evaluation.sweep import ControlledPictures


@dataclass(frozen=True)
class PaintedTraining:
    """One training of a model and what it made, read when it is looked at.

    Attributes:
        trial: Which training; the untouched base stands in each of the study's splits.
        losses: Held-out losses by photo, each `(T, N)`.
        pictures: Pictures of each scene, scenes and seeds in the same order for every model: `S` lists of `K`.
        of_class: Pictures of the class, `K`.
    """

    trial: Trial
    losses: Mapping[str, Any]
    pictures: Callable[[], list[list[Image.Image]]]
    of_class: Callable[[], list[Image.Image]]


@dataclass(frozen=True)
class Diverged:
    """A training that could not go on: its loss stopped being finite.

    Attributes:
        trial: Which training.
        rank: Of its LoRA.
        learning_rate: Of its LoRA, where the study has several; else None.
        step: Where it ended.
    """

    trial: Trial
    rank: int
    learning_rate: float | None
    step: int


@dataclass(frozen=True)
class PaintedModel:
    """One model of a run.

    Attributes:
        name: `base`, `unet`, `lora-64`.
        kind: What it is.
        rank: Rank of a LoRA.
        trainings: Its trainings, one at least.
        curve: How its trainings went on; nothing for the base.
        learning_rate: Of a LoRA, where the study has several; else None.
    """

    name: str
    kind: Literal["base", "unet", "lora"]
    rank: int | None
    trainings: Sequence[PaintedTraining]
    curve: Curve | None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything a run is judged by.

    Attributes:
        config: The run's config.
        models: The base first, then the tuned models.
        scene_prompts: Prompt of each scene, the rare token left out.
        heldout: For each fold its held-out photos by id.
        training: For each fold the pictures its trainings see, by id.
        strangers: Other people of the class.
        controlled: Pictures held to control images.
        progress: Called with (trainings looked at, trainings in all).
        diverged: Trainings that could not go on.
    """

    config: Config
    models: Sequence[PaintedModel]
    scene_prompts: Sequence[str]
    heldout: Sequence[Mapping[str, Image.Image]]
    training: Sequence[Mapping[str, Image.Image]]
    strangers: Sequence[Image.Image]
    controlled: Sequence[ControlledPictures] = ()
    progress: Callable[[int, int], None] = lambda *_: None
    diverged: Sequence[Diverged] = ()

    @property
    def photos(self) -> dict[str, Image.Image]:
        """Each picture of the person's photos once."""
        return {name: picture for part in (*self.heldout, *self.training) for name, picture in part.items()}
