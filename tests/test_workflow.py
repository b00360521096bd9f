"""The whole job, small: everything is made, nothing is made twice, and a run that was killed is the run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import portrayal
from portrayal.config import Config
from portrayal.data.manifest import load_dataset
from portrayal.errors import MachineError, PhotosError, PortrayalError, RunConflictError, UsageError
from portrayal.formats.png import read_settings
from portrayal.generation.skeleton import draw_skeleton
from portrayal.models.saved import tuned
from portrayal.planning import settle
from portrayal.pocket import WEIGHTS
from portrayal.run import Event, Run
from portrayal.stages import steps
from portrayal.stages.data import heldout_data, training_data
from portrayal.stages.shared import base_ahead, settled_by, shared_base, silent
from portrayal.stages.train import together
from portrayal.stages.validity import check_final, photos_of
from portrayal.workflow import finish

Hashes = Callable[..., dict[str, str]]
MODELS = ("unet", "lora-2", "lora-4")


@pytest.fixture
def copy(tiny_run: Run, tmp_path: Path) -> Run:
    """The shared run, copied: a test may change it."""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_run.folder, folder)
    return Run.open(folder)


def test_the_base_is_loaded_while_something_else_is_done(tiny_run: Run) -> None:
    shared_base.cache_clear()
    config = settle(tiny_run.config).config
    with base_ahead(config):
        pass
    loaded = shared_base.cache_info().misses
    assert shared_base(settled_by(tiny_run.config)).source.name == "pocket"
    assert (loaded, shared_base.cache_info().misses) == (1, 1)


def test_a_base_that_cannot_be_loaded_is_told_by_who_needs_it(tiny_run: Run) -> None:
    shared_base.cache_clear()
    nowhere = tiny_run.config.base.model_copy(update={"name": "/nowhere/base.safetensors"})
    with base_ahead(tiny_run.config.model_copy(update={"base": nowhere})):
        pass
    assert shared_base.cache_info().currsize == 0


def test_everything_is_there(tiny_run: Run) -> None:
    folder = tiny_run.folder
    for name in ("run.json", "config.toml", "events.jsonl", "scores.json", "cuts.json", "report.html", "report.md"):
        assert (folder / name).stat().st_size > 0, name
    for name in MODELS:
        assert (folder / "models" / name / "README.md").is_file()
        assert len((folder / "models" / name / "training.jsonl").read_text().splitlines()) == 3
    assert (folder / "models" / "unet" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    for name in MODELS[1:]:
        assert (folder / "models" / name / "pytorch_lora_weights.safetensors").is_file()
        assert (folder / "models" / name / f"{name}.kohya.safetensors").is_file()
    for name in ("base", *MODELS, "lora-2.fold-2", "lora-4.fold-2"):
        assert len(list((folder / "images" / name).rglob("*.png"))) == 4
        assert len(list((folder / "images" / "class" / name).glob("*.png"))) == 2
        assert (folder / "models" / name / "heldout.json").is_file()
    assert not (folder / "models" / "unet.fold-2").exists()
    assert not list((folder / "models").rglob("steps"))
    assert (folder / "images" / "control" / "canny" / "control.png").is_file()


def test_nothing_half_made_is_left(tiny_run: Run) -> None:
    left = [path for path in tiny_run.folder.rglob("*") if path.name.startswith(".") or path.name.endswith(".tmp")]
    assert left == []


def test_the_scores_name_every_model_and_a_verdict(tiny_run: Run) -> None:
    scores = json.loads((tiny_run.folder / "scores.json").read_text())
    assert [model["name"] for model in scores["models"]] == ["base", *MODELS]
    base = scores["models"][0]
    assert base["heldout_gain"]["mean"] == 0
    assert scores["verdict"]["best_lora"] in MODELS
    assert scores["verdict"]["sentence"]
    models = ["base", "unet", scores["verdict"]["best_lora"]]
    assert [row["model"] for row in scores["control"] if row["kind"] == "canny"] == models


def test_one_photo_s_story_can_be_searched(tiny_run: Run) -> None:
    ids = tiny_run.provenance["photos"]
    assert len(ids) == 6
    manifest = json.loads((tiny_run.folder / "dataset" / "manifest.json").read_text())
    assert sorted(photo["id"] for photo in manifest["photos"]) == ids
    folds = [sorted(photo["id"] for photo in manifest["photos"] if photo["fold"] == fold) for fold in range(2)]
    scores = json.loads((tiny_run.folder / "scores.json").read_text())
    assert [sorted(fold) for fold in scores["study"]["folds"]] == folds
    assert sorted(folds[0] + folds[1]) == ids


def test_each_training_is_judged_by_the_photos_it_never_saw(tiny_run: Run) -> None:
    dataset = load_dataset(tiny_run.dataset_folder)
    for fold in range(2):
        name = "lora-2" + (".fold-2" if fold else "")
        judged = json.loads((tiny_run.folder / "models" / name / "heldout.json").read_text())["losses"]
        assert judged.keys() == {photo.id for photo in dataset.heldout(fold)}
        assert not judged.keys() & {photo.id for photo in dataset.training(fold)}


def test_the_best_step_of_each_model_is_kept_and_the_pictures_of_its_steps(tiny_run: Run) -> None:
    scores = json.loads((tiny_run.folder / "scores.json").read_text())
    for row in scores["models"][1:]:
        curve = row["curve"]
        assert curve["steps"] == [0, 2, 3]
        assert row["step"] == curve["best_step"]
        assert curve["best_step"] in curve["steps"][1:]
        for name in [one for one in tiny_run.config.trials if one.split(".")[0] == row["name"]]:
            method = json.loads((tiny_run.folder / "models" / name / "method.json").read_text())
            assert method["step"] == curve["best_step"]
        shown = {path.name for path in (tiny_run.folder / "images" / "steps" / row["name"]).iterdir()}
        assert shown == {"2", "3"}


def unsettled(run: Run, **study: bool) -> tuple[Run, Path]:
    """A run whose first LoRA has kept steps 2 and 3, as if its best step, 3, had just been chosen."""
    study_config = run.config.study.model_copy(update=study)
    run = replace(run, config=run.config.model_copy(update={"study": study_config}))
    folder = run.model_folder("lora-2")
    (folder / "readings.json").unlink()
    for step in ("2", "3"):
        (folder / "steps" / step).mkdir(parents=True)
        for name in ("heldout.json", "pytorch_lora_weights.safetensors"):
            shutil.copy(folder / name, folder / "steps" / step / name)
    for name in ("heldout.json", "pytorch_lora_weights.safetensors"):
        (folder / name).unlink()
    return run, folder


def test_all_readings_are_kept_if_that_is_wanted(copy: Run, hashes: Hashes) -> None:
    weights = hashes(copy.model_folder("lora-2"))["pytorch_lora_weights.safetensors"]
    run, folder = unsettled(copy, keep_readings=True)
    steps.settle(run, run.config.trials["lora-2"], 3)
    assert not (folder / "steps").exists()
    assert hashes(folder)["pytorch_lora_weights.safetensors"] == weights
    assert hashes(folder / "readings")["2/pytorch_lora_weights.safetensors"] == weights
    with tuned(shared_base(settled_by(run.config)), folder / "readings" / "2"):
        pass


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("moved", [("heldout.json",), ("heldout.json", "pytorch_lora_weights.safetensors")])
def test_choosing_a_step_goes_on_where_it_was_killed(moved: tuple[str, ...], keep: bool, copy: Run) -> None:
    run, folder = unsettled(copy, keep_readings=keep)
    steps.keep_readings(folder)
    readings = (folder / "readings.json").read_text()
    for name in moved:
        (folder / "steps" / "3" / name).replace(folder / name)
    steps.settle(run, run.config.trials["lora-2"], 3)
    assert (folder / "readings.json").read_text() == readings
    assert (folder / "pytorch_lora_weights.safetensors").is_file()
    assert not (folder / "steps").exists()
    assert (folder / "readings").exists() is keep


def test_the_recommended_model_is_trained_on_all_photos_to_its_step(tiny_run: Run) -> None:
    scores = json.loads((tiny_run.folder / "scores.json").read_text())
    row = next(row for row in scores["models"] if row["name"] == scores["verdict"]["recommended"])
    method = json.loads((tiny_run.folder / "models" / "final" / "method.json").read_text())
    assert (method["kind"], method["rank"], method["step"]) == (row["kind"], row["rank"], row["step"])
    assert len((tiny_run.folder / "models" / "final" / "training.jsonl").read_text().splitlines()) == row["step"]
    assert len(list((tiny_run.folder / "images" / "final").rglob("*.png"))) == 4
    assert "final" not in [model["name"] for model in scores["models"]]


def test_the_run_records_base_consent_and_seed(tiny_run: Run) -> None:
    record = tiny_run.provenance
    assert record["base"]["name"] == "pocket"
    assert len(record["base"]["sha256"]) == 64
    assert record["consent"] == "stated by the user"
    assert record["seed"] == 0


def test_events_tell_the_stages_in_order(tiny_run: Run) -> None:
    events = [json.loads(line) for line in (tiny_run.folder / "events.jsonl").read_text().splitlines()]
    finished = [event["stage"] for event in events if event["kind"] == "finished"]
    first = [stage for number, stage in enumerate(finished) if stage not in finished[:number]]
    if "class_images" in first:  # else another test's run painted the same ones, which are shared
        assert first.index("class_images") == 1
        first.remove("class_images")
    assert first[:3] == ["prepare", "train.unet", "train.lora-2+4, 4 trainings"]
    assert first[-1] == "report"


def test_the_same_call_again_does_nothing(
    copy: Run, photos: Path, tiny_config: Config, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even load the base."""
    from portrayal.stages import shared

    shared.shared_base.cache_clear()
    monkeypatch.setattr("portrayal.models.base.load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    before = hashes(copy.folder)
    times = {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*") if path.is_file()}
    seen: list[Event] = []
    started = time.monotonic()
    portrayal.portray(photos, tiny_config, copy.folder, consent=True, progress=seen.append)
    assert time.monotonic() - started < 10
    assert hashes(copy.folder) == before
    assert {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*") if path.is_file()} == times
    assert {event.kind for event in seen if event.stage != "prepare"} == {"skipped"}


def test_one_deleted_picture_is_painted_again_the_same(copy: Run, hashes: Hashes) -> None:
    images = copy.folder / "images"
    before = hashes(images)
    times = {path: path.stat().st_mtime_ns for path in images.rglob("*.png")}
    gone = images / "lora-2" / "street" / "1.png"
    gone.unlink()
    seen: list[Event] = []
    portrayal.generate(copy, progress=seen.append)
    assert hashes(images) == before
    assert [path for path in times if path.stat().st_mtime_ns != times[path]] == [gone]
    assert {event.stage for event in seen if event.kind == "skipped"} == {
        "generate.base", "generate.unet", "generate.lora-4", "generate.lora-2.fold-2", "generate.lora-4.fold-2",
    }  # fmt: skip


def test_a_model_that_is_trained_anew_is_painted_and_judged_anew(copy: Run) -> None:
    """The images of earlier weights go, and the scores follow; here the earlier images are all white."""
    before = json.loads((copy.folder / "scores.json").read_text())
    images = [path for path in (copy.folder / "images").rglob("*.png") if "unet" in path.parts]
    assert {path.relative_to(copy.folder).parts[1] for path in images} >= {"unet", "class", "steps", "control"}
    for path in images:
        with Image.open(path) as image:
            Image.new("RGB", image.size, "white").save(path)
    shutil.rmtree(copy.model_folder("unet"))
    portrayal.train(copy)
    assert not [path for path in images if path.is_file() and "steps" not in path.parts]
    portrayal.generate(copy)
    after = portrayal.evaluate(copy)
    for name in ("identity", "prompt", "drift", "colour", "heldout_loss"):
        assert after["models"][1][name] == before["models"][1][name]
    assert after["control"] == before["control"]


def test_scores_are_made_anew_for_a_model_whose_weights_are_others(copy: Run) -> None:
    """As after a training that was deleted and done again where numbers are not the same bit for bit."""
    path = copy.model_folder("unet") / "heldout.json"
    losses = json.loads(path.read_text())["losses"]
    before = json.loads((copy.folder / "scores.json").read_text())["models"][1]["heldout_loss"]["mean"]
    path.write_text(json.dumps({"losses": {name: (2 * np.array(rows)).tolist() for name, rows in losses.items()}}))
    method = copy.model_folder("unet") / "method.json"
    method.write_bytes(method.read_bytes())
    assert portrayal.evaluate(copy)["models"][1]["heldout_loss"]["mean"] == pytest.approx(2 * before)


def test_a_model_for_use_that_is_deleted_is_trained_again_to_its_step(copy: Run) -> None:
    """The recommended model, whichever is the best LoRA, to its own best step, not to the end of the schedule."""
    scores = json.loads((copy.folder / "scores.json").read_text())
    scores["verdict"] |= {"recommended": "lora-4", "best_lora": "lora-2"}
    for row in scores["models"]:
        row["step"] = 2 if row["name"] == "lora-4" else 1
    finish(copy, scores, silent)
    method = json.loads((copy.model_folder("final") / "method.json").read_text())
    assert (method["rank"], method["step"]) == (4, 2)
    assert len((copy.model_folder("final") / "training.jsonl").read_text().splitlines()) == 2


def change_method(run: Run, name: str, **values: object) -> None:
    """Change what a run says of a training."""
    path = run.model_folder(name) / "method.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_run_whose_training_saw_a_photo_it_is_judged_by_has_no_scores(copy: Run) -> None:
    dataset = load_dataset(copy.dataset_folder)
    change_method(copy, "lora-4.fold-2", photos=[photo.id for photo in dataset.photos])
    with pytest.raises(PortrayalError, match=r"no training saw a photo .*lora-4\.fold-2") as caught:
        portrayal.evaluate(copy)
    assert "report" in caught.value.remedy


def test_a_run_whose_trainings_share_a_seed_has_no_scores(copy: Run) -> None:
    for name in ("lora-2.fold-2", "lora-4.fold-2"):
        change_method(copy, name, seed=copy.config.seed)
    with pytest.raises(PortrayalError, match="the same seed"):
        portrayal.evaluate(copy)


def test_a_final_model_that_lacks_a_photo_is_noticed(copy: Run) -> None:
    check_final(copy)
    photos = json.loads((copy.model_folder("final") / "method.json").read_text())["photos"]
    change_method(copy, "final", photos=photos[1:])
    with pytest.raises(PortrayalError, match="not trained on all photos"):
        check_final(copy)


def test_crops_of_a_photo_count_as_the_photo(copy: Run) -> None:
    """A nearer crop of a held-out photo gives it away as well as the photo itself."""
    path = copy.dataset_folder / "manifest.json"
    manifest = json.loads(path.read_text())
    photo = manifest["photos"][0]
    manifest["photos"].append(photo | {"id": f"{photo['id']}-close", "framing": "close"})
    path.write_text(json.dumps(manifest))
    shutil.copy(
        copy.dataset_folder / "images" / f"{photo['id']}.png",
        copy.dataset_folder / "images" / f"{photo['id']}-close.png",
    )
    assert photos_of(copy, [f"{photo['id']}-close"]) == photos_of(copy, [photo["id"]]) == {photo["id"]}


def test_a_model_painted_in_part_is_left_out_of_the_scores(copy: Run) -> None:
    (copy.folder / "images" / "lora-2" / "street" / "1.png").unlink()
    scores = portrayal.evaluate(copy)
    assert [model["name"] for model in scores["models"]] == ["base", "unet", "lora-4"]


def test_a_run_without_pictures_cannot_be_judged(copy: Run) -> None:
    shutil.rmtree(copy.folder / "images")
    (copy.folder / "scores.json").unlink()
    with pytest.raises(UsageError, match="no pictures to judge"):
        portrayal.evaluate(copy)
    with pytest.raises(UsageError, match="no scores"):
        portrayal.write_report(copy)


def test_a_model_card_that_is_missing_is_written(copy: Run, hashes: Hashes) -> None:
    """As after a run that was killed between training and publishing."""
    before = hashes(copy.folder / "models")
    (copy.folder / "models" / "lora-4" / "README.md").unlink()
    (copy.folder / "models" / "lora-4" / "lora-4.kohya.safetensors").unlink()
    portrayal.train(copy)
    assert hashes(copy.folder / "models") == before


def test_an_unknown_model_is_refused(tiny_run: Run) -> None:
    for call in (portrayal.train, portrayal.generate):
        with pytest.raises(UsageError, match="no model 'lora-8'") as caught:
            call(tiny_run, ["lora-8"])
        assert "lora-2" in caught.value.remedy


def test_anything_can_be_painted_and_nothing_is_overwritten(copy: Run, photos: Path) -> None:
    prompts = ["a photo of {subject} in the kitchen"]
    first = portrayal.paint(copy, prompts, ["unet"], count=2, seed=5)
    content = [path.read_bytes() for path in first]
    second = portrayal.paint(copy, prompts, ["unet"], count=1, seed=5, controls=[next(photos.glob("*.jpg"))])
    assert [path.name for path in first + second] == ["0000.png", "0001.png", "0002.png"]
    assert [path.read_bytes() for path in first] == content
    (default,) = portrayal.paint(copy, prompts, count=1)
    assert default.parent.name == "final"
    shutil.rmtree(copy.folder / "models" / "final")
    best = json.loads((copy.folder / "scores.json").read_text())["verdict"]["best_lora"]
    (default,) = portrayal.paint(copy, prompts, count=1)
    assert default.parent.name == best


def test_a_ready_made_skeleton_is_kept_to_without_a_pose_reader(copy: Run, tmp_path: Path) -> None:
    """Any ControlNet does for this: openpose's own is asked for by `auto`."""
    skeleton, controlnet = tmp_path / "pose.png", WEIGHTS / "controlnet_canny"
    Image.fromarray(draw_skeleton(np.full((17, 3), 0.5), 128)).save(skeleton)
    settings = ["control.ready_made=true", f'control.controlnet={{openpose="{controlnet}"}}']
    (path,) = portrayal.paint(
        copy, ["{subject}"], ["base"], count=1, controls=[skeleton], control_kinds=["openpose"], overrides=settings
    )
    made = read_settings(path)
    assert made is not None
    assert [control["kind"] for control in made["controls"]] == ["openpose"]


def test_an_unknown_kind_of_control_is_refused(tiny_run: Run, photos: Path) -> None:
    picture = next(photos.glob("*.jpg"))
    with pytest.raises(UsageError, match="canny"):
        portrayal.paint(tiny_run, ["{subject}"], ["base"], controls=[picture], control_kinds=["normal"])
    with pytest.raises(UsageError, match="none is given"):
        portrayal.paint(tiny_run, ["{subject}"], ["base"], control_kinds=["canny"])


@pytest.mark.usefixtures("needs_pose")
def test_poses_are_painted_and_measured(tiny_run: Run) -> None:
    where = tiny_run.folder / "images" / "control"
    if not (where / "openpose").is_dir():
        events = (tiny_run.folder / "events.jsonl").read_text()
        assert "No pose can be made out" in events  # untrained weights see nobody
        pytest.skip("the embedded pose reader is untrained")
    scores = json.loads((tiny_run.folder / "scores.json").read_text())
    rows = [row for row in scores["control"] if row["kind"] == "openpose"]
    assert [row["model"] for row in rows] == ["base", "unet", scores["verdict"]["best_lora"]]
    assert all(0 <= one["agreement"]["mean"] <= 1 for row in rows for one in row["at"])


def test_a_setting_that_painting_cannot_change_is_refused(copy: Run) -> None:
    with pytest.raises(UsageError, match=r"training\.snr_gamma"):
        portrayal.paint(copy, ["{subject}"], ["base"], count=1, overrides=["training.snr_gamma=5"])


def test_other_settings_and_other_photos_are_another_run(
    copy: Run, photos: Path, tiny_config: Config, tmp_path: Path, hashes: Hashes
) -> None:
    before = hashes(copy.folder)
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    next(other.glob("*.jpg")).unlink()
    with pytest.raises(RunConflictError, match="photos"):
        portrayal.prepare(other, tiny_config, copy.folder)
    changed = tiny_config.model_copy(update={"seed": 1})
    with pytest.raises(RunConflictError, match="seed"):
        portrayal.portray(photos, changed, copy.folder)
    assert hashes(copy.folder) == before


# What stops a run before it starts ---------------------------------------------------------------------------------


def test_no_disk_space_is_said_before_anything_is_made(
    photos: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(MachineError, match="GiB free") as caught:
        portrayal.prepare(photos, tiny_config, tmp_path / "run")
    assert "--out" in caught.value.remedy
    assert not (tmp_path / "run").exists()


def test_too_little_memory_is_said_before_anything_is_made(
    photos: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portrayal.planning.machine_memory", lambda: (8.0, 0.5))
    with pytest.raises(MachineError, match="of memory are free") as caught:
        portrayal.prepare(photos, tiny_config, tmp_path / "run")
    assert "full_unet" in caught.value.remedy
    assert not (tmp_path / "run").exists()


def test_a_caption_past_77_tokens_is_said_before_anything_is_made(
    photos: Path, tiny_config: Config, tmp_path: Path
) -> None:
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    next(own.glob("*.jpg")).with_suffix(".txt").write_text("woman " * 80 + "elephant")
    with pytest.raises(UsageError, match="elephant"):
        portrayal.prepare(own, tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_captioner_leaves_a_person_s_own_captions_alone(photos: Path, tiny_config: Config, tmp_path: Path) -> None:
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    next(own.glob("*.jpg")).with_suffix(".txt").write_text("sks woman at sea")
    settings = tiny_config.prepare.model_copy(update={"captions": "captioner"})
    run = portrayal.prepare(own, tiny_config.model_copy(update={"prepare": settings}), tmp_path / "run")
    rows = json.loads((run.dataset_folder / "manifest.json").read_text())["photos"]
    assert [row["caption"] for row in rows if row["caption_from"] == "file"] == ["sks woman at sea"]
    described = [row["caption"] for row in rows if row["caption_from"] == "captioner"]
    assert len(described) == 5
    assert all(caption.startswith("a photo of sks woman wearing a") for caption in described)


def test_photos_go_to_kohya_and_come_back(tiny_run: Run, tmp_path: Path) -> None:
    """As a training folder, which is read again with the same pictures and captions."""
    from portrayal.data.manifest import load_dataset
    from portrayal.photos.sources import find_photos

    folder = portrayal.export_photos(tiny_run, tmp_path / "kohya", repeats=5)
    dataset = load_dataset(tiny_run.dataset_folder)
    found = find_photos(tmp_path / "kohya")
    assert folder.name == "5_sks woman"
    assert {photo.name for photo in found.photos} == {f"5_sks woman/{photo.id}.png" for photo in dataset.photos}
    by_name = {photo.name: photo for photo in found.photos}
    for photo in dataset.photos:
        again = by_name[f"5_sks woman/{photo.id}.png"]
        assert again.caption == photo.caption
        assert again.content() == dataset.image_path(photo).read_bytes()
    with pytest.raises(UsageError, match="there already"):
        portrayal.export_photos(tiny_run, tmp_path / "kohya", repeats=5)


def test_two_photos_are_too_few(photos: Path, tiny_config: Config, tmp_path: Path) -> None:
    own = tmp_path / "photos"
    own.mkdir()
    for path in sorted(photos.iterdir())[:2]:
        shutil.copy(path, own)
    with pytest.raises(PhotosError):
        portrayal.prepare(own, tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rank_without_a_place_is_refused_before_anything_is_made(photos: Path, tmp_path: Path, tiny_config) -> None:
    method = tiny_config.method.model_copy(
        update={"lora": tiny_config.method.lora.model_copy(update={"target_modules": ("to_x",)})}
    )
    with pytest.raises(UsageError, match="to_x"):
        portrayal.prepare(photos, tiny_config.model_copy(update={"method": method}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Killed ----------------------------------------------------------------------------------------------------------

TRAIN = """
import sys, torch
from pathlib import Path
import portrayal
torch.set_num_threads(1)
config = portrayal.load_config(sys.argv[2])
run = portrayal.prepare(Path(sys.argv[1]), config, Path(sys.argv[3]), consent=True)
portrayal.train(run)
"""


def test_a_killed_run_goes_on_to_the_same_weights(
    tiny_run: Run, photos: Path, tiny_config: Config, tmp_path: Path, hashes: Hashes
) -> None:
    """SIGKILL after the first checkpoint: nothing can be tidied up. The weights equal those of the undisturbed run."""
    recipe, out = tmp_path / "tiny.toml", tmp_path / "run"
    recipe.write_text(tiny_config.to_toml(), encoding="utf-8")
    child = subprocess.Popen([sys.executable, "-c", TRAIN, str(photos), str(recipe), str(out)], env=os.environ)
    work = out / "models" / ".unet.training"
    for _ in range(1200):
        if list(work.glob("checkpoint/*/state.json")):
            break
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list(work.glob("checkpoint/*/state.json"))
    assert not (out / "models" / "unet" / "method.json").exists()
    run = portrayal.prepare(photos, tiny_config, out, consent=True)
    portrayal.train(run)
    for name in MODELS:
        ours = hashes(run.model_folder(name), "*.safetensors")
        assert ours == hashes(tiny_run.model_folder(name), "*.safetensors")
    assert not list((out / "models").glob(".*"))


def test_photos_of_any_shape_are_trained_on_in_buckets(photos: Path, tiny_config: Config, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for number, path in enumerate(sorted(photos.iterdir())[:7]):
        with Image.open(path) as image:
            wide = (image.width, round(image.width * (1, 0.75, 4 / 3)[number % 3]))
            image.resize(wide).save(own / f"{number}.png")
    Image.new("L", (64, 48), 255).save(own / "1.mask.png")
    prepare = tiny_config.prepare.model_copy(update={"shape": "bucket"})
    training = tiny_config.training.model_copy(update={"background_loss_weight": 0.5, "random_flip": True})
    less = {"scenes": dict(list(tiny_config.generation.scenes.items())[:1]), "num_images_per_scene": 1}
    config = tiny_config.model_copy(
        update={
            "prepare": prepare,
            "training": training,
            "study": tiny_config.study.model_copy(update={"readings": 1}),
            "generation": tiny_config.generation.model_copy(update=less),  # every stage, little painted
            "control": tiny_config.control.model_copy(update={"kinds": ("canny",)}),
        }
    )

    run = portrayal.portray(own, config, tmp_path / "run", consent=True)

    dataset, side, step = load_dataset(run.dataset_folder), 128, 16
    nearest = [(side, side), (side + step, side - step), (side - step, side + step)]
    trained_on = {photo.shape for photo in dataset.training(0)}
    assert {photo.use for photo in dataset.photos} == {"training", "judging"}
    for photo in dataset.photos:
        assert photo.shape == (nearest[0] if photo.use == "judging" else nearest[int(photo.source_name[0]) % 3])
        with Image.open(dataset.image_path(photo)) as image:
            assert image.size == photo.shape
    assert len(list((run.folder / "encoded").glob("class_images-*"))) == len(trained_on) > 1
    assert (run.folder / "report.html").is_file()


def test_photos_are_trained_on_in_all_views_and_judged_by_as_they_are(tiny_run: Run, copy: Run) -> None:
    shutil.rmtree(copy.folder / "encoded")
    training = copy.config.training.model_copy(update={"random_crops": 1, "random_flip": True})
    viewed = replace(copy, config=copy.config.model_copy(update={"training": training}))

    data, plain = (training_data(run, 0, silent) for run in (viewed, tiny_run))
    judged, plainly = (heldout_data(run, 0)[0] for run in (viewed, tiny_run))

    for one, other in ((data.photos[0], plain.photos[0]), (judged, plainly)):
        assert (one.ids, one.num_views, other.num_views) == (other.ids, 4, 1)
        assert torch.equal(one.mean[: len(one)], other.mean)
        assert not torch.allclose(one.mean[len(one) : 2 * len(one)], other.mean, atol=0.01)
    assert data.class_images is not None
    assert data.class_images[0].num_views == 1


# Packs -----------------------------------------------------------------------------------------------------------


def test_loras_share_batches_as_many_as_fit_and_those_begun_stay_together(tiny_config: Config) -> None:
    def studied(**settings: object) -> Config:
        return tiny_config.model_copy(update={"study": tiny_config.study.model_copy(update=settings)})

    config = studied(ranks=(2, 4, 8, 16), folds=1)
    trials = list(config.trials.values())
    assert together(trials, config, 3) == [["unet"], ["lora-2", "lora-4", "lora-8"], ["lora-16"]]
    assert together(trials, config, 1) == [[trial.name] for trial in trials]
    packs = together(trials, config, 3, [["lora-4", "lora-16"]])
    assert packs == [["unet"], ["lora-4", "lora-16"], ["lora-2", "lora-8"]]
    assert together([config.trials["lora-4"]], config, 3, [["lora-4", "lora-16"]]) == [["lora-4"]]
    config = studied(ranks=(2, 4), folds=2, seeds=2, unet_folds=1)
    trials = list(config.trials.values())
    assert [trial.name for trial in trials] == [
        "unet", "lora-2", "lora-4", "lora-2.fold-2", "lora-4.fold-2",
        "lora-2.seed-2", "lora-4.seed-2", "lora-2.fold-2.seed-2", "lora-4.fold-2.seed-2",
    ]  # fmt: skip
    assert [len(pack) for pack in together(trials, config, 5)] == [1, 5, 3]
    apart = config.model_copy(update={"prepare": config.prepare.model_copy(update={"shape": "bucket"})})
    assert [len(pack) for pack in together(trials, apart, 5)] == [1, 2, 2, 2, 2]


def test_how_many_fit_is_what_is_said_or_what_the_memory_holds(tiny_config: Config, monkeypatch) -> None:
    from portrayal import planning

    def most(**settings: object) -> int:
        study = tiny_config.study.model_copy(update=settings)
        base = tiny_config.base.model_copy(update={"resolution": 512})
        training = tiny_config.training.model_copy(
            update={
                "mixed_precision": "bf16",
                "train_batch_size": 1,
                "class_batch_size": None,
                "prior_loss_weight": 1.0,
            }
        )
        config = tiny_config.model_copy(update={"study": study, "base": base, "training": training})
        return planning.loras_at_once(config)

    counts = []
    for gib in (4, 12, 24, 80):
        monkeypatch.setattr(planning, "memory", lambda gib=gib: float(gib))
        counts.append(most())
    assert counts[0] == 1
    assert counts == sorted(set(counts))
    assert most(loras_at_once=2) == 2
    lora = tiny_config.method.lora.model_copy(update={"dropout": 0.1})
    method = tiny_config.method.model_copy(update={"lora": lora})
    assert planning.loras_at_once(tiny_config.model_copy(update={"method": method})) == 1


def test_a_pack_whose_first_model_is_there_goes_on(
    photos: Path, tiny_config: Config, tiny_run: Run, tmp_path: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between two models of a pack; what fits into memory then is no matter."""
    from portrayal.training import trainer

    run = portrayal.prepare(photos, tiny_config, tmp_path / "run", consent=True)
    publish, published = trainer.publish, []

    def once(*arguments: object) -> None:
        if published:
            raise RuntimeError("plug pulled")
        publish(*arguments)  # type: ignore[arg-type]
        published.append(arguments)

    monkeypatch.setattr(trainer, "publish", once)
    with pytest.raises(RuntimeError, match="plug"):
        portrayal.train(run, ["lora-2", "lora-4"])
    monkeypatch.undo()
    assert (run.model_folder("lora-2") / "method.json").is_file()
    assert not (run.model_folder("lora-4") / "method.json").exists()
    monkeypatch.setattr("portrayal.stages.train.loras_at_once", lambda config: 1)
    portrayal.train(run, ["lora-2", "lora-4"])
    for name in ("lora-2", "lora-4"):
        ours = hashes(run.model_folder(name), "*.safetensors")
        assert ours == hashes(tiny_run.model_folder(name), "*.safetensors")
        assert (run.model_folder(name) / "README.md").is_file()
    assert not list((run.folder / "models").glob(".*"))
