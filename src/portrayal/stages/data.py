"""What models are trained on and judged by, as the training loop reads it: encoded once, kept in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from portrayal.processes import ALONE, Processes, here
from portrayal.run import Progress, Run, atomic_path, fingerprint
from portrayal.stages.shared import base_of, dataset_of, generator_of, stage

if TYPE_CHECKING:
    from portrayal.data.encode import EncodedDataset
    from portrayal.photos.crop import Shape
    from portrayal.training.task import TrainingData

CLASS_SETTINGS = ("num_inference_steps", "sampler", "guidance_scale", "negative_prompt", "batch_size")
CLASS_IMAGE_SEED = 0  # not the run's, so that every run on a base shares them


def num_photos(run: Run, fold: int | None) -> int:
    """How many photos are trained on when a fold is held out, however many squares were cut from them."""
    return len({photo.photo_id for photo in dataset_of(run).training(fold)})


def training_data(run: Run, fold: int | None, progress: Progress) -> TrainingData:
    """The photos that are trained on when a fold is held out, with class images of their shapes."""
    from portrayal.training.task import TrainingData

    ids = {photo.id for photo in dataset_of(run).training(fold)}
    parts = [(index, part.subset(ids)) for index, part in enumerate(encoded(run))]
    used = [(index, part) for index, part in parts if len(part)]
    of_class = class_images(run, progress)
    return TrainingData(
        tuple(part for _, part in used), None if of_class is None else tuple(of_class[index] for index, _ in used)
    )


def heldout_data(run: Run, fold: int) -> tuple[EncodedDataset, list[int]]:
    """The photos of a fold, squares all, and the number of each among all photos that are ever held out."""
    dataset = dataset_of(run)
    judged = sorted(photo.id for photo in dataset.photos if photo.fold is not None and photo.use != "training")
    ids = {photo.id for photo in dataset.heldout(fold)}
    (part,) = (found for part in encoded(run) if len(found := part.subset(ids)))
    return part, [judged.index(name) for name in part.ids]


def encoded(run: Run) -> tuple[EncodedDataset, ...]:
    """All photos as the training loop reads them, those of one shape together, computed once in all their views."""
    return tuple(encoded_photos(run, shape) for shape in shapes(run))


def encoded_photos(run: Run, shape: Shape) -> EncodedDataset:
    """The photos of one shape."""
    from portrayal.data.encode import encode
    from portrayal.data.views import Views

    dataset, training = dataset_of(run), run.config.training

    def compute() -> EncodedDataset:
        photos = [photo for photo in dataset.photos if photo.shape == shape]
        rows = [(photo.id, Image.open(dataset.image_path(photo)), photo.caption) for photo in photos]
        masks = {photo.id: Image.open(dataset.mask_path(photo)) for photo in photos if photo.masked}
        views = Views(run.config.seed, training.random_crops, training.random_flip)
        return encode(base_of(run), rows, masks, views=views)

    return computed_once(run, "photos", shape, compute)


def class_images(run: Run, progress: Progress) -> tuple[EncodedDataset, ...] | None:
    """The class images in each shape that the photos have, or nothing when the prior is not preserved."""
    if run.config.training.prior_loss_weight == 0:
        return None
    return tuple(encoded_class_images(run, shape, progress) for shape in shapes(run))


def encoded_class_images(run: Run, shape: Shape, progress: Progress) -> EncodedDataset:
    """The class images in one shape."""
    from portrayal.data.encode import encode

    def compute() -> EncodedDataset:
        images = painted_class_images(run, run.config.training.num_class_images, progress)
        fitted = [image if image.size == shape else ImageOps.fit(image, shape) for image in images]
        prompt = run.config.subject.filled_class_prompt
        return encode(base_of(run), [(f"class-{i}", image, prompt) for i, image in enumerate(fitted)])

    return computed_once(run, "class_images", shape, compute)


def encode_together(run: Run, progress: Progress) -> None:
    """Let several processes make what all of them will read: class images by batches, then what is encoded of each."""
    processes, preserved = here(), run.config.training.prior_loss_weight > 0
    if processes.count == 1:
        return  # made when it is first read
    if preserved and processes.any(
        not all(encoded_path(run, "class_images", shape).is_file() for shape in shapes(run))
    ):
        painted_class_images(run, run.config.training.num_class_images, progress, processes)
    wanted = [("class_images", shape) for shape in shapes(run) if preserved]
    for name, shape in processes.mine([*wanted, *(("photos", shape) for shape in shapes(run))]):
        if name == "photos":
            encoded_photos(run, shape)
        else:
            encoded_class_images(run, shape, progress)
    processes.wait()


def shapes(run: Run) -> list[Shape]:
    """The shapes that the photos have."""
    return sorted({photo.shape for photo in dataset_of(run).photos})


def computed_once(run: Run, name: str, shape: Shape, compute: Callable[[], EncodedDataset]) -> EncodedDataset:
    """An encoded dataset of a run, kept in its folder."""
    from portrayal.data.encode import EncodedDataset

    path = encoded_path(run, name, shape)
    if not path.is_file():
        with atomic_path(path) as temporary:
            compute().save(temporary)
    return EncodedDataset.load(path)


def encoded_path(run: Run, name: str, shape: Shape) -> Path:
    """Where an encoded dataset lies."""
    return run.folder / "encoded" / f"{name}-{shape[0]}x{shape[1]}.safetensors"


def painted_class_images(run: Run, count: int, progress: Progress, processes: Processes = ALONE) -> list[Image.Image]:
    """Pictures of the class by the base: painted once, then read back."""
    from portrayal.data.class_images import ensure_class_images

    config = run.config
    prompt = config.subject.filled_class_prompt
    # Class images are trained on: of the training resolution, whatever pictures are to be painted later.
    plain = {"width": None, "height": None, "hires_scale": 1.0}
    painting = config.generation.model_copy(update=plain)
    generation = painting.model_dump(include={*CLASS_SETTINGS})
    generator = replace(generator_of(run), settings=painting)
    # The base is more than its weights, whose hash is recorded: how it was taught noise, and the configs it is read by.
    schedule = {name: value for name, value in generator.base.noise_scheduler.config.items() if name[0] != "_"}
    base = [run.provenance["base"]["sha256"], config.base.config, schedule]
    key = fingerprint([base, prompt, generation, config.base.resolution, config.training.mixed_precision])

    def paint(numbers: Sequence[int]) -> Iterator[Image.Image]:
        total = len(numbers)
        with stage(run, "class_images", key, progress) as tick:
            yield from generator.paint([prompt] * total, class_image_seeds(numbers), lambda done: tick(done, total))

    return ensure_class_images(key, count, paint, batch_size=config.generation.batch_size, processes=processes)


def class_image_seeds(numbers: Iterable[int]) -> list[int]:
    """Seeds of class images by number, the same for every run on a base."""
    from portrayal.generation.pictures import picture_seed

    return [picture_seed(CLASS_IMAGE_SEED, "class", number) for number in numbers]
