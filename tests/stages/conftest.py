"""A run whose models are there without having been trained, and a painter that says who painted, what and how.

The models are of the classes that training saves, with weights of chance, each with others.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from portrayal.config import Config, GenerationConfig, LoraMethod
from portrayal.data.manifest import save_dataset
from portrayal.formats.png import read_settings
from portrayal.generation.generator import Generator
from portrayal.generation.pictures import image_hash
from portrayal.models.base import BaseModel
from portrayal.models.lora_files import LoraFile, with_loras
from portrayal.models.methods import attach
from portrayal.models.saved import tuned
from portrayal.photos import Prepared, PreparedPhoto
from portrayal.run import Run, write_json

SIDE = 32
SCENES = {"street": "a photo of {subject} on the street", "forest": "{subject} in the forest, with a dog"}


def small(config: Config) -> Config:
    """Settings that differ from the defaults in everything that a picture could tell of."""
    scenes = {"scenes": SCENES, "num_images_per_scene": 3, "num_inference_steps": 2, "sampler": "Euler a"}
    generation = GenerationConfig(**scenes, guidance_scale=3.5, negative_prompt="hat", lora_strength=0.75, batch_size=2)
    control = {"kinds": ("canny",), "num_images": 2, "scales": (0.0, 0.5, 1.0), "prompt": "{subject} waves"}
    lora = config.method.lora.model_copy(update={"alpha": 4.0})  # weights of chance are large enough as they are
    changes = {
        "method": config.method.model_copy(update={"lora": lora}),
        "base": config.base.model_copy(update={"resolution": SIDE}),
        "training": config.training.model_copy(update={"mixed_precision": "no"}),
        "generation": generation,
        "control": config.control.model_copy(update=control),
        "seed": 3,
    }
    return config.model_copy(update=changes)


@pytest.fixture(scope="session")
def made(pocket: BaseModel, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run; tests copy it."""
    source = pocket.source
    base = {"name": "pocket", "kind": "pocket", "licence": source.licence, "sha256": source.weight_hash()}
    folder = tmp_path_factory.mktemp("made") / "ann"
    run = Run.create(folder, small(tiny_config), {"base": base, "consent": "stated by the user", "photos": []})
    save_photos(run)
    for seed, trial in enumerate(run.config.trials.values()):
        save_model(pocket, run, trial.name, trial.model, seed)
    save_model(pocket, run, "final", "lora-4", 99)
    verdict = {"best_lora": "lora-4", "recommended": "lora-4", "sentence": ""}
    write_json(folder / "scores.json", {"models": [], "verdict": verdict})
    return folder


def save_photos(run: Run) -> None:
    """Seven photos: two are held out in the first fold, one in the second."""
    whole = PreparedPhoto("0", "0.jpg", SIDE, SIDE, (0, 0, SIDE, SIDE), (SIDE, SIDE), False, "", "template", None, None)
    photos = [
        PreparedPhoto(**vars(whole) | {"id": f"{number:012x}", "fold": fold, "caption": f"sks woman {number}"})
        for number, fold in enumerate([0, None, 1, 0, None, None, None])
    ]
    images = {photo.id: Image.new("RGB", (SIDE, SIDE), (30 * number, 90, 0)) for number, photo in enumerate(photos)}
    words = {"instance_prompt": "a photo of sks woman", "class_noun": "woman", "seed": 3}
    save_dataset(run.dataset_folder, Prepared(photos, images, []), resolution=SIDE, **words)


def save_model(base: BaseModel, run: Run, name: str, model: str, seed: int) -> None:
    """A model with weights of chance, as training leaves it."""
    method = run.config.methods[model]
    attached = attach(base, method, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in attached.named_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.1 if model != "unet" else 0.01))
    attached.save(run.model_folder(name), "fp32")
    attached.detach()
    rank = method.rank if isinstance(method, LoraMethod) else None
    told = {"kind": method.kind, "rank": rank, "step": 100 + seed, "settings": method.model_dump(mode="json")}
    write_json(run.model_folder(name) / "method.json", told)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path / "ann")
    return Run.open(tmp_path / "ann")


# Who paints ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def voice(base: BaseModel) -> Tensor:
    """What the weights in place on a base say of fixed latents: no two models say the same."""
    latents = torch.randn(1, base.unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = base.encode_prompts(["a photo of sks woman"])
    answer: Tensor = base.unet(latents, torch.tensor([300]), embeds).sample
    return answer


@dataclass
class Painting:
    """One call of the painter.

    Attributes:
        voice: Of the weights in place.
        generator: With its settings and controls.
    """

    voice: Tensor
    generator: Generator
    prompts: list[str]
    seeds: list[int]


Voices = dict[tuple[object, ...], Tensor]


@dataclass
class Gallery:
    """What was painted, call by call; each picture shows by its colour which it is.

    Attributes:
        voices: Of models that were put in place by hand before.
    """

    base: BaseModel
    paintings: list[Painting]
    voices: Voices

    def paint(
        self, generator: Generator, prompts: Sequence[str], seeds: Sequence[int], progress: Callable[..., None] | None
    ) -> Iterator[Image.Image]:
        """In the place of the generator's own."""
        self.paintings.append(Painting(voice(generator.base), generator, list(prompts), list(seeds)))
        number = len(self.paintings) - 1
        for place in range(len(prompts)):
            yield Image.new("RGB", generator.final_size, (number, place, 200))
            if progress is not None:
                progress(place + 1)

    def check(self, run: Run, path: Path, model: str, *, loras: Sequence[LoraFile] = ()) -> dict:
        """What a picture tells, which must be what it was painted with: weights, prompt, seed, settings, controls."""
        told = read_settings(path)
        assert told is not None
        with Image.open(path) as image:
            number, place, _ = image.getpixel((0, 0))
        painting = self.paintings[number]
        assert told["model"] == model
        assert (told["prompt"], told["seed"]) == (painting.prompts[place], painting.seeds[place])
        settings = painting.generator.settings.model_dump()
        assert {key: told[key] for key in settings if key in told and key not in ("width", "height")} == {
            key: value for key, value in settings.items() if key in told and key not in ("width", "height")
        }
        assert (told["width"], told["height"]) == painting.generator.size
        assert told["base_hash"] == self.base.source.weight_hash()
        expected = [(one.kind, one.scale, one.start, one.end) for one in painting.generator.controls]
        assert [(one["kind"], one["scale"], one["start"], one["end"]) for one in told["controls"]] == expected
        hashes = [image_hash(control.image) for control in painting.generator.controls]
        assert [one["image"] for one in told["controls"]] == hashes
        strengths = [(one.name, one.strength) for one in loras]
        assert [(one["name"], one["strength"]) for one in told["loras"] if not one["own"]] == strengths
        own = [one["strength"] for one in told["loras"] if one["own"]]
        lora = model != "base" and not model.startswith("unet")
        assert own == [settings["lora_strength"]] * lora
        assert torch.allclose(painting.voice, self.expected(run, model, settings["lora_strength"], loras), atol=1e-4)
        return told

    def expected(self, run: Run, model: str, strength: float, loras: Sequence[LoraFile] = ()) -> Tensor:
        """What a model says, put in place by hand."""
        folder = None if model == "base" else run.model_folder(model)
        key = (model, strength, *((one.name, one.strength) for one in loras))
        if key not in self.voices:
            with tuned(self.base, folder, strength), with_loras(self.base, loras):
                self.voices[key] = voice(self.base)
        return self.voices[key]


@pytest.fixture(scope="session")
def voices() -> Voices:
    return {}


@pytest.fixture
def gallery(pocket: BaseModel, voices: Voices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gallery:
    """Paints no pictures, but keeps who was asked for which; class images are nobody else's."""
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path / "cache"))
    found = Gallery(pocket, [], voices)

    def paint(
        generator: Generator, prompts: Sequence[str], seeds: Sequence[int], progress: Callable[..., None] | None = None
    ) -> Iterator[Image.Image]:
        return found.paint(generator, prompts, seeds, progress)

    monkeypatch.setattr(Generator, "paint", paint)
    return found
