"""Train the models of a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageOps

from portrayal.config import LoraMethod, Method
from portrayal.planning import loras_at_once
from portrayal.run import Event, Progress, Run, atomic_path, fingerprint
from portrayal.stages.publish import publish_model
from portrayal.stages.shared import base_of, checked_name, dataset_of, generator_of, silent, stage

if TYPE_CHECKING:
    from portrayal.data.encode import EncodedDataset
    from portrayal.photos import PreparedPhoto
    from portrayal.photos.crop import Shape

CLASS_IMAGE_SEED = 0  # not the run's, so that every run on a base shares them


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
    methods = run.config.methods
    chosen = [checked_name(name, methods) for name in models] or list(methods)
    for names in together(chosen, methods, loras_at_once(run.config), begun(run)):
        for name in names:
            if (run.model_folder(name) / "method.json").is_file():
                if not (run.model_folder(name) / "README.md").is_file():  # interrupted between training and publishing
                    publish_model(run, name, num_photos(run))
                progress(Event(f"train.{name}", "skipped"))
        train_together(run, names, progress)


def together(
    names: Sequence[str], methods: Mapping[str, Method], most: int, begun: Sequence[list[str]] = ()
) -> list[list[str]]:
    """Which models train in one batch: those that have begun so, further LoRAs `most` at once, the full UNet alone."""
    begun = [pack for pack in begun if set(pack) <= set(names)]
    loras = [name for name in names if isinstance(methods[name], LoraMethod)]
    alone = [[name] for name in names if name not in loras]
    fresh = [name for name in loras if not any(name in pack for pack in begun)]
    return [*alone, *begun, *(fresh[start : start + most] for start in range(0, len(fresh), most))]


def title_of(names: Sequence[str]) -> str:
    """`lora-8+16+32`: what models that train in one batch are called together."""
    return "+".join([names[0], *(name.removeprefix("lora-") for name in names[1:])])


def begun(run: Run) -> list[list[str]]:
    """Packs that were interrupted: they go on as they are, whatever fits into memory now."""
    titles = [path.name[1:].removesuffix(".training") for path in (run.folder / "models").glob(".*+*.training")]
    return [[first, *(f"lora-{rank}" for rank in ranks)] for first, *ranks in (title.split("+") for title in titles)]


def train_together(run: Run, names: Sequence[str], progress: Progress) -> None:
    """Train what is not trained yet of models that share a batch."""
    from portrayal.training import trainer

    methods, folders = run.config.methods, {name: run.model_folder(name) for name in names}
    missing = [name for name in names if not (folders[name] / "method.json").is_file()]
    title = title_of(names)
    work = run.folder / "models" / f".{title}.training"
    if not missing:
        shutil.rmtree(work, ignore_errors=True)  # interrupted between the last model and this
        return
    if not work.is_dir():  # nothing of theirs to go on from: those that are there already need not ride along
        names, title = missing, title_of(missing)
        work = work.with_name(f".{title}.training")
    data = trainer.TrainingData(encoded(run, "training"), class_images(run, progress))
    settings = {name: methods[name].model_dump() for name in names}
    with stage(run, f"train.{title}", settings, progress) as tick:
        tasks = [trainer.Task(name, methods[name], data, folders[name]) for name in names]
        trainer.train(base_of(run), tasks, run.config, work, tick)
        for name in missing:
            publish_model(run, name, num_photos(run))


def num_photos(run: Run) -> int:
    """How many photos a run trains on, however many squares were cut from them."""
    return len({photo.photo_id for photo in dataset_of(run).training})


def encoded(run: Run, part: Literal["training", "heldout"]) -> tuple[EncodedDataset, ...]:
    """Photos of one side of the split as the training loop reads them, those of one shape together, computed once."""
    from portrayal.data.encode import encode

    dataset, found = dataset_of(run), []
    for shape in shapes(run, part):
        photos = [photo for photo in getattr(dataset, part) if photo.shape == shape]

        def compute(photos: Sequence[PreparedPhoto] = photos) -> EncodedDataset:
            rows = [(photo.id, Image.open(dataset.image_path(photo)), photo.caption) for photo in photos]
            masks = {photo.id: Image.open(dataset.mask_path(photo)) for photo in photos if photo.masked}
            return encode(base_of(run), rows, masks)

        found.append(computed_once(run, part, shape, compute))
    return tuple(found)


def class_images(run: Run, progress: Progress) -> tuple[EncodedDataset, ...] | None:
    """The class images in each shape that the photos have, or nothing when the prior is not preserved."""
    from portrayal.data.encode import encode

    if run.config.training.prior_loss_weight == 0:
        return None
    prompt = run.config.subject.filled_class_prompt
    found = []
    for shape in shapes(run, "training"):

        def compute(shape: Shape = shape) -> EncodedDataset:
            images = painted_class_images(run, run.config.training.num_class_images, progress)
            fitted = [image if image.size == shape else ImageOps.fit(image, shape) for image in images]
            return encode(base_of(run), [(f"class-{i}", image, prompt) for i, image in enumerate(fitted)])

        found.append(computed_once(run, "class_images", shape, compute))
    return tuple(found)


def shapes(run: Run, part: Literal["training", "heldout"]) -> list[Shape]:
    """The shapes of the photos of one side of the split."""
    return sorted({photo.shape for photo in getattr(dataset_of(run), part)})


def computed_once(run: Run, name: str, shape: Shape, compute: Callable[[], EncodedDataset]) -> EncodedDataset:
    """An encoded dataset of a run, kept in its folder."""
    from portrayal.data.encode import EncodedDataset

    path = run.folder / "encoded" / f"{name}-{shape[0]}x{shape[1]}.safetensors"
    if not path.is_file():
        with atomic_path(path) as temporary:
            compute().save(temporary)
    return EncodedDataset.load(path)


def painted_class_images(run: Run, count: int, progress: Progress) -> list[Image.Image]:
    """Pictures of the class by the base: painted once, then read back."""
    from portrayal.data.class_images import ensure_class_images
    from portrayal.generation.pictures import picture_seed

    config = run.config
    prompt = config.subject.filled_class_prompt
    generation = config.generation.model_dump(exclude={"scenes", "num_images_per_scene"})
    key = fingerprint(
        [run.provenance["base"]["sha256"], prompt, generation, config.base.resolution, config.training.mixed_precision]
    )
    generator = generator_of(run)

    def paint(numbers: Sequence[int]) -> Iterator[Image.Image]:
        total = len(numbers)
        with stage(run, "class_images", key, progress) as tick:
            seeds = [picture_seed(CLASS_IMAGE_SEED, "class", number) for number in numbers]
            yield from generator.paint([prompt] * total, seeds, lambda done: tick(done, total))

    return ensure_class_images(key, count, paint, batch_size=config.generation.batch_size)
