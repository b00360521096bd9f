"""What is to be trained, and from what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portrayal.config import Config, Method
from portrayal.data.encode import EncodedDataset
from portrayal.errors import TrainingDivergedError


@dataclass(frozen=True)
class TrainingData:
    """What a training reads: photos, and class images when the prior is preserved; one dataset for each shape."""

    photos: tuple[EncodedDataset, ...]
    class_images: tuple[EncodedDataset, ...] | None


@dataclass(frozen=True)
class Task:
    """One model to train, alone or in a pack.

    Attributes:
        name: Such as `lora-64`.
        method: What is trained.
        data: Its photos and class images; those of a pack may differ, in photos or in their order.
        folder: Where it goes.
        seed: Of first weights, order, latents and noise; nothing means the config's.
        readings: Steps whose weights are kept, in `steps/NUMBER`; without any, the last step's in the folder itself.
        last_step: Where it ends; nothing means with its learning rate's schedule.
        keeps_rate: Whether it may not go on with a lower learning rate if it diverges: it is there to be compared.
    """

    name: str
    method: Method
    data: TrainingData
    folder: Path
    seed: int | None = None
    readings: tuple[int, ...] = ()
    last_step: int | None = None
    keeps_rate: bool = False

    @property
    def num_steps(self) -> int:
        """Optimizer updates it takes."""
        return self.last_step or self.method.max_train_steps


def ended_at(task: Task, end: int) -> Task:
    """A task that ends at a step, which is its last reading if it has any; one that ends sooner stays as it is."""
    if task.num_steps <= end:
        return task
    readings = (*(step for step in task.readings if step < end), end) if task.readings else ()
    return replace(task, last_step=end, readings=readings)


def check_finite(data: TrainingData) -> None:
    """Refuse pictures or captions whose numbers are not finite, by name, before anything is trained.

    Raises:
        TrainingDivergedError: If there are some.
    """
    for part in (*data.photos, *(data.class_images or ())):
        of_views = part.mean.flatten(1).isfinite().all(1) & part.std.flatten(1).isfinite().all(1)
        fine = of_views.unflatten(0, (part.num_views, -1)).all(0) & part.prompt_embeds.flatten(1).isfinite().all(1)
        bad = [name for name, finite in zip(part.ids, fine.tolist(), strict=True) if not finite]
        if bad:
            raise TrainingDivergedError(
                f"What the base makes of {', '.join(bad)} is not finite.",
                "Search the run for that id to see which photo it is and leave it out with prepare.drop; or train with "
                "training.mixed_precision=no. Delete RUN/encoded first.",
            )


def rows_of(tasks: Sequence[Task], config: Config) -> int:
    """Pictures of each learner in a forward pass."""
    training = config.training
    of_class = training.class_batch_size or training.train_batch_size
    return training.train_batch_size + (of_class if tasks[0].data.class_images is not None else 0)
