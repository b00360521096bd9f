"""Class images are kept under the name of everything they depend on, and trained on as what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from portrayal.config import BaseConfig, Config, GenerationConfig
from portrayal.generation.generator import Generator
from portrayal.models.base import BaseModel
from portrayal.run import Run, write_json
from portrayal.stages import data
from portrayal.stages.data import encoded_class_images, painted_class_images, training_data
from portrayal.stages.shared import silent
from tests.stages.conftest import SIDE, Gallery

Change = Callable[[Config], Config]


def changed(section: str, **values: object) -> Change:
    """Other settings of a section."""
    return lambda config: config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


MATTER: dict[str, Change] = {
    "subject.class_noun": changed("subject", class_noun="man"),
    "subject.class_prompt": changed("subject", class_prompt="a portrait of a {noun}"),
    "base.resolution": changed("base", resolution=2 * SIDE),
    "base.config": changed("base", config="elsewhere"),
    "training.mixed_precision": changed("training", mixed_precision="bf16"),
    "generation.num_inference_steps": changed("generation", num_inference_steps=3),
    "generation.sampler": changed("generation", sampler="DDIM"),
    "generation.guidance_scale": changed("generation", guidance_scale=7.0),
    "generation.negative_prompt": changed("generation", negative_prompt="blurry"),
    "generation.batch_size": changed("generation", batch_size=3),
}
"""Settings by which class images differ. Of the base the weights are hashed, and the noise schedule is read."""

OTHERS: dict[str, Change] = {
    "seed": lambda config: config.model_copy(update={"seed": 8}),
    "subject.instance_token": changed("subject", instance_token="qrx"),
    "subject.instance_prompt": changed("subject", instance_prompt="{token}"),
    "training.num_class_images": changed("training", num_class_images=9),
    "training.prior_loss_weight": changed("training", prior_loss_weight=0.2),
    "generation.scenes": changed("generation", scenes={"a": "{subject}"}),
    "generation.num_images_per_scene": changed("generation", num_images_per_scene=9),
    "generation.width": changed("generation", width=2 * SIDE),
    "generation.height": changed("generation", height=2 * SIDE),
    "generation.hires_scale": changed("generation", hires_scale=2.0),
    "generation.hires_strength": changed("generation", hires_strength=0.9),
    "generation.lora_strength": changed("generation", lora_strength=0.1),
    "control.num_images": changed("control", num_images=9),
}
"""Settings of pictures that are painted later, which class images do not depend on."""


@pytest.fixture
def kept(run: Run, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """The folder in which class images of changed settings are kept, once they are painted."""

    def key_of(change: Change = lambda config: config, base: BaseModel = gallery.base) -> str:
        config = change(run.config)
        loaded = Generator(base, config.generation, (), config.base.resolution)  # of one base, whatever its precision
        monkeypatch.setattr(data, "generator_of", lambda _: loaded)
        before = folders()
        painted_class_images(replace(run, config=config), 2, silent)
        (new,) = folders() - before or {""}
        return new

    def folders() -> set[str]:
        return {path.name for path in (tmp_path / "cache" / "class-images").glob("*")}

    return key_of


def test_every_setting_of_painting_matters_or_does_not() -> None:
    """A new one has to be put into one of the two tables, and so into the name or not."""
    named = {name.split(".")[1] for name in (*MATTER, *OTHERS) if name.startswith("generation.")}
    assert named == set(GenerationConfig.model_fields)
    ours = {"resolution", "config"}
    in_the_hash = {"name", "revision", "vae"}
    in_the_schedule = {"prediction_type"}
    assert ours | in_the_hash | in_the_schedule == set(BaseConfig.model_fields)


@pytest.mark.parametrize("setting", MATTER)
def test_pictures_that_differ_are_kept_apart(kept: Callable[..., str], setting: str) -> None:
    first = kept()
    assert kept() == ""  # they are there
    assert kept(MATTER[setting]) not in ("", first)


def test_settings_of_other_pictures_paint_none_anew(kept: Callable[..., str], gallery: Gallery) -> None:
    kept()
    for setting, change in OTHERS.items():
        assert kept(change) == "", setting
    assert len(gallery.paintings) == 1


def test_another_base_has_other_class_images(kept: Callable[..., str], run: Run) -> None:
    first = kept()
    write_json(run.folder / "run.json", run.provenance | {"base": run.provenance["base"] | {"sha256": "f" * 64}})
    assert kept() not in ("", first)


@pytest.mark.parametrize("change", [{"prediction_type": "v_prediction"}, {"beta_end": 0.02}])
def test_another_noise_schedule_has_other_class_images(
    kept: Callable[..., str], pocket: BaseModel, change: dict[str, Any]
) -> None:
    """It is no weight, so the weights' hash does not tell of it."""
    scheduler = type(pocket.noise_scheduler).from_config(pocket.noise_scheduler.config, **change)
    first = kept()
    assert kept(base=replace(pocket, noise_scheduler=scheduler)) not in ("", first)


def test_class_images_are_painted_by_the_base_of_the_class_at_the_training_resolution(
    run: Run, gallery: Gallery
) -> None:
    """Whatever pictures are to be painted later."""
    later = changed("generation", width=64, height=48, hires_scale=2.0, hires_strength=0.9)
    run = replace(run, config=later(run.config))

    images = painted_class_images(run, 3, silent)

    assert [image.size for image in images] == [(SIDE, SIDE)] * 3
    (painting,) = gallery.paintings
    assert painting.prompts == ["a photo of a woman"] * 4  # whole batches of two
    assert torch.allclose(painting.voice, gallery.expected(run, "base", 1.0), atol=1e-5)
    settings = painting.generator.settings
    wanted = ("num_inference_steps", "sampler", "guidance_scale", "negative_prompt", "batch_size")
    assert all(getattr(settings, name) == getattr(run.config.generation, name) for name in wanted)
    assert painting.generator.controls == ()


def test_two_prompts_give_two_sets_of_real_pictures(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Painted, not recorded: the first again comes back as it was."""
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path / "cache"))
    other = replace(run, config=changed("subject", class_noun="man")(run.config))

    first, second, again = (
        [image.tobytes() for image in painted_class_images(one, 2, silent)] for one in (run, other, run)
    )

    assert first == again
    assert not set(first) & set(second)
    assert len(set(first)) == 2


def test_class_images_are_captioned_as_the_class(run: Run, pocket: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    asked: list[int] = []

    def painted(_: Run, count: int, *__: object) -> list[Image.Image]:
        asked.append(count)
        return images

    monkeypatch.setattr(data, "painted_class_images", painted)

    found = encoded_class_images(run, (SIDE, SIDE), silent)

    assert asked == [run.config.training.num_class_images]
    assert found.ids == ("class-0", "class-1")
    expected = pocket.encode_prompts(["a photo of a woman"])[0]
    assert torch.allclose(found.prompt_embeds, expected.expand(2, -1, -1), atol=1e-5)
    assert torch.equal(found.input_ids, pocket.input_ids(["a photo of a woman"]).expand(2, -1))
    assert not torch.allclose(found.mean[0], found.mean[1])


def test_photos_of_a_fold_are_trained_on_with_their_own_captions(
    run: Run, pocket: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their ids; beside them the class images."""
    images = [Image.new("RGB", (SIDE, SIDE), "red")]
    monkeypatch.setattr(data, "painted_class_images", lambda *_: images)
    for fold, expected in ((None, {0, 1, 2, 3, 4, 5, 6}), (0, {1, 2, 4, 5, 6}), (1, {0, 1, 3, 4, 5, 6})):
        found = training_data(run, fold, silent)
        (photos,) = found.photos
        assert {int(name, 16) for name in photos.ids} == expected
        for row, name in enumerate(photos.ids):
            caption = pocket.encode_prompts([f"sks woman {int(name, 16)}"])[0]
            assert torch.allclose(photos.prompt_embeds[row], caption, atol=1e-5)
        assert found.class_images is not None
        assert found.class_images[0].ids == ("class-0",)
