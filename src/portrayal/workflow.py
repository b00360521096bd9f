"""The stages in order, finished ones skipped: photos in; tuned models, pictures, scores and a report out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from portrayal.config import Config
from portrayal.errors import PortrayalError, UsageError, WeightsError
from portrayal.planning import Plan, check_disk, settle
from portrayal.publishing import publish_model
from portrayal.run import Event, Progress, Run, fingerprint, write_json, write_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from portrayal.data.encode import EncodedDataset
    from portrayal.data.manifest import PreparedDataset
    from portrayal.generation.generator import Generator
    from portrayal.models.base import BaseModel

MAX_STRANGERS = 40
CLASS_IMAGE_SEED = 0  # not the run's, so that every run on a base shares them


def silent(event: Event) -> None:
    """Progress nobody watches."""


def portray(
    photos: Path, config: Config, out: Path, *, consent: bool | None = None, progress: Progress = silent
) -> Run:
    """Do the whole job, or what is left of it: the same call again goes on where it was interrupted.

    Args:
        photos: Folder of photos.
        config: The settings; see :func:`portrayal.load_config`.
        out: Folder of the run.
        consent: Whether the subject agreed, as stated by the user; `None` is recorded as not stated.
        progress: Called with every :class:`portrayal.Event`.

    Raises:
        PortrayalError: With cause, remedy and exit code; see :mod:`portrayal.errors`.
    """
    run = prepare(photos, config, out, consent=consent, progress=progress)
    train(run, progress=progress)
    generate(run, progress=progress)
    evaluate(run, progress=progress)
    if config.control.enabled:
        generate_controlled(run, progress=progress)
        evaluate(run, progress=progress)
    report(run, progress=progress)
    return run


@contextmanager
def stage(run: Run, name: str, inputs: object, progress: Progress) -> Iterator[Callable[[int, int], None]]:
    """Announce and time a stage; it counts as finished only if the block ends well."""
    started = time.monotonic()
    tell(run, Event(name, "started"), progress)
    yield lambda done, total: progress(Event(name, "progress", done, total))
    run.mark_finished(name, inputs, time.monotonic() - started)
    tell(run, Event(name, "finished"), progress)


def tell(run: Run, event: Event, progress: Progress) -> None:
    """Log an event and show it."""
    run.log(event)
    progress(event)


@lru_cache(maxsize=1)
def shared_base(settled: Settled) -> BaseModel:
    """The base in memory, one at a time: methods give it back as it was, so stages can share it."""
    import torch

    from portrayal.models.base import choose_device, load_base
    from portrayal.models.source import find_base

    source = find_base(Config.model_validate_json(settled.config).base)
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[settled.precision]
    return load_base(source, device=choose_device(), dtype=dtype)


class Settled(NamedTuple):
    """What a loaded base depends on."""

    config: str
    precision: str


def base_of(run: Run) -> BaseModel:
    """The run's base, loaded when first asked for."""
    only_base = Config(base=run.config.base).model_dump_json()
    return shared_base(Settled(only_base, run.config.training.mixed_precision))


# Prepare ---------------------------------------------------------------------------------------------------------


def prepare(
    photos: Path, config: Config, out: Path, *, consent: bool | None = None, progress: Progress = silent
) -> Run:
    """Start a run: settle its settings, make the photos upright and square, choose the held-out ones.

    Raises:
        PhotosError: If there are too few usable photos.
        RunConflictError: If `out` holds another run.
        UsageError: If a setting or prompt cannot be meant.
        WeightsError: If the base cannot be had.
    """
    from portrayal.data.manifest import save_dataset
    from portrayal.photos import PrepareSettings, prepare_photos

    started = time.monotonic()
    plan = settle(config)
    subject, resolution = plan.config.subject, plan.config.base.resolution
    assert resolution is not None
    settings = PrepareSettings(
        resolution,
        subject.filled_instance_prompt,
        plan.config.prepare.num_heldout,
        plan.config.seed,
        plan.config.prepare.min_photos,
    )
    prepared = prepare_photos(photos, settings, lambda done, total: progress(Event("prepare", "progress", done, total)))
    run = Run.create(out, plan.config, provenance(plan, [photo.id for photo in prepared.photos], consent))
    if run.finished("prepare", plan.config.prepare.model_dump()):
        progress(Event("prepare", "skipped"))
        return run
    check_disk(out, plan.disk_gib)
    check_captions(plan, [photo.caption for photo in prepared.photos])
    save_dataset(
        run.dataset_folder,
        prepared,
        resolution=resolution,
        instance_prompt=subject.filled_instance_prompt,
        class_noun=subject.class_noun,
        seed=plan.config.seed,
    )
    for finding in prepared.findings:
        tell(run, Event("prepare", "note", message=f"{finding.file}: {finding.message}"), progress)
    run.mark_finished("prepare", plan.config.prepare.model_dump(), time.monotonic() - started)
    tell(run, Event("prepare", "finished"), progress)
    return run


def provenance(plan: Plan, photo_ids: Sequence[str], consent: bool | None) -> dict[str, object]:
    """What `run.json` records besides command, versions and machine."""
    stated = {True: "stated by the user", False: "refused", None: "not stated"}[consent]
    base = {
        "name": plan.source.name,
        "kind": plan.source.kind,
        "revision": plan.source.revision,
        "licence": plan.source.licence,
        "sha256": plan.source.weight_hash(),
    }
    return {"base": base, "device": plan.device, "consent": stated, "photos": sorted(photo_ids)}


def check_captions(plan: Plan, captions: Sequence[str]) -> None:
    """Refuse captions the base would cut off."""
    from transformers import CLIPTokenizer

    from portrayal.models.base import check_prompts

    folder = plan.source.config_folder or plan.source.path
    check_prompts(CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True), captions)


def dataset_of(run: Run) -> PreparedDataset:
    """The run's photos."""
    from portrayal.data.manifest import load_dataset

    return load_dataset(run.dataset_folder)


# Train -----------------------------------------------------------------------------------------------------------


def train(run: Run, models: Sequence[str] = (), *, progress: Progress = silent) -> None:
    """Train the models that are not trained yet.

    Args:
        run: A prepared run.
        models: Names such as `unet` or `lora-64`; nothing means all of the study.
        progress: Called with every event.

    Raises:
        UsageError: If the study has no model of that name.
        TrainingDivergedError: If a loss stops being finite.
    """
    from portrayal.training import trainer

    methods = run.config.methods
    chosen = [checked_name(name, methods) for name in models] or list(methods)
    for name in chosen:
        folder, settings = run.model_folder(name), methods[name].model_dump()
        if (folder / "method.json").is_file():
            progress(Event(f"train.{name}", "skipped"))
            continue
        data = trainer.TrainingData(encoded(run, "training", progress), class_images(run, progress))
        with stage(run, f"train.{name}", settings, progress) as tick:
            trainer.train(base_of(run), name, methods[name], data, run.config, folder, tick)
            publish_model(run, name, len(data.photos))


def checked_name(name: str, known: Any) -> str:
    """The name, if the study has such a model."""
    if name not in known:
        raise UsageError(f"This run has no model {name!r}.", f"It has: {', '.join(known)}")
    return name


def encoded(run: Run, part: Literal["training", "heldout"], progress: Progress) -> EncodedDataset:
    """Photos of one side of the split as the training loop reads them, computed once."""
    from PIL import Image

    from portrayal.data.encode import EncodedDataset, encode
    from portrayal.run import atomic_path

    path = run.folder / "encoded" / f"{part}.safetensors"
    if not path.is_file():
        dataset = dataset_of(run)
        photos = dataset.training if part == "training" else dataset.heldout
        rows = [(photo.id, Image.open(dataset.image_path(photo)), photo.caption) for photo in photos]
        with atomic_path(path) as temporary:
            encode(base_of(run), rows).save(temporary)
    return EncodedDataset.load(path)


def class_images(run: Run, progress: Progress) -> EncodedDataset | None:
    """The class images as the training loop reads them, or nothing when the prior is not preserved."""
    from portrayal.data.encode import EncodedDataset, encode
    from portrayal.run import atomic_path

    if run.config.training.prior_loss_weight == 0:
        return None
    path = run.folder / "encoded" / "class_images.safetensors"
    if not path.is_file():
        images = painted_class_images(run, run.config.training.num_class_images, progress)
        prompt = run.config.subject.filled_class_prompt
        with atomic_path(path) as temporary:
            encode(base_of(run), [(f"class-{i}", image, prompt) for i, image in enumerate(images)]).save(temporary)
    return EncodedDataset.load(path)


def painted_class_images(run: Run, count: int, progress: Progress) -> list[Any]:
    """Pictures of the class by the base: painted once, then read back."""
    from portrayal.data.class_images import ensure_class_images
    from portrayal.generation.pictures import picture_seed

    config, base = run.config, base_of(run)
    prompt = config.subject.filled_class_prompt
    generation = config.generation.model_dump(exclude={"scenes", "num_images_per_scene"})
    key = fingerprint(
        [run.provenance["base"]["sha256"], prompt, generation, config.base.resolution, config.training.mixed_precision]
    )
    generator = generator_of(run)

    def paint(numbers: Sequence[int]) -> Iterator[Any]:
        total = len(numbers)
        with stage(run, "class_images", key, progress) as tick:
            seeds = [picture_seed(CLASS_IMAGE_SEED, "class", number) for number in numbers]
            yield from generator.paint([prompt] * total, seeds, lambda done: tick(done, total))

    del base
    return ensure_class_images(key, count, paint, batch_size=config.generation.batch_size)


# Generate --------------------------------------------------------------------------------------------------------


def generator_of(run: Run, control: Any = None) -> Generator:
    """Paints with whatever is in place on the run's base."""
    from portrayal.generation.generator import Generator

    return Generator(base_of(run), run.config.generation, control, run.config.base.resolution)


def trained_models(run: Run) -> dict[str, Path | None]:
    """The base (no folder) and the models that are trained, in the study's order."""
    folders = {name: run.model_folder(name) for name in run.config.methods}
    return {"base": None} | {name: path for name, path in folders.items() if (path / "method.json").is_file()}


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
        with stage(run, f"generate.{name}", config.generation.model_dump(), progress) as tick:
            with tuned(base_of(run), trained[name]):
                paint_missing(generator_of(run), pictures, name, tick)


def generate_controlled(run: Run, *, progress: Progress = silent) -> None:
    """Paint with the outline of a reference picture, by the full UNet and the best LoRA, and without for comparison.

    A ControlNet that cannot be had is noted and left out when `control.controlnet` is `auto`.
    """
    from PIL import Image

    from portrayal.generation.annotators import canny, fit_square
    from portrayal.generation.generator import Control
    from portrayal.models.control import find_controlnet, load_controlnet
    from portrayal.run import atomic_path

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
    for name in controlled_models(run):
        paint_controlled(run, name, control, progress)


def paint_controlled(run: Run, name: str, control: Any, progress: Progress) -> None:
    """Pictures of one model with the outline and, at the same seeds, without."""
    from portrayal.generation.pictures import Picture, paint_missing, picture_seed
    from portrayal.models.methods import tuned

    settings, subject = run.config.control, run.config.subject.subject
    prompt, numbers = settings.prompt.replace("{subject}", subject), range(settings.num_images)
    where = run.folder / "images" / "control" / name
    kinds = {where: control, where / "without": None}
    plans = {
        folder: [Picture(folder / f"{n}.png", prompt, picture_seed(run.config.seed, "control", n)) for n in numbers]
        for folder in kinds
    }
    if all(picture.path.is_file() for pictures in plans.values() for picture in pictures):
        progress(Event(f"control.{name}", "skipped"))
        return
    with stage(run, f"control.{name}", settings.model_dump(mode="json"), progress) as tick:
        with tuned(base_of(run), run.model_folder(name)):
            total, before = 2 * len(numbers), 0
            for folder, pictures in plans.items():
                offset = before
                generator = generator_of(run, kinds[folder])
                paint_missing(generator, pictures, name, lambda done, _, offset=offset: tick(offset + done, total))
                before += len(pictures)


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


def with_article(noun: str) -> str:
    """`a woman`, `an owl`."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


# Evaluate and report ---------------------------------------------------------------------------------------------


def evaluate(run: Run, *, progress: Progress = silent) -> dict[str, Any]:
    """Measure every painted model in the same cells and draw the verdict; returns what `scores.json` holds.

    Raises:
        UsageError: If no pictures have been painted.
    """
    from portrayal.evaluation.encoders import load_encoders
    from portrayal.evaluation.evaluate import score

    inputs = evaluated_files(run)
    if run.finished("evaluate", inputs) and (run.folder / "scores.json").is_file():
        progress(Event("evaluate", "skipped"))
        return scores_of(run)
    with stage(run, "evaluate", inputs, progress) as tick:
        evidence = gather(run, tick, progress)
        base = base_of(run)
        scores = score(evidence, load_encoders(base.source, base.device), base_name=base.source.name)
        write_json(run.folder / "scores.json", scores)
    for note in scores["encoders"]["notes"]:
        tell(run, Event("evaluate", "note", message=note), progress)
    return scores


def evaluated_files(run: Run) -> list[str]:
    """Names of the pictures and models that scores depend on."""
    pictures = sorted(str(path.relative_to(run.folder)) for path in (run.folder / "images").rglob("*.png"))
    return [*trained_models(run), *pictures]


def gather(run: Run, tick: Callable[[int, int], None], progress: Progress) -> Any:
    """Collect what a run is judged by."""
    from portrayal.evaluation.evaluate import Evidence, PaintedModel
    from portrayal.generation.pictures import load_pictures

    config, dataset = run.config, dataset_of(run)
    painted = {name: path for name, path in trained_models(run).items() if (run.folder / "images" / name).is_dir()}
    if "base" not in painted:
        raise UsageError(f"{run.folder} has no pictures to judge.", f"Paint them: portrayal generate {run.folder}")
    models = []
    for number, (name, folder) in enumerate(painted.items()):
        losses = losses_of(run, name, folder, progress)
        rank = config.methods[name].rank if name.startswith("lora") else None  # type: ignore[union-attr]
        kind = "base" if folder is None else config.methods[name].kind
        rows = [list(load_pictures(scene_paths(run, name, scene))) for scene in config.generation.scenes]
        models.append(PaintedModel(name, kind, rank, losses, rows))
        tick(number + 1, len(painted) + 1)
    noun = with_article(config.subject.class_noun)
    kept = list(load_pictures([dataset.image_path(photo) for photo in dataset.training]))
    heldout = dict(
        zip(
            [photo.id for photo in dataset.heldout],
            load_pictures([dataset.image_path(photo) for photo in dataset.heldout]),
            strict=True,
        )
    )
    edges, controlled = control_evidence(run)
    return Evidence(
        config,
        models,
        [prompt.replace("{subject}", noun) for prompt in config.generation.scenes.values()],
        heldout,
        kept,
        strangers(run, models[0].pictures, progress),
        edges,
        controlled,
    )


def strangers(run: Run, base_pictures: list[list[Any]], progress: Progress) -> list[Any]:
    """Other people of the class: class images where they exist, the base's own pictures otherwise."""
    training = run.config.training
    if training.prior_loss_weight == 0:
        return [picture for row in base_pictures for picture in row]
    return painted_class_images(run, min(MAX_STRANGERS, training.num_class_images), progress)


def scene_paths(run: Run, name: str, scene: str) -> list[Path]:
    """Where the pictures of a scene lie."""
    return [run.image_path(name, scene, number) for number in range(run.config.generation.num_images_per_scene)]


def control_evidence(run: Run) -> tuple[Any, list[Any]]:
    """The control image and the pictures painted under it, or nothing yet."""
    from portrayal.evaluation.evaluate import ControlledPictures
    from portrayal.generation.pictures import load_pictures

    where, numbers = run.folder / "images" / "control", range(run.config.control.num_images)
    if not (where / "edges.png").is_file():
        return None, []
    made = []
    for name in trained_models(run):
        paths = [[folder / f"{n}.png" for n in numbers] for folder in (where / name, where / name / "without")]
        if all(path.is_file() for row in paths for path in row):
            made.append(ControlledPictures(name, *(list(load_pictures(row)) for row in paths)))
    return next(load_pictures([where / "edges.png"])), made


def losses_of(run: Run, name: str, folder: Path | None, progress: Progress) -> NDArray[np.float64]:
    """Held-out losses of a model, shape `(P, T, N)`, read once and kept."""
    import numpy as np

    from portrayal.evaluation.heldout import HeldoutGrid, heldout_losses
    from portrayal.models.methods import tuned

    path = run.folder / "heldout" / f"{name}.json"
    if not path.is_file():
        settings = run.config.evaluation
        grid = HeldoutGrid(settings.num_timesteps, settings.num_noises, run.config.seed)
        photos = encoded(run, "heldout", progress)
        with tuned(base_of(run), folder) as base:
            write_json(path, heldout_losses(base, photos, grid).tolist())
    return np.array(json.loads(path.read_text(encoding="utf-8")))


def scores_of(run: Run) -> dict[str, Any]:
    """What `scores.json` holds.

    Raises:
        UsageError: If the run has not been evaluated.
    """
    path = run.folder / "scores.json"
    if not path.is_file():
        raise UsageError(f"{run.folder} has no scores.", f"Evaluate it first: portrayal evaluate {run.folder}")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def report(run: Run, *, progress: Progress = silent) -> Path:
    """Write `report.html` and `report.md`; returns the path of the first.

    Raises:
        UsageError: If the run has not been evaluated.
    """
    from portrayal.report import build_report

    inputs = [fingerprint(scores_of(run)), *evaluated_files(run)]
    page = run.folder / "report.html"
    if run.finished("report", inputs) and page.is_file():
        progress(Event("report", "skipped"))
        return page
    with stage(run, "report", inputs, progress):
        html, _ = build_report(run.folder)
    return html


__all__ = ["PortrayalError", "evaluate", "generate", "generate_controlled", "portray", "prepare", "report", "train"]
