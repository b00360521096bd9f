"""Paint the scenes of a run, and pictures whose outline is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from portrayal.errors import WeightsError
from portrayal.run import Event, Progress, Run, atomic_path
from portrayal.stages.evaluate import scores_of
from portrayal.stages.shared import (
    base_of,
    checked_name,
    generator_of,
    silent,
    stage,
    tell,
    trained_models,
    with_article,
)

if TYPE_CHECKING:
    pass


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


def generate_controlled(run: Run, *, progress: Progress = silent) -> None:
    """Paint with the outline of a reference picture, by the full UNet and the best LoRA, and without for comparison.

    A ControlNet that cannot be had is noted and left out when `control.controlnet` is `auto`.
    """
    from portrayal.generation.annotators import canny, fit_square
    from portrayal.generation.generator import Control
    from portrayal.models.control import find_controlnet, load_controlnet

    models = controlled_models(run)
    if all(all_controlled(run, name) for name in models):
        for name in models:
            progress(Event(f"control.{name}", "skipped"))
        return
    settings, base = run.config.control, base_of(run)
    try:
        folder = find_controlnet(settings.controlnet, base.source)
    except WeightsError as error:
        if settings.controlnet != "auto":
            raise
        tell(run, Event("control", "note", message=f"No ControlNet pictures: {error.cause} {error.remedy}"), progress)
        return
    where = run.folder / "images" / "control"
    if not (where / "reference.png").is_file():
        reference = reference_picture(run)
        side = run.config.base.resolution or base.resolution
        edges = canny(
            fit_square(reference, side), low_threshold=settings.low_threshold, high_threshold=settings.high_threshold
        )
        for name, image in {"reference.png": fit_square(reference, side), "edges.png": edges}.items():
            with atomic_path(where / name) as temporary:
                image.save(temporary, format="PNG")
    edges = Image.open(where / "edges.png").convert("RGB")
    control = Control(load_controlnet(folder, base), edges, settings.controlnet_conditioning_scale)
    for name in models:
        paint_controlled(run, name, control, progress)


def paint_controlled(run: Run, name: str, control: Any, progress: Progress) -> None:
    """Pictures of one model with the outline and, at the same seeds, without."""
    from portrayal.generation.pictures import Picture, paint_missing, picture_seed
    from portrayal.models.methods import tuned

    settings, subject = run.config.control, run.config.subject.subject
    prompt = settings.prompt.replace("{subject}", subject)
    where = run.folder / "images" / "control" / name
    parts = [
        (
            generator_of(run, kept),
            [
                Picture(folder / f"{number}.png", prompt, picture_seed(run.config.seed, "control", number))
                for number in range(settings.num_images)
            ],
        )
        for folder, kept in ((where, control), (where / "without", None))
    ]
    if all_controlled(run, name):
        progress(Event(f"control.{name}", "skipped"))
        return
    inputs, folder = settings.model_dump(mode="json"), run.model_folder(name)
    with stage(run, f"control.{name}", inputs, progress) as tick, tuned(base_of(run), folder):
        for number, (generator, pictures) in enumerate(parts):
            before = number * settings.num_images

            def count(done: int, _: int, before: int = before) -> None:
                tick(before + done, 2 * settings.num_images)

            paint_missing(generator, pictures, name, count)


def all_controlled(run: Run, name: str) -> bool:
    """Whether a model's pictures with the outline and without are there."""
    where, numbers = run.folder / "images" / "control" / name, range(run.config.control.num_images)
    return all((folder / f"{number}.png").is_file() for folder in (where, where / "without") for number in numbers)


def controlled_models(run: Run) -> list[str]:
    """The full UNet and the best LoRA, as far as they are there."""
    best = scores_of(run)["verdict"]["best_lora"]
    return [name for name in ("unet", best) if name in trained_models(run)]


def reference_picture(run: Run) -> Any:
    """The reference picture that was given, or one of the class that the base paints."""
    from portrayal.generation.pictures import picture_seed
    from portrayal.photos import read_photo

    settings = run.config.control
    if settings.reference is not None:
        return read_photo(settings.reference).image
    prompt = settings.prompt.replace("{subject}", with_article(run.config.subject.class_noun))
    return next(generator_of(run).paint([prompt], [picture_seed(run.config.seed, "reference", 0)]))
