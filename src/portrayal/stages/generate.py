"""Paint the scenes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portrayal.processes import here
from portrayal.run import Event, Progress, Run
from portrayal.stages.shared import (
    FINAL,
    alone,
    checked_name,
    generator_of,
    in_place,
    silent,
    stage,
    trained_models,
    trained_trials,
)

if TYPE_CHECKING:
    from portrayal.generation.pictures import Picture


@alone
def generate(run: Run, models: Sequence[str] = (), *, progress: Progress = silent) -> None:
    """Paint the scenes with the base and every trained model, all at the same seeds, and a few pictures of the class.

    Of a model that was trained several times each training paints.

    Raises:
        UsageError: If a model of that name is not trained.
    """
    trained = trained_models(run)
    chosen = [checked_name(name, trained) for name in models] or list(trained)
    painters = ["base"] * ("base" in chosen) + [trial.name for trial in trained_trials(run) if trial.model in chosen]
    for name in here().mine(painters):
        paint_model(run, name, None if name == "base" else run.model_folder(name), progress)
    here().wait()


def paint_model(run: Run, name: str, folder: Path | None, progress: Progress) -> None:
    """What one training, or the base, paints."""
    from portrayal.generation.pictures import paint_missing

    pictures = scene_pictures(run, name)
    if name != FINAL:  # which is not judged
        pictures += class_pictures(run, name)
    if all(picture.path.is_file() for picture in pictures):
        progress(Event(f"generate.{name}", "skipped"))
        return
    inputs = run.config.generation.model_dump()
    with stage(run, f"generate.{name}", inputs, progress) as tick, in_place(run, name, folder) as weights:
        paint_missing(generator_of(run), pictures, weights, tick)


def scene_pictures(run: Run, name: str) -> list[Picture]:
    """The pictures of the scenes, in order."""
    from portrayal.generation.pictures import Picture, scene_seed

    config = run.config
    return [
        Picture(
            run.image_path(name, scene, number),
            prompt.replace("{subject}", config.subject.subject),
            scene_seed(config.seed, scene, number),
        )
        for scene, prompt in config.generation.scenes.items()
        for number in range(config.generation.num_images_per_scene)
    ]


def class_pictures(run: Run, name: str) -> list[Picture]:
    """Pictures of the class, such as "a photo of a woman": whom do they show?"""
    from portrayal.generation.pictures import Picture, picture_seed

    prompt, where = run.config.subject.filled_class_prompt, run.folder / "images" / "class" / name
    return [
        Picture(where / f"{number}.png", prompt, picture_seed(run.config.seed, "class_drift", number))
        for number in range(run.config.generation.num_images_per_scene)
    ]
