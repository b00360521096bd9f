"""Each picture is painted by the model, at the seed, with the prompt and the settings that its name and file say."""

from __future__ import annotations

import json
from itertools import chain, product
from pathlib import Path

import pytest
import torch
from PIL import Image

import portrayal
from portrayal.config import GenerationConfig
from portrayal.formats.png import read_settings
from portrayal.generation.pictures import scene_seed
from portrayal.models.lora_files import LoraFile
from portrayal.models.methods import LORA_FILE
from portrayal.randomness import derived_seed
from portrayal.run import Run
from portrayal.stages.control import generate_controlled, reference_picture
from portrayal.stages.data import painted_class_images
from portrayal.stages.generate import class_pictures, scene_pictures
from portrayal.stages.shared import silent
from portrayal.stages.steps import sample_pictures
from tests.stages.conftest import SCENES, SIDE, Gallery

PAINTERS = ["base", "unet", "lora-2", "lora-4", "lora-2.fold-2", "lora-4.fold-2"]


@pytest.fixture
def outline(tmp_path: Path) -> Path:
    """A picture with an edge."""
    image = Image.new("RGB", (64, 64), "white")
    image.paste("black", (10, 0, 30, 64))
    image.save(tmp_path / "outline.png")
    return tmp_path / "outline.png"


def test_all_models_differ(run: Run, gallery: Gallery) -> None:
    """Else the tests below would see nothing."""
    voices = [gallery.expected(run, name, 1.0) for name in (*PAINTERS, "final")]
    for one, other in product(range(len(voices)), repeat=2):
        assert torch.allclose(voices[one], voices[other], atol=1e-3) == (one == other)


def test_scenes_are_painted_by_their_models_at_shared_seeds(run: Run, gallery: Gallery) -> None:
    portrayal.generate(run)

    seeds = {}
    for name in PAINTERS:
        for scene, number in product(SCENES, range(3)):
            told = gallery.check(run, run.image_path(name, scene, number), name)
            assert told["prompt"] == SCENES[scene].replace("{subject}", "sks woman")
            assert seeds.setdefault((scene, number), told["seed"]) == told["seed"]
        for number in range(3):
            told = gallery.check(run, run.folder / "images" / "class" / name / f"{number}.png", name)
            assert told["prompt"] == "a photo of a woman"
            assert "sks" not in told["prompt"]
            assert seeds.setdefault(("of the class", number), told["seed"]) == told["seed"]
    assert len(set(seeds.values())) == len(seeds) == 9
    assert sorted(path.name for path in (run.folder / "images").iterdir()) == sorted([*PAINTERS, "class"])


def test_only_the_models_asked_for_paint(run: Run, gallery: Gallery) -> None:
    portrayal.generate(run, ["lora-4"])

    assert sorted(path.name for path in (run.folder / "images").iterdir()) == ["class", "lora-4", "lora-4.fold-2"]
    gallery.check(run, run.image_path("lora-4.fold-2", "forest", 1), "lora-4.fold-2")


def test_prompts_are_painted_by_every_model_asked_for_at_rising_seeds(run: Run, gallery: Gallery) -> None:
    prompts = ["{subject} (dancing:1.2)", "a dog"]

    paths = portrayal.paint(run, prompts, ["lora-2", "unet", "base"], count=2, seed=5)

    expected = list(product(["lora-2", "unet", "base"], [("sks woman (dancing:1.2)"), "a dog"], [5, 6]))
    assert [str(path.relative_to(run.folder / "pictures")) for path in paths] == [
        f"{name}/{number:04d}.png" for name in ("lora-2", "unet", "base") for number in range(4)
    ]
    for path, (name, prompt, seed) in zip(paths, expected, strict=True):
        told = gallery.check(run, path, name)
        assert (told["prompt"], told["seed"]) == (prompt, seed)
    assert read_settings(paths[4])["unet_hash"]  # type: ignore[index]
    (again,) = portrayal.paint(run, prompts[:1], ["unet"], count=1)
    assert again.name == "0004.png"


def test_without_a_model_the_final_one_paints_else_the_best_lora(run: Run, gallery: Gallery) -> None:
    (path,) = portrayal.paint(run, ["a dog"], count=1)
    gallery.check(run, path, "final")
    (run.model_folder("final") / "method.json").unlink()
    (path,) = portrayal.paint(run, ["a dog"], count=1)
    gallery.check(run, path, "lora-4")


@pytest.mark.parametrize("model", ["base", "unet", "lora-2"])
def test_lora_files_count_at_their_strengths_on_top_of_a_model(run: Run, gallery: Gallery, model: str) -> None:
    """And the model's own at its: each is told, in the order in which it was given."""
    files = [run.model_folder(name) / LORA_FILE for name in ("lora-4", "lora-2.fold-2")]
    given = [f"{files[0]}:-0.3", str(files[1])]

    (path,) = portrayal.paint(run, ["a dog"], [model], count=1, loras=given, overrides=["generation.lora_strength=0.5"])

    told = gallery.check(run, path, model, loras=[LoraFile(files[0], -0.3), LoraFile(files[1], 1.0)])
    assert [one["hash"] for one in told["loras"] if not one["own"]] == [LoraFile(file).hash for file in files]
    assert told["lora_strength"] == 0.5


def test_controls_are_kept_to_as_strongly_and_as_long_as_asked(run: Run, gallery: Gallery, outline: Path) -> None:
    """What is not said of one is as the settings say."""
    settings = ["control.controlnet_conditioning_scale=1.5", "control.control_guidance_start=0.2"]

    (path,) = portrayal.paint(
        run,
        ["a dog"],
        ["base"],
        count=1,
        controls=[outline] * 3,
        control_kinds=["canny:0.8:0.1-0.6", "canny:0.4", "canny"],
        overrides=[*settings, "control.control_guidance_end=0.9"],
    )

    told = gallery.check(run, path, "base")
    assert [(one["scale"], one["start"], one["end"]) for one in told["controls"]] == [
        (0.8, 0.1, 0.6),
        (0.4, 0.2, 0.9),
        (1.5, 0.2, 0.9),
    ]
    (control, *_) = gallery.paintings[-1].generator.controls
    assert control.image.size == (SIDE, SIDE)
    assert control.image.convert("L").getextrema() == (0, 255)


def test_controlled_pictures_are_of_their_models_strengths_and_shared_seeds(
    run: Run, gallery: Gallery, outline: Path
) -> None:
    """The base paints anybody of the class; who knows the person paints the person."""
    changed = Run(run.folder, run.config.model_copy(update={"control": with_reference(run, outline)}))

    generate_controlled(changed)

    seeds, images = {}, set()
    for name, scale, number in product(["base", "unet", "lora-4"], [0.0, 0.5, 1.0], range(2)):
        folder = f"canny/{name}/{scale:g}" if scale else f"without/{name}"
        told = gallery.check(changed, run.folder / "images" / "control" / folder / f"{number}.png", name)
        assert told["prompt"] == ("a woman waves" if name == "base" else "sks woman waves")
        assert [one["scale"] for one in told["controls"]] == [scale] * bool(scale)
        assert seeds.setdefault(number, told["seed"]) == told["seed"]
        images |= {one["image"] for one in told["controls"]}
    assert len(set(seeds.values())) == 2
    assert len(images) == 1
    assert len(list((run.folder / "images" / "control").rglob("*/[01].png"))) == 18


def with_reference(run: Run, outline: Path) -> object:
    return run.config.control.model_copy(update={"reference": outline})


# Like another picture ---------------------------------------------------------------------------------------------


def test_a_picture_like_another_is_painted_with_all_that_it_tells(run: Run, gallery: Gallery, outline: Path) -> None:
    """Whatever the run's own settings are; what is asked besides takes its place, and nothing else."""
    lora = run.model_folder("lora-4") / LORA_FILE
    settings = {
        "num_inference_steps": 3,
        "sampler": "DDIM",
        "width": 40,
        "height": 48,
        "hires_scale": 1.5,
        "hires_strength": 0.3,
        "lora_strength": -0.5,
        "guidance_scale": 2.25,
        "negative_prompt": 'a "hat"',
    }
    overrides = [f"generation.{key}={json.dumps(value)}" for key, value in settings.items()]
    (path,) = portrayal.paint(
        run, ["a (dog:1.1)"], ["lora-2"], count=1, seed=7, controls=[outline] * 2, overrides=overrides,
        control_kinds=["canny:0.8:0.1-0.6", "canny:0.25"], loras=[f"{lora}:0.3"],
    )  # fmt: skip
    first = gallery.check(run, path, "lora-2", loras=[LoraFile(lora, 0.3)])
    assert {key: first[key] for key in settings} == settings

    again = portrayal.paint_like(path, count=2)
    other = portrayal.paint_like(
        path, seed=0, prompts=["a cat"], models=["base"], overrides=["generation.guidance_scale=1.5"]
    )

    for number, one in enumerate(again):
        told = gallery.check(run, one, "lora-2", loras=[LoraFile(lora, 0.3)])
        assert told == first | {"seed": 7 + number}
    told = gallery.check(run, other[0], "base", loras=[LoraFile(lora, 0.3)])
    changed = {"seed": 0, "prompt": "a cat", "guidance_scale": 1.5, "model": "base"}
    assert told == first | changed | {"loras": [one for one in first["loras"] if not one["own"]]}


@pytest.mark.parametrize("given", [{"base": "pocket"}, {"out": Path("elsewhere")}])
def test_what_would_do_nothing_beside_a_run_is_refused(run: Run, gallery: Gallery, given: dict[str, object]) -> None:
    (path,) = portrayal.paint(run, ["a dog"], ["base"], count=1)
    with pytest.raises(portrayal.PortrayalError, match="base of the run"):
        portrayal.paint_like(path, **given)  # type: ignore[arg-type]
    assert len(gallery.paintings) == 1


# Seeds -----------------------------------------------------------------------------------------------------------

HOSTILE = ["street", "class", "class_drift", "control", "reference", "steps", "images", "scene", "train", "street2"]
"""Names of scenes: words for other pictures among them."""


@pytest.mark.parametrize("seed", [0, 3])
def test_no_two_kinds_of_pictures_share_a_seed(run: Run, gallery: Gallery, outline: Path, seed: int) -> None:
    """Whatever the scenes are called: what is chosen, judged and trained on begins from other noise."""
    generation = run.config.generation.model_copy(update={"scenes": dict.fromkeys(HOSTILE, "{subject}")})
    changes = {"generation": generation, "seed": seed, "control": with_reference(run, outline)}
    other = Run(run.folder, run.config.model_copy(update=changes))
    unread = Run(run.folder, run.config.model_copy(update=changes | {"control": run.config.control}))
    found: dict[str, list[int]] = {
        "scenes": [picture.seed for picture in scene_pictures(other, "lora-2")],
        "class": [picture.seed for picture in class_pictures(other, "lora-2")],
        "steps": [picture.seed for picture in sample_pictures(other, run.folder)],
    }
    generate_controlled(other)
    found["control"] = sorted(set(chain.from_iterable(one.seeds for one in gallery.paintings)))
    gallery.paintings.clear()
    (run.folder / "images" / "control" / "reference.png").unlink()
    reference_picture(unread)
    found["reference"] = gallery.paintings.pop().seeds
    painted_class_images(other, 6, silent)
    found["class images"] = gallery.paintings.pop().seeds
    stages = [
        "train.noise",
        "train.latents",
        "train.dropout",
        "train.order.photos",
        "train.caption_dropout",
        "lora.init",
    ]
    found["training"] = [derived_seed(seed, stage, 0, step) for stage in stages for step in range(100)]
    found["held out"] = [derived_seed(seed, stage, 0, step) for stage in ("heldout.noise",) for step in range(100)]

    assert {kind: len(seeds) for kind, seeds in found.items()} == {
        "scenes": 30, "class": 3, "steps": 10, "control": 2, "reference": 1, "class images": 6, "training": 600,
        "held out": 100,
    }  # fmt: skip
    everything = list(chain.from_iterable(found.values()))
    assert len(set(everything)) == len(everything)
    assert all(0 <= number < 2**32 for kind in ("scenes", "class", "steps", "control") for number in found[kind])


def test_a_scene_s_seeds_are_its_own_and_frozen() -> None:
    """Pictures of earlier runs can be painted again."""
    assert scene_seed(0, "street", 0) == derived_seed(0, "images.street", step=0) % 2**32
    cells = list(product([0, 1], HOSTILE, range(5)))
    assert len({scene_seed(*cell) for cell in cells}) == len(cells)


def test_the_settings_of_this_run_are_none_of_the_defaults(run: Run) -> None:
    """Else a setting that is ignored would not be seen."""
    plain, own = GenerationConfig().model_dump(), run.config.generation.model_dump()
    same = {key for key, value in own.items() if plain[key] == value}
    assert same == {"width", "height", "hires_scale", "hires_strength"}
