"""The pictures of a run: scenes by every model at the same seeds, and pictures held to a control image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from portrayal.formats.png import a1111_parameters, png_bytes
from portrayal.generation.generator import Generator
from portrayal.parallel import in_threads
from portrayal.randomness import derived_seed
from portrayal.run import write_bytes

WRITERS = 8


@dataclass(frozen=True)
class Picture:
    """One picture to paint.

    Attributes:
        path: Where it goes.
        prompt: What it shows.
        seed: Seed of its noise, below 2**32 so that other tools can take it.
    """

    path: Path
    prompt: str
    seed: int


def picture_seed(seed: int, stage: str, number: int) -> int:
    """Seed of a picture: the same for every model, and never one that training uses."""
    return derived_seed(seed, f"images.{stage}", step=number) % 2**32


def paint_missing(
    generator: Generator, pictures: Sequence[Picture], model: str, progress: Callable[[int, int], None]
) -> None:
    """Paint the pictures whose files are not there, each saved whole with its settings inside.

    A batch with a missing picture is painted anew as a whole, so that a picture never depends on interruptions; the
    pictures that are there are not touched.
    """
    size = generator.settings.batch_size
    batches = [pictures[start : start + size] for start in range(0, len(pictures), size)]
    missing = [batch for batch in batches if not all(picture.path.is_file() for picture in batch)]
    done = len(pictures) - sum(len(batch) for batch in missing)
    progress(done, len(pictures))
    wanted = [picture for batch in missing for picture in batch]
    images = generator.paint([p.prompt for p in wanted], [p.seed for p in wanted])
    writing: list[Future[None]] = []
    with (
        closing(images),
        ThreadPoolExecutor(WRITERS) as writers,
    ):  # packing a PNG takes as long as a GPU takes to paint it
        for batch in [*missing, ()]:  # the last writes what the one before painted
            painted = list(zip(batch, islice(images, len(batch)), strict=True))
            for written in writing:  # those of the batch before this one
                written.result()
            done += len(writing)
            if writing:
                progress(done, len(pictures))
            writing = [writers.submit(save, image, picture, generator, model) for picture, image in painted]


def save(image: Image.Image, picture: Picture, generator: Generator, model: str) -> None:
    """Write a picture that is not there yet."""
    if not picture.path.is_file():
        write_bytes(picture.path, with_settings(image, picture, generator, model))


def with_settings(image: Image.Image, picture: Picture, generator: Generator, model: str) -> bytes:
    """The PNG of a picture, with what made it inside, and that it was generated."""
    settings, side = generator.settings, image.width
    fields: dict[str, Any] = {
        "Steps": settings.num_inference_steps,
        "Sampler": "DPM++ 2M",
        "CFG scale": settings.guidance_scale,
        "Seed": picture.seed,
        "Size": f"{side}x{image.height}",
        "Model": f"{generator.base.source.name} {model}",
    }
    if generator.control is not None:
        fields["ControlNet 0"] = f"Module: {generator.control.kind}, Weight: {generator.control.scale}"
    own = {
        "prompt": picture.prompt,
        "negative_prompt": settings.negative_prompt,
        "seed": picture.seed,
        "model": model,
        "base": generator.base.source.name,
        "num_inference_steps": settings.num_inference_steps,
        "guidance_scale": settings.guidance_scale,
        "control": generator.control.kind if generator.control else None,
        "controlnet_conditioning_scale": generator.control.scale if generator.control else None,
    }
    parameters = a1111_parameters(picture.prompt, settings.negative_prompt, fields)
    return png_bytes(image, own, parameters=parameters)


def load_pictures(paths: Sequence[Path]) -> list[Image.Image]:
    """Open pictures."""

    def load(path: Path) -> Image.Image:
        with Image.open(path) as image:
            return image.convert("RGB")

    return in_threads(load, paths)
