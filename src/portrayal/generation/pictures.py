"""The pictures of a run: scenes by every model at the same seeds, and pictures held to a control image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from portrayal.formats.png import a1111_parameters, png_bytes
from portrayal.generation.generator import Control, Generator
from portrayal.parallel import in_threads
from portrayal.randomness import derived_seed
from portrayal.run import write_bytes

WRITERS = 8


@dataclass(frozen=True)
class UsedLora:
    """A LoRA that took part in a picture.

    Attributes:
        name: What people call it.
        hash: SHA-256 of its tensors, by which AUTOMATIC1111 knows it.
        strength: How strongly it counted.
        own: Whether it is the run's model, and not a file that came on top.
    """

    name: str
    hash: str
    strength: float = 1.0
    own: bool = False


@dataclass(frozen=True)
class Weights:
    """Whose weights paint, as pictures tell of it.

    Attributes:
        model: Of a run: `base`, `unet`, `lora-64`.
        base_hash: SHA-256 of the base's weights, where it is known.
        unet_hash: SHA-256 of a full UNet's.
        loras: The LoRAs in place.
    """

    model: str
    base_hash: str = ""
    unet_hash: str = ""
    loras: tuple[UsedLora, ...] = ()


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


OWN_STAGES = frozenset({"class", "class_drift", "control", "reference"})
"""What pictures are painted for besides the scenes; a scene that has such a name has seeds of its own all the same."""


def scene_seed(seed: int, scene: str, number: int) -> int:
    """Seed of a picture of a scene: never that of a class image, which is trained on, or of any other picture."""
    return picture_seed(seed, f"scene.{scene}" if scene in OWN_STAGES else scene, number)


def paint_missing(
    generator: Generator, pictures: Sequence[Picture], weights: Weights, progress: Callable[[int, int], None]
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
            writing = [writers.submit(save, image, picture, generator, weights) for picture, image in painted]


def save(image: Image.Image, picture: Picture, generator: Generator, weights: Weights) -> None:
    """Write a picture that is not there yet."""
    if not picture.path.is_file():
        write_bytes(picture.path, with_settings(image, picture, generator, weights))


def with_settings(image: Image.Image, picture: Picture, generator: Generator, weights: Weights) -> bytes:
    """The PNG of a picture, with what made it inside, and that it was generated."""
    own = {
        "version": version("portrayal"),
        "prompt": picture.prompt,
        "seed": picture.seed,
        "base": generator.base.source.name,
        **{key: value for key, value in asdict(weights).items() if key != "loras"},
        "loras": [asdict(lora) for lora in weights.loras],
        **painting_settings(generator),
        "controls": [control_settings(control) for control in generator.controls],
    }
    networks = "".join(f" <lora:{lora.name}:{lora.strength:g}>" for lora in weights.loras)
    fields = fields_of(picture, generator, weights)
    parameters = a1111_parameters(picture.prompt + networks, generator.settings.negative_prompt, fields)
    return png_bytes(image, own, parameters=parameters)


PAINTING = (
    "negative_prompt",
    "num_inference_steps",
    "sampler",
    "guidance_scale",
    "hires_scale",
    "hires_strength",
    "lora_strength",
)
"""The settings that a picture depends on, besides its size."""


def painting_settings(generator: Generator) -> dict[str, Any]:
    """What of the settings a picture depends on."""
    width, height = generator.size
    return {name: getattr(generator.settings, name) for name in PAINTING} | {"width": width, "height": height}


def control_settings(control: Control) -> dict[str, Any]:
    """What a picture tells of a control; its image is known by a hash of its pixels."""
    return {
        "kind": control.kind,
        "scale": control.scale,
        "start": control.start,
        "end": control.end,
        "image": image_hash(control.image),
    }


def image_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and pixels."""
    plain = image.convert("RGB")
    return hashlib.sha256(repr(plain.size).encode() + plain.tobytes()).hexdigest()


def fields_of(picture: Picture, generator: Generator, weights: Weights) -> dict[str, object]:
    """The settings under the names that AUTOMATIC1111 has for them."""
    settings, (width, height) = generator.settings, generator.size
    sampler = settings.sampler.removesuffix(" Karras")
    fields: dict[str, object] = {
        "Steps": settings.num_inference_steps,
        "Sampler": sampler,
        "Schedule type": "Karras" if sampler != settings.sampler else None,
        "CFG scale": settings.guidance_scale,
        "Seed": picture.seed,
        "Size": f"{width}x{height}",
        "Model hash": (weights.unet_hash or weights.base_hash)[:10] or None,
        "Model": f"{generator.base.source.name} {weights.model}",
    }
    if settings.hires_scale != 1:
        fields |= {"Denoising strength": settings.hires_strength, "Hires upscale": settings.hires_scale}
    if weights.loras:
        fields["Lora hashes"] = ", ".join(f"{lora.name}: {lora.hash[:12]}" for lora in weights.loras)
    for number, control in enumerate(generator.controls):
        fields[f"ControlNet {number}"] = (
            f"Module: {control.kind}, Weight: {control.scale:g}, "
            f"Guidance Start: {control.start:g}, Guidance End: {control.end:g}"
        )
    return fields | {"Version": f"Portrayal {version('portrayal')}"}


def load_pictures(paths: Sequence[Path]) -> list[Image.Image]:
    """Open pictures."""

    def load(path: Path) -> Image.Image:
        with Image.open(path) as image:
            return image.convert("RGB")

    return in_threads(load, paths)
