"""Paint the scenes of a run."""

from __future__ import annotations

from collections.abc import Sequence

from portrayal.run import Event, Progress, Run
from portrayal.stages.shared import base_of, checked_name, generator_of, silent, stage, trained_models


def generate(run: Run, models: Sequence[str] = (), *, progress: Progress = silent) -> None:
    """Paint the scenes with the base and every trained model, all at the same seeds.

    Raises:
        UsageError: If a model of that name is not trained.
    """
    from portrayal.generation.pictures import Picture, paint_missing, picture_seed
    from portrayal.models.methods import tuned

    trained = trained_models(run)
    config = run.config
    for name in [checked_name(name, trained) for name in models] or list(trained):
        pictures = [
            Picture(
                run.image_path(name, scene, number),
                prompt.replace("{subject}", config.subject.subject),
                picture_seed(config.seed, scene, number),
            )
            for scene, prompt in config.generation.scenes.items()
            for number in range(config.generation.num_images_per_scene)
        ]
        if all(picture.path.is_file() for picture in pictures):
            progress(Event(f"generate.{name}", "skipped"))
            continue
        inputs = config.generation.model_dump()
        with stage(run, f"generate.{name}", inputs, progress) as tick, tuned(base_of(run), trained[name]):
            paint_missing(generator_of(run), pictures, name, tick)
