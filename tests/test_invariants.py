"""What a whole small run trained on and judged by, read off what really went into it; and its scores, worked out again.

One run is made with :mod:`tests.recorder` between it and what computes. Its own records (`scores.json`,
`readings.json`, `curve.json`) are held against what was recorded, and against scores computed here from the files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ttest_1samp
from skimage.color import rgb2lab
from torch import Tensor

from portrayal import portray
from portrayal.run import Run, cache_folder
from portrayal.settings import load_config
from tests.recorder import Recording, Row, recording, weights_digest

TINY = Path(__file__).with_name("tiny.toml")
SETTINGS = [
    "base.resolution=64",
    "control.enabled=false",
    "study.ranks=[2]",
    "study.learning_rates=[1]",
    "study.seeds=2",
    "study.keep_readings=true",
    "method.unet.max_train_steps=2",
    "method.lora.max_train_steps=2",
    "training.train_batch_size=6",
    "training.class_batch_size=2",
    "training.checkpointing_steps=0",
]
"""Batches as large as there are photos, so that every photo to train on is met in each step."""


@dataclass
class Recorded:
    """A run, what was recorded of it, and what can be known of it without asking it."""

    run: Run
    recording: Recording
    base: Any

    @cached_property
    def photos(self) -> list[dict[str, Any]]:
        """The photos of the manifest."""
        return list(read(self.run.dataset_folder / "manifest.json")["photos"])

    @cached_property
    def folds(self) -> list[set[str]]:
        """The photos that are held out in each fold."""
        return [{photo["id"] for photo in self.photos if photo["fold"] == fold} for fold in range(2)]

    @cached_property
    def latents(self) -> dict[str, Tensor]:
        """What the VAE makes of each photo and class image: the mean, scaled as the UNet reads it."""
        files = {photo["id"]: self.run.dataset_folder / "images" / f"{photo['id']}.png" for photo in self.photos}
        files |= {f"class {path.parent.name}/{path.stem}": path for path in cache_folder().glob("class-images/*/*.png")}
        same_size = {name: path for name, path in files.items() if load(path).size == (64, 64)}  # not of other runs
        return {name: vae_mean(self.base, path) for name, path in same_size.items()}

    @cached_property
    def prompts(self) -> dict[str, Tensor]:
        """Features of each photo's caption and of the class prompt."""
        texts = {photo["id"]: photo["caption"] for photo in self.photos} | {"class": "a photo of a woman"}
        return {name: self.base.encode_prompts([text])[0].float() for name, text in texts.items()}

    def image_of(self, row: Row) -> str:
        """The photo or class image that a row's latents were made from."""
        return min(self.latents, key=lambda name: float((row.latents - self.latents[name]).square().mean()))

    def trained_on(self, training: str) -> set[str]:
        """The photos among the rows of a training."""
        return {self.image_of(row) for row in self.recording.trained[training]} & {one["id"] for one in self.photos}

    @cached_property
    def trials(self) -> dict[str, tuple[str, int, int]]:
        """Model, fold and seed of each training, by its name as docs/run-folder.md has it."""
        return {
            "unet": ("unet", 0, 0),
            "lora-2": ("lora-2", 0, 0),
            "lora-2.fold-2": ("lora-2", 1, 0),
            "lora-2.seed-2": ("lora-2", 0, 1),
            "lora-2.fold-2.seed-2": ("lora-2", 1, 1),
        }

    @cached_property
    def weights(self) -> dict[str, str]:
        """The training (and the step, where it is a reading) that weights belong to, by their digest."""
        from portrayal.models.saved import tuned

        folders = {name: self.run.model_folder(name) for name in [*self.trials, "final"]}
        folders |= {
            f"{name} step {step}": folders[name] / "readings" / str(step) for name in self.trials for step in (1, 2)
        }
        found = {weights_digest(self.base): "base"}
        for name, folder in folders.items():
            if (folder / "unet").is_dir() or (folder / "pytorch_lora_weights.safetensors").is_file():
                with tuned(self.base, folder):
                    found.setdefault(weights_digest(self.base), name)
        return found

    @cached_property
    def best_steps(self) -> dict[str, int]:
        """The step of each training's weights in use."""
        return {name: read(self.run.model_folder(name) / "method.json")["step"] for name in [*self.trials, "final"]}

    @cached_property
    def scores(self) -> dict[str, Any]:
        """What `scores.json` holds."""
        return read(self.run.folder / "scores.json")

    def model(self, name: str) -> dict[str, Any]:
        """A model's row in the scores."""
        return next(row for row in self.scores["models"] if row["name"] == name)

    @cached_property
    def judge(self) -> Judge:
        """Scores worked out from files."""
        return Judge(self)


def read(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def pixels(path: Path) -> Tensor:
    """Pixels from -1 to 1, shape `(3, H, W)`."""
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 127.5 - 1).permute(2, 0, 1)


@torch.no_grad()
def vae_mean(base: Any, path: Path) -> Tensor:
    """Scaled mean of an image's latent distribution."""
    mean: Tensor = base.vae.encode(pixels(path)[None]).latent_dist.mean[0]
    return mean * base.vae.config.scaling_factor


@pytest.fixture(scope="module")
def recorded(photos: Path, pocket: Any, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run of two folds and two seeds, each photo with a caption of its own."""
    own = tmp_path_factory.mktemp("captioned") / "photos"
    shutil.copytree(photos, own)
    for number, path in enumerate(sorted(own.glob("*.jpg"))):
        path.with_suffix(".txt").write_text(f"a photo of sks woman number {number}")
    with recording() as found:
        run = portray(own, load_config(str(TINY), SETTINGS), tmp_path_factory.mktemp("runs") / "recorded", consent=True)
    return Recorded(run, found, pocket)


# What is trained on -------------------------------------------------------------------------------------------------


def test_all_trainings_of_the_study_were_recorded(recorded: Recorded) -> None:
    assert recorded.recording.trained.keys() == {*recorded.trials, "final"}
    assert all(recorded.folds)
    assert recorded.folds[0] | recorded.folds[1] == {photo["id"] for photo in recorded.photos}


def test_no_training_sees_its_held_out_photos_and_each_sees_all_others(recorded: Recorded) -> None:
    for name, (_, fold, _) in recorded.trials.items():
        assert recorded.trained_on(name) == recorded.folds[1 - fold], name


def test_the_model_for_use_is_trained_on_all_photos(recorded: Recorded) -> None:
    assert recorded.trained_on("final") == recorded.folds[0] | recorded.folds[1]


def test_each_photo_is_trained_with_its_own_caption_and_class_images_with_the_class_prompt(recorded: Recorded) -> None:
    photos = {photo["id"] for photo in recorded.photos}
    for rows in recorded.recording.trained.values():
        for row in rows:
            name = recorded.image_of(row)
            prompt = recorded.prompts[name if name in photos else "class"]
            torch.testing.assert_close(row.prompt.float(), prompt, rtol=0, atol=1e-4)


def test_class_images_ride_along_in_the_number_that_is_set(recorded: Recorded) -> None:
    photos = {photo["id"] for photo in recorded.photos}
    for name, rows in recorded.recording.trained.items():
        kinds = [recorded.image_of(row) in photos for row in rows]
        assert kinds == ([True] * 6 + [False] * 2) * (len(rows) // 8), name
        assert len(rows) == 8 * (recorded.best_steps["final"] if name == "final" else 2)


def test_trainings_of_a_split_meet_the_same_noise_and_those_of_others_meet_other_noise(recorded: Recorded) -> None:
    noise = {name: [row.noise for row in rows] for name, rows in recorded.recording.trained.items()}
    timesteps = {name: [row.timestep for row in rows] for name, rows in recorded.recording.trained.items()}
    assert noise["unet"] == noise["lora-2"]
    assert timesteps["unet"] == timesteps["lora-2"]
    splits = [name for name in recorded.trials if name != "unet"]
    for a, b in combinations(splits, 2):
        assert not set(noise[a]) & set(noise[b]), (a, b)
    for name, row in noise.items():
        assert len(set(row)) == len(row), name


def test_every_training_and_every_reading_has_weights_of_its_own(recorded: Recorded) -> None:
    readings = {f"{name} step {3 - recorded.best_steps[name]}" for name in recorded.trials}
    assert set(recorded.weights.values()) == {"base", "final", *recorded.trials} | readings


# What is judged -----------------------------------------------------------------------------------------------------


def test_held_out_losses_are_of_the_photos_of_the_fold_by_the_weights_of_each_reading(recorded: Recorded) -> None:
    by_weights: dict[str, set[str]] = {}
    for row in recorded.recording.heldout:
        assert row.weights is not None
        by_weights.setdefault(recorded.weights[row.weights], set()).add(recorded.image_of(row))
    assert by_weights.pop("base") == recorded.folds[0] | recorded.folds[1]
    expected = {}
    for name, (_, fold, _) in recorded.trials.items():
        for step in (1, 2):
            expected[name if step == recorded.best_steps[name] else f"{name} step {step}"] = recorded.folds[fold]
    assert by_weights == expected


def test_held_out_losses_read_the_mean_of_the_scaled_latents_with_the_photo_s_caption(recorded: Recorded) -> None:
    for row in recorded.recording.heldout:
        name = recorded.image_of(row)
        torch.testing.assert_close(row.latents, recorded.latents[name], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(row.prompt.float(), recorded.prompts[name], rtol=0, atol=1e-4)


def test_held_out_losses_of_all_models_are_at_the_same_noise_and_timesteps(recorded: Recorded) -> None:
    cells: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for row in recorded.recording.heldout:
        assert row.weights is not None
        by_photo = cells.setdefault(recorded.weights[row.weights], {})
        by_photo.setdefault(recorded.image_of(row), []).append((row.noise, row.timestep))
    for by_photo in cells.values():
        for photo, found in by_photo.items():
            assert found == cells["base"][photo]
            assert len(set(found)) == len(found) == 4  # two strata, two antithetic draws
    of_photo = [{noise for noise, _ in found} for found in cells["base"].values()]
    assert len(set.union(*of_photo)) == sum(map(len, of_photo))  # no photo shares its noise, whatever its fold


def test_no_noise_of_training_is_judged_by(recorded: Recorded) -> None:
    trained = {row.noise for rows in recorded.recording.trained.values() for row in rows}
    assert not trained & {row.noise for row in recorded.recording.heldout}


def test_the_losses_that_are_kept_are_those_that_were_measured(recorded: Recorded) -> None:
    measured: dict[str, dict[str, list[float]]] = {}
    for row in recorded.recording.heldout:
        assert row.weights is not None
        by_photo = measured.setdefault(recorded.weights[row.weights], {})
        by_photo.setdefault(recorded.image_of(row), []).append(row.loss)
    for name in ["base", *recorded.trials]:
        kept = read(recorded.run.model_folder(name) / "heldout.json")["losses"]
        assert kept.keys() == measured[name].keys()
        for photo, losses in kept.items():
            np.testing.assert_allclose(sorted(np.ravel(losses)), sorted(measured[name][photo]), rtol=1e-6)


def place(recorded: Recorded, path: Path) -> tuple[str, ...]:
    """Where an image lies below `images`."""
    return path.relative_to(recorded.run.folder / "images").parts


def test_every_image_is_painted_with_the_weights_of_the_folder_it_lies_in(recorded: Recorded) -> None:
    for image in recorded.recording.painted:
        parts = ("base",) if image.path is None else place(recorded, image.path)
        by = recorded.weights[image.weights]
        match parts:
            case ("steps", name, step, _):
                assert by == (name if int(step) == recorded.best_steps[name] else f"{name} step {step}"), image.path
            case ("class", name, _):
                assert by == name, image.path
            case ("final", *_):
                assert recorded.weights[image.weights] == "final", image.path
            case (name, *_):
                assert by == name, image.path


def test_every_image_shows_its_scene_s_prompt(recorded: Recorded) -> None:
    scenes = recorded.run.config.generation.scenes
    for image in recorded.recording.painted:
        parts = ("class",) if image.path is None else place(recorded, image.path)
        if parts[0] == "class":
            assert image.prompt == "a photo of a woman"
        else:
            scene = parts[3].removesuffix(".png") if parts[0] == "steps" else parts[1]
            assert image.prompt == scenes[scene].replace("{subject}", "sks woman"), image.path


def test_images_to_choose_by_to_judge_by_and_to_train_on_share_no_noise_and_models_share_it(recorded: Recorded) -> None:
    by_purpose: dict[str, set[str]] = {}
    by_cell: dict[tuple[str, ...], set[str]] = {}
    for image in recorded.recording.painted:
        parts = ("class images",) if image.path is None else place(recorded, image.path)
        purpose = parts[0] if parts[0] in ("class images", "class", "steps") else "scenes"
        by_purpose.setdefault(purpose, set()).add(image.start)
        if image.path is not None:
            cell = {"steps": (parts[0], *parts[3:]), "class": (parts[0], *parts[2:])}.get(
                parts[0], ("scenes", *parts[1:])
            )
            by_cell.setdefault(cell, set()).add(image.start)
    # Class images are kept for other runs, so an earlier test may have painted them.
    assert by_purpose.keys() - {"class images"} == {"class", "steps", "scenes"}
    for a, b in combinations(by_purpose.values(), 2):
        assert not a & b
    assert all(len(starts) == 1 for starts in by_cell.values())
    assert len(set.union(*by_cell.values())) == len(by_cell)


def test_a_training_cut_to_a_lower_rank_generates_what_it_did_itself_from_the_same_noise(recorded: Recorded) -> None:
    recommended = recorded.scores["verdict"]["recommended"]
    of_loras = [name for name, (model, *_) in recorded.trials.items() if model == recommended != "unet"]
    assert [*recorded.recording.cut] == of_loras
    for name, cuts in recorded.recording.cut.items():
        own = [
            image
            for image in recorded.recording.painted
            if image.path is not None and name in place(recorded, image.path)[:2] and "steps" not in image.path.parts
        ]
        assert len(cuts) == 1, "half of rank 2"
        for cut in cuts:
            assert [(one.prompt, one.seed, one.start) for one in cut] == [(o.prompt, o.seed, o.start) for o in own]
            assert all(one.weights not in recorded.weights for one in cut)
            assert len({one.weights for one in cut}) == 1


def test_the_images_on_the_disk_are_those_that_were_painted(recorded: Recorded) -> None:
    kept = [image for image in recorded.recording.painted if image.path is not None and image.path.is_file()]
    assert (
        len(kept) == len({image.path for image in kept}) == len(list((recorded.run.folder / "images").rglob("*.png")))
    )
    for image in kept:
        assert image.path is not None
        with Image.open(image.path) as opened:
            np.testing.assert_array_equal(np.asarray(opened), np.asarray(image.image))


# Scores, worked out again -------------------------------------------------------------------------------------------


class Judge:
    """Scores from the files of a run by plain arithmetic: the encoders are the run's, all else is written anew here."""

    def __init__(self, recorded: Recorded) -> None:
        from portrayal.models.encoders import load_encoders

        self.recorded = recorded
        self.encoders = load_encoders(recorded.base.source, recorded.base.device)

    def embed(self, images: Sequence[Image.Image], kind: str = "identity") -> np.ndarray[Any, Any]:
        """Unit embeddings of images."""
        found = np.asarray(getattr(self.encoders, kind).images(list(images)), np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def photos(self, names: set[str], kind: str = "identity") -> np.ndarray[Any, Any]:
        """Unit embeddings of photos."""
        folder = self.recorded.run.dataset_folder / "images"
        return self.embed([load(folder / f"{name}.png") for name in sorted(names)], kind)

    def scenes(self, name: str) -> list[list[Image.Image]]:
        """A training's images, scene by scene."""
        folder = self.recorded.run.folder / "images" / name
        return [[load(folder / scene / f"{number}.png") for number in range(2)] for scene in ("street", "forest")]

    def of_class(self, name: str) -> list[Image.Image]:
        """A training's images of the class."""
        folder = self.recorded.run.folder / "images" / "class" / name
        return [load(folder / f"{number}.png") for number in range(2)]

    def likeness(self, images: Sequence[Image.Image], fold: int) -> float:
        """Mean cosine to the photos of a fold."""
        return float((self.embed(images) @ self.photos(self.recorded.folds[fold]).T).mean())

    def over_splits(self, model: str, measure: Any) -> float:
        """Mean over a model's trainings; the base stands in every split."""
        found = []
        for name, (of, fold, _) in self.recorded.trials.items():
            if of == model or (model == "base" and of != "unet"):
                found.append(measure("base" if model == "base" else name, fold))
        return float(np.mean(found))


def load(path: Path) -> Image.Image:
    """Read an image."""
    with Image.open(path) as image:
        return image.convert("RGB")


MODELS = ("base", "unet", "lora-2")


@pytest.mark.parametrize("model", MODELS)
def test_likeness_is_to_the_photos_that_each_training_never_saw(recorded: Recorded, model: str) -> None:
    judge = recorded.judge

    def measure(name: str, fold: int) -> float:
        return judge.likeness([image for row in judge.scenes(name) for image in row], fold)

    assert recorded.model(model)["identity"]["mean"] == pytest.approx(judge.over_splits(model, measure), abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_drift_is_read_off_images_of_the_class(recorded: Recorded, model: str) -> None:
    judge = recorded.judge

    def measure(name: str, fold: int) -> float:
        return judge.likeness(judge.of_class(name), fold)

    assert recorded.model(model)["drift"]["mean"] == pytest.approx(judge.over_splits(model, measure), abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_each_image_is_held_to_the_prompt_of_its_own_scene(recorded: Recorded, model: str) -> None:
    judge = recorded.judge
    assert judge.encoders.prompt is not None
    assert judge.encoders.prompt.texts is not None
    texts = judge.encoders.prompt.texts(["a photo of a woman on the street", "a photo of a woman in the forest"])
    units = texts / np.linalg.norm(texts, axis=1, keepdims=True)

    def measure(name: str, _: int) -> float:
        rows = zip(judge.scenes(name), units, strict=True)
        return float(np.mean([judge.embed(images, "prompt") @ text for images, text in rows]))

    assert recorded.model(model)["prompt"]["mean"] == pytest.approx(judge.over_splits(model, measure), abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_lightness_and_diversity_are_of_the_model_s_own_images(recorded: Recorded, model: str) -> None:
    judge = recorded.judge

    def lightness(name: str, _: int) -> float:
        return float(
            np.mean([rgb2lab(np.asarray(image))[..., 0].mean() for row in judge.scenes(name) for image in row])
        )

    def diversity(name: str, _: int) -> float:
        pairs = [judge.embed(row, "prompt") for row in judge.scenes(name)]
        return float(np.mean([1 - pair[0] @ pair[1] for pair in pairs]))

    row = recorded.model(model)
    photos = [recorded.run.dataset_folder / "images" / f"{photo['id']}.png" for photo in recorded.photos]
    of_photos = float(np.mean([rgb2lab(np.asarray(load(path)))[..., 0].mean() for path in photos]))
    expected = judge.over_splits(model, lightness)
    assert row["colour"]["lightness"]["mean"] == pytest.approx(expected, abs=0.05)
    assert row["colour"]["lightness_difference"] == pytest.approx(expected - of_photos, abs=0.1)
    assert row["diversity"]["mean"] == pytest.approx(judge.over_splits(model, diversity), abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_copying_compares_photos_that_were_trained_on_with_those_held_out(recorded: Recorded, model: str) -> None:
    judge = recorded.judge

    def measure(name: str, fold: int) -> float:
        images = judge.embed([image for row in judge.scenes(name) for image in row], "prompt")
        near = [images @ judge.photos(recorded.folds[which], "prompt").T for which in (1 - fold, fold)]
        size = min(part.shape[1] for part in near)
        largest = [
            np.mean([part[:, chosen].max(axis=1) for chosen in map(list, combinations(range(part.shape[1]), size))])
            for part in near
        ]
        return float(largest[0] - largest[1])  # fmt: skip

    assert recorded.model(model)["copying"]["mean"] == pytest.approx(judge.over_splits(model, measure), abs=1e-5)


def test_real_photos_are_compared_with_others_and_strangers_with_all(recorded: Recorded) -> None:
    judge, levels = recorded.judge, recorded.scores["levels"]
    parts = [judge.photos(fold) for fold in recorded.folds]
    real = np.concatenate([(parts[0] @ parts[1].T).mean(axis=1), (parts[1] @ parts[0].T).mean(axis=1)]).mean()
    keys = {name.split("/")[0] for name in map(recorded.image_of, recorded.recording.trained["unet"]) if "/" in name}
    assert len(keys) == 1
    folder = cache_folder() / "class-images" / keys.pop().removeprefix("class ")
    strangers = judge.embed([load(folder / f"{number}.png") for number in range(4)])
    stranger = (strangers @ np.concatenate(parts).T).mean()
    assert levels["identity_real"]["mean"] == pytest.approx(real, abs=1e-5)
    assert levels["identity_stranger"]["mean"] == pytest.approx(stranger, abs=1e-5)
    for model in MODELS:
        row = recorded.model(model)
        share = (row["identity"]["mean"] - stranger) / (real - stranger)
        assert row["identity_normalised"] == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_the_gain_is_how_much_lower_the_held_out_loss_is_than_the_base_s(recorded: Recorded, model: str) -> None:
    base = read(recorded.run.model_folder("base") / "heldout.json")["losses"]

    def ratio(name: str, fold: int) -> float:
        losses = read(recorded.run.model_folder(name) / "heldout.json")["losses"]
        # Noise draws are averaged before the logarithm, timesteps after it.
        rows = [np.log(np.mean(losses[photo], axis=1) / np.mean(base[photo], axis=1)) for photo in recorded.folds[fold]]
        return float(np.mean(rows))

    gain = 1 - np.exp(recorded.judge.over_splits(model, ratio))
    assert recorded.model(model)["heldout_gain"]["mean"] == pytest.approx(gain, abs=1e-6)


def test_readings_are_the_likeness_of_each_step_s_images_to_the_training_s_own_held_out_photos(
    recorded: Recorded,
) -> None:
    judge = recorded.judge
    painted: dict[tuple[str, str], list[Image.Image]] = {}
    for image in recorded.recording.painted:
        if image.path is not None and place(recorded, image.path)[0] == "steps":
            _, name, step, _ = place(recorded, image.path)
            painted.setdefault((name, step), []).append(image.image)
    assert painted.keys() == {(name, step) for name in recorded.trials for step in ("1", "2")}
    for (name, step), images in painted.items():
        kept = read(recorded.run.model_folder(name) / "readings.json")[step]
        _, fold, _ = recorded.trials[name]
        assert kept["identity"] == pytest.approx(judge.likeness(images, fold), abs=1e-5)
        assert set(kept["photos"]) == recorded.folds[fold]


@pytest.mark.parametrize("model", ["unet", "lora-2"])
def test_the_curve_and_the_best_step_follow_from_the_readings_of_all_trainings(recorded: Recorded, model: str) -> None:
    names = [name for name, (of, _, _) in recorded.trials.items() if of == model]
    readings = [read(recorded.run.model_folder(name) / "readings.json") for name in names]
    means = {step: np.mean([reading[str(step)]["identity"] for reading in readings]) for step in (1, 2)}
    curve = read(recorded.run.model_folder(model) / "curve.json")
    assert curve["identity"][0] is None
    assert [curve["identity"][step]["mean"] for step in (1, 2)] == pytest.approx([means[1], means[2]], abs=1e-6)
    best = curve["best_step"]
    if means[1] - means[2] <= recorded.run.config.evaluation.margin_identity:
        assert best == 2
    elif len(readings) > 1:
        leads = [reading["1"]["identity"] - reading["2"]["identity"] for reading in readings]
        assert best == (1 if ttest_1samp(leads, 0, alternative="greater").pvalue < 0.05 / 2 else 2)
    assert best == recorded.model(model)["step"]
    assert {recorded.best_steps[name] for name in names} == {best}


def test_the_model_for_use_has_the_method_and_the_step_of_the_recommended_one(recorded: Recorded) -> None:
    recommended = recorded.model(recorded.scores["verdict"]["recommended"])
    method = read(recorded.run.model_folder("final") / "method.json")
    assert (method["kind"], method["rank"], method["step"]) == (
        recommended["kind"],
        recommended["rank"],
        recommended["step"],
    )
    assert len(recorded.recording.trained["final"]) == 8 * recommended["step"]


# What a run says of itself ------------------------------------------------------------------------------------------


def test_every_statement_on_validity_is_checked_and_kept_with_the_scores(recorded: Recorded) -> None:
    checks = recorded.scores["checks"]
    assert len(checks) == 9
    assert all(check["holds"] and check["cases"] > 0 and not check["violations"] for check in checks)


def test_what_a_run_says_it_trained_on_is_what_it_trained_on(recorded: Recorded) -> None:
    for name in [*recorded.trials, "final"]:
        assert set(read(recorded.run.model_folder(name) / "method.json")["photos"]) == recorded.trained_on(name)


def test_the_report_names_every_statement_that_was_checked(recorded: Recorded) -> None:
    page = (recorded.run.folder / "report.html").read_text(encoding="utf-8")
    assert all(check["statement"] in page for check in recorded.scores["checks"])
