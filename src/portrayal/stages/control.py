"""Paint pictures of a run that are held to a control image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from portrayal.errors import UsageError, WeightsError
from portrayal.processes import here
from portrayal.run import Event, Progress, Run, atomic_path
from portrayal.stages.evaluate import all_controlled, control_path, controlled_paths, scores_of
from portrayal.stages.shared import base_of, generator_of, in_place, silent, stage, tell, trained_models, with_article

if TYPE_CHECKING:
    from portrayal.generation.generator import Control


def generate_controlled(run: Run, *, progress: Progress = silent) -> None:
    """Paint held to each kind of control image, at each strength, by the base, the full UNet and the best LoRA.

    The base, which need not keep to a person, shows how well the control image can be followed at all.

    A kind whose ControlNet cannot be had is noted and left out if its `control.controlnet` is `auto`; so is a pose
    that cannot be made out.
    """
    settings, models, processes = run.config.control, controlled_models(run), here()
    for kind in settings.kinds:
        missing = processes.agree([name for name in models if not all_controlled(run, kind, name)])
        for name in models:
            if name not in missing:
                progress(Event(f"control.{kind}.{name}", "skipped"))
        if not missing:
            continue
        control = control_if_any(run, kind, progress) if processes.first else None
        if not processes.agree(control is not None):
            continue
        control = control or run_control(run, kind)
        for name in processes.mine(missing):
            paint_controlled(run, name, control, progress)
        processes.wait()


def control_if_any(run: Run, kind: str, progress: Progress) -> Control | None:
    """What pictures of a kind are held to; of a kind that is to be left out, a note and nothing."""
    try:
        return run_control(run, kind)
    except (UsageError, WeightsError) as error:
        if isinstance(error, WeightsError) and run.config.control.controlnet_of(kind) != "auto":
            raise
        message = f"No {kind} pictures: {error.cause} {error.remedy}"
        tell(run, Event(f"control.{kind}", "note", message=message), progress)
        return None


def run_control(run: Run, kind: str) -> Control:
    """The ControlNet of a kind and the run's control image for it, made when first asked for."""
    from portrayal.generation.annotators import fit

    controlnet = controlnet_for(run, kind)
    image = control_path(run, kind)
    if not image.is_file():
        reference, size = reference_picture(run), generator_of(run).size
        ready_made = run.config.control.reference_is_control_image
        made = control_image(run, kind, reference, size, ready_made=ready_made)
        save(fit(reference, made.size), reference_path(run))
        save(made, image)
    with Image.open(image) as opened:
        return with_scale(run, kind, controlnet, opened.convert("RGB"))


def picture_control(run: Run, kind: str, picture: Path, *, ready_made: bool = False) -> Control:
    """The ControlNet of a kind and the control image of any picture, of the shape that pictures are to have."""
    from portrayal.photos import read_photo

    image, size = read_photo(picture).image, generator_of(run).size  # a mistyped path is told before weights are sought
    controlnet = controlnet_for(run, kind)
    return with_scale(run, kind, controlnet, control_image(run, kind, image, size, ready_made=ready_made))


def control_picture(run: Run, kind: str, picture: Path) -> Image.Image:
    """What is kept of a picture: its outline, the pose in it, its depth; as painting with the run would see it.

    Args:
        run: A run.
        kind: `canny`, `softedge`, `openpose` or `depth`.
        picture: Any picture.

    Raises:
        UsageError: If there is no such kind, or the picture shows no pose.
        PhotosError: If it is no picture.
        WeightsError: If what reads it cannot be had.
    """
    from portrayal.evaluation.control import CONTROL_KINDS
    from portrayal.photos import read_photo

    if kind not in CONTROL_KINDS:
        raise UsageError(f"There is no kind of control {kind!r}; there are {', '.join(CONTROL_KINDS)}.")
    image = read_photo(picture).image
    return control_image(run, kind, image, generator_of(run).size, ready_made=False)


def with_scale(run: Run, kind: str, controlnet: Any, image: Image.Image) -> Control:
    """A ControlNet and its image, at the strength of the settings."""
    from portrayal.generation.generator import Control

    return Control(controlnet, image, run.config.control.controlnet_conditioning_scale, kind)


def controlnet_for(run: Run, kind: str) -> Any:
    """The ControlNet of a kind, loaded."""
    from portrayal.evaluation.control import CONTROL_KINDS
    from portrayal.models.control import find_controlnet, load_controlnet
    from portrayal.models.source import find_base

    name, known = run.config.control.controlnet_of(kind), CONTROL_KINDS[kind]
    source = find_base(run.config.base)  # the base itself is loaded only once the ControlNet is there
    folder = find_controlnet(name, source, embedded=known.embedded, hub_id=known.hub_id)
    return load_controlnet(folder, base_of(run))


def control_image(run: Run, kind: str, picture: Image.Image, size: tuple[int, int], *, ready_made: bool) -> Image.Image:
    """The control image of a picture, or the picture itself if it is one, of a width and height."""
    from portrayal.evaluation.control import CONTROL_KINDS
    from portrayal.generation.annotators import fit

    if ready_made:
        return CONTROL_KINDS[kind].adopt(picture, size)
    return CONTROL_KINDS[kind].annotate(fit(picture, size), run.config.control, base_of(run))


def paint_controlled(run: Run, name: str, control: Control, progress: Progress) -> None:
    """Pictures of one model held to the control image at each strength, all at the same seeds."""
    from portrayal.generation.pictures import Picture, paint_missing, picture_seed

    settings, subject = run.config.control, run.config.subject
    called = with_article(subject.class_noun) if name == "base" else subject.subject
    prompt = settings.prompt.replace("{subject}", called)
    seeds = [picture_seed(run.config.seed, "control", number) for number in range(settings.num_images)]
    inputs, folder = settings.model_dump(mode="json"), trained_models(run)[name]
    with stage(run, f"control.{control.kind}.{name}", inputs, progress) as tick, in_place(run, name, folder) as weights:
        for number, scale in enumerate(settings.scales):
            paths = controlled_paths(run, control.kind, name, scale)
            pictures = [Picture(path, prompt, seed) for path, seed in zip(paths, seeds, strict=True)]
            before = number * settings.num_images

            def count(done: int, _: int, before: int = before) -> None:
                tick(before + done, len(settings.scales) * settings.num_images)

            controls = [replace(control, scale=scale)] if scale else []
            paint_missing(generator_of(run, *controls), pictures, weights, count)


def controlled_models(run: Run) -> list[str]:
    """The base, the full UNet and the best LoRA, as far as they are there."""
    best = scores_of(run)["verdict"]["best_lora"]
    return [name for name in ("base", "unet", best) if name in trained_models(run)]


def reference_picture(run: Run) -> Image.Image:
    """The reference picture that was given, or one of the class that the base paints."""
    from portrayal.generation.pictures import picture_seed
    from portrayal.photos import read_photo

    settings = run.config.control
    if settings.reference is not None:
        return read_photo(settings.reference).image
    if reference_path(run).is_file():
        with Image.open(reference_path(run)) as opened:
            return opened.convert("RGB")
    prompt = settings.prompt.replace("{subject}", with_article(run.config.subject.class_noun))
    return next(generator_of(run).paint([prompt], [picture_seed(run.config.seed, "reference", 0)]))


def reference_path(run: Run) -> Path:
    """Where the reference picture is kept."""
    return run.folder / "images" / "control" / "reference.png"


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all."""
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
