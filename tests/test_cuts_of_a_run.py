"""The LoRAs of a small run, cut to lower ranks and judged like the whole ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from portrayal import evaluate, generate
from portrayal.errors import UsageError
from portrayal.evaluation.cuts import cut_ranks
from portrayal.files import sweep
from portrayal.formats.lora import LoraLayer, to_diffusers
from portrayal.formats.lora_rank import lower_rank
from portrayal.generation.generator import Generator
from portrayal.models.lora_files import layers_of, load_lora
from portrayal.models.methods import LORA_FILE
from portrayal.models.saved import tuned
from portrayal.run import Run, write_bytes
from portrayal.sentences import Said
from portrayal.stages import cuts
from portrayal.stages.cuts import WORK, cut_recommended, measure_cuts, work_folder, write_cut
from portrayal.stages.generate import class_pictures, scene_pictures
from portrayal.stages.publish import saved_layers
from portrayal.stages.shared import judged_trials
from portrayal.stages.train import clear

OWN = {"cuts.json", "stages/evaluate.cuts.json", "events.jsonl", "live.json"}
"""What it writes."""
MODEL = "lora-4"
STRONG = 30.0
"""By what an update is multiplied: three steps of training hardly show."""


def uncut(run: Run, folder: Path) -> Run:
    """A copy of a run before its LoRA was cut."""
    shutil.copytree(run.folder, folder)
    (folder / "cuts.json").unlink()
    return Run.open(folder)


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    return uncut(tiny_run, tmp_path / "ann")


@pytest.fixture(scope="module")
def measured(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], list[Any]]:
    """A copy of the run with its cuts, what was returned, and the events."""
    run, events = uncut(tiny_run, tmp_path_factory.mktemp("cut") / "ann"), list[Any]()
    found = measure_cuts(run, MODEL, progress=events.append)
    assert found is not None
    return run, found, events


def trials_of(run: Run, model: str = MODEL) -> list[Any]:
    return [trial for trial in judged_trials(run) if trial.model == model]


def test_json_has_the_model_and_each_cut(measured) -> None:
    run, found, _ = measured
    assert found == json.loads((run.folder / "cuts.json").read_text())
    assert (found["model"], found["rank"]) == (MODEL, 4)
    assert [cut["rank"] for cut in found["cuts"]] == [2, 1]
    whole = (run.model_folder(MODEL) / LORA_FILE).stat().st_size / 1e6
    sizes = [found["megabytes"], *(cut["megabytes"] for cut in found["cuts"])]
    assert sizes[0] == pytest.approx(whole, abs=1e-3)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] > 0
    for cut in found["cuts"]:
        for axis in ("likeness", "prompt"):
            assert cut[axis]["low"] <= cut[axis]["mean"] <= cut[axis]["high"]
    shown = [cut["rank"] for cut in found["cuts"] if cut["no_worse"]]
    assert found["offered"] in (None, *shown)
    assert Said.retold(found["sentence"], found["said"]) == found["sentence"]
    assert found["said"]["key"] == ("cuts.none" if found["offered"] is None else "cuts.offered")


def test_every_image_of_every_training_is_generated_again(measured) -> None:
    run, _, events = measured
    ticks = [(one.done, one.total) for one in events if (one.stage, one.kind) == ("evaluate.cuts", "progress")]
    images = len(scene_pictures(run, MODEL) + class_pictures(run, MODEL))
    total = 2 * len(trials_of(run)) * images
    assert len(trials_of(run)) > 1
    assert ticks == [(number, total) for number in range(1, total + 1)]


def test_the_other_files_of_the_run_stay_and_nothing_is_left_behind(measured, tiny_run, hashes) -> None:
    run, _, _ = measured
    before, after = hashes(tiny_run.folder), hashes(run.folder)
    assert {name for name in before | after if before.get(name) != after.get(name)} <= OWN
    assert {path.name for path in run.folder.rglob("*")} == {path.name for path in tiny_run.folder.rglob("*")}


def test_a_second_call_is_skipped_until_something_changed(measured, monkeypatch) -> None:
    run, found, _ = measured
    calls, events = list[str](), list[Any]()

    def judged(run: Run, model: str, *_: Any) -> tuple[()]:
        calls.append(model)
        return ()

    monkeypatch.setattr(cuts, "judged_cuts", judged)
    assert measure_cuts(run, MODEL, progress=events.append) == found
    assert [(one.stage, one.kind) for one in events] == [("evaluate.cuts", "skipped")]
    copy = run.folder.with_name("copy")
    shutil.copytree(run.folder, copy)
    again = Run.open(copy)
    measure_cuts(again, MODEL)
    assert calls == [], "a run that was moved"
    measure_cuts(again, "lora-2")
    measure_cuts(again, MODEL)
    assert calls == ["lora-2", MODEL], "another model"
    again.image_path(trials_of(run)[-1].name, "street", 0).unlink()
    measure_cuts(again, MODEL)
    (again.folder / "cuts.json").unlink()
    measure_cuts(again, MODEL)
    (again.model_folder(trials_of(run)[-1].name) / "method.json").touch()
    measure_cuts(again, MODEL)
    assert calls[2:] == [MODEL] * 3


def test_a_full_unet_has_no_cuts_and_other_names_are_refused(run, hashes) -> None:
    before = hashes(run.folder)
    assert measure_cuts(run, "unet") is None
    with pytest.raises(UsageError, match="no model 'lora-3'"):
        measure_cuts(run, "lora-3")
    assert hashes(run.folder) == before


def test_a_lora_without_its_images_is_refused(run) -> None:
    for trial in trials_of(run):
        run.image_path(trial.name, "street", 0).unlink()
    with pytest.raises(UsageError, match="has no images"):
        measure_cuts(run, MODEL)
    assert not (run.folder / "cuts.json").exists()


# What is cut ---------------------------------------------------------------------------------------------------------


def strengthen(run: Run, name: str, rank: int) -> None:
    """Cut a LoRA of rank 4 to a rank, and make it count for a lot; it stays one of rank 4 in name."""
    layers = lower_rank(saved_layers(run, name, MODEL), rank).layers
    alpha, stored = run.config.methods[MODEL].alpha, {}
    for path, layer in layers.items():
        down, up = (torch.zeros(size) for size in ((4, *layer.down.shape[1:]), (len(layer.up), 4, *layer.up.shape[2:])))
        down[: layer.rank], up[:, : layer.rank] = layer.down, layer.up * 4 / alpha * STRONG
        stored[path] = LoraLayer(down, up, alpha)
    write_bytes(run.model_folder(name) / LORA_FILE, save(*to_diffusers(stored)))
    for folder in (run.folder / "images" / name, run.folder / "images" / "class" / name):
        shutil.rmtree(folder)


def strong_cuts(run: Run, rank: int) -> dict[str, Any]:
    """Cuts of a LoRA that counts for a lot, and is of a rank."""
    for trial in trials_of(run):
        strengthen(run, trial.name, rank)
    generate(run, [MODEL])
    found = measure_cuts(run, MODEL)
    assert found is not None
    return found


def test_nothing_changes_where_the_rank_was_not_needed(run) -> None:
    """Of rank 4 in name, but its updates all have rank 1: the cuts are the LoRA itself."""
    found = strong_cuts(run, 1)
    for cut in found["cuts"]:
        for axis in ("likeness", "prompt"):
            assert cut[axis]["mean"] == pytest.approx(0, abs=1e-3)
        assert cut["no_worse"]
    assert found["offered"] == 1


def test_what_is_lost_shows_where_the_rank_was_needed(run) -> None:
    found = strong_cuts(run, 4)
    assert all(abs(cut["likeness"]["mean"]) > 5e-3 for cut in found["cuts"])


def test_a_cut_is_a_file_of_the_nearest_lora_of_that_rank(run, pocket, tmp_path) -> None:
    trial = trials_of(run)[-1]
    whole = saved_layers(run, trial.name, MODEL)
    path = write_cut(run, trial, 2, tmp_path / "cut")
    shapes = {name: tuple(layer.weight.shape) for name, layer in layers_of(pocket).items()}
    nearest = lower_rank(whole, 2).layers
    for name, layer in load_lora(path, shapes).items():
        assert layer.rank == layer.alpha == 2
        found, wanted = (one.up.float().flatten(1) @ one.down.float().flatten(1) for one in (layer, nearest[name]))
        assert float((found - wanted).abs().max()) <= 2e-3 * float(wanted.abs().max())
    with safe_open(run.model_folder(trial.name) / LORA_FILE, "pt") as own, safe_open(path, "pt") as cut:
        assert {own.get_tensor(key).dtype for key in own.keys()} == {cut.get_tensor(key).dtype for key in cut.keys()}  # noqa: SIM118


def test_a_cut_to_the_whole_rank_generates_what_the_lora_did(run, tmp_path) -> None:
    """The same prompts, seeds and batches, in the same order."""
    import numpy as np
    from PIL import Image

    trial = trials_of(run)[-1]
    bench = cuts.Bench(run, None, {}, lambda *_: None, 1)  # type: ignore[arg-type]
    write_cut(run, trial, 4, tmp_path / "cut")
    rows = bench.images(trial, tmp_path / "cut")
    kept = [*scene_pictures(run, trial.name), *class_pictures(run, trial.name)]
    for image, picture in zip([image for row in rows for image in row], kept, strict=True):
        with Image.open(picture.path) as own:
            off = np.abs(np.asarray(image, float) - np.asarray(own.convert("RGB"), float))
        assert off.mean() < 0.5


# What goes wrong -----------------------------------------------------------------------------------------------------


def test_nothing_is_left_behind_after_an_error(run, pocket, monkeypatch) -> None:
    seen = list[bool]()

    def fails(generator: Generator, *_: Any) -> Any:
        seen.append((run.folder / "models" / WORK / LORA_FILE).is_file())
        yield from ()
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(Generator, "paint", fails)
    with pytest.raises(RuntimeError, match="device is gone"):
        measure_cuts(run, MODEL)
    assert seen == [True]
    assert not (run.folder / "models" / WORK).exists()
    assert not (run.folder / "cuts.json").exists()
    with tuned(pocket, run.model_folder(MODEL)):  # nothing was left in place on a base
        pass


def test_what_a_killed_process_left_is_dropped_first_and_cleared_by_the_next_command(run) -> None:
    left = run.folder / "models" / WORK / "half"
    left.mkdir(parents=True)
    with work_folder(run) as folder:
        assert not left.exists()
        folder.mkdir()
    assert not folder.exists()
    left.mkdir(parents=True)
    assert sweep(run.folder) == [WORK]
    assert not left.exists()


def test_without_an_encoder_of_likeness_nothing_is_generated_or_offered(run, monkeypatch) -> None:
    from dataclasses import replace

    found = replace(cuts.encoders_of(run), identity=None)
    monkeypatch.setattr(cuts, "encoders_of", lambda run: found)
    monkeypatch.setattr(Generator, "paint", lambda *_: pytest.fail("generated"))
    said = measure_cuts(run, MODEL)
    assert (said["cuts"], said["offered"], said["rank"], said["sentence"]) == ([], None, 4, None)


# In a whole run ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cut(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the run with its cuts; what is cut anew is not measured."""
    shutil.copytree(tiny_run.folder, tmp_path / "ann")
    monkeypatch.setattr(cuts, "judged_cuts", lambda *_: ())
    return Run.open(tmp_path / "ann")


def scores(run: Run, recommended: str | None = None) -> dict[str, Any]:
    found = json.loads((run.folder / "scores.json").read_text())
    return found if recommended is None else found | {"verdict": found["verdict"] | {"recommended": recommended}}


def kept(run: Run) -> dict[str, Any]:
    return dict(json.loads((run.folder / "cuts.json").read_text()))


def test_a_run_cuts_the_lora_that_it_recommends_before_it_trains_it_on_all_photos(tiny_run: Run) -> None:
    found, recommended = kept(tiny_run), scores(tiny_run)["verdict"]["recommended"]
    assert recommended.startswith("lora-"), "else there is nothing to test"
    assert (found["model"], found["rank"]) == (recommended, tiny_run.config.methods[recommended].rank)
    assert [one["rank"] for one in found["cuts"]] == [*cut_ranks(found["rank"])]
    lines = [json.loads(line) for line in (tiny_run.folder / "events.jsonl").read_text().splitlines()]
    finished = [line["stage"] for line in lines if line["kind"] == "finished"]
    assert finished.count("evaluate.cuts") == 1
    place = finished.index("evaluate.cuts")
    assert finished[place - 1 : place + 2] == ["evaluate", "evaluate.cuts", "train.final"]


def test_judging_a_run_again_skips_its_cuts(cut: Run) -> None:
    before, events = kept(cut), list[Any]()
    evaluate(cut, progress=events.append)
    assert [one.kind for one in events if one.stage == "evaluate.cuts"] == ["skipped"]
    assert kept(cut) == before


def test_another_model_that_is_recommended_is_cut_instead(cut: Run) -> None:
    own = scores(cut)["verdict"]["recommended"]
    other = next(name for name in cut.config.methods if name not in ("unet", own))
    cut_recommended(cut, scores(cut, other))
    assert kept(cut)["model"] == other
    cut_recommended(cut, scores(cut, own))
    assert kept(cut)["model"] == own


@pytest.mark.parametrize("recommended", ["unet", None])
def test_cuts_of_what_is_recommended_no_more_are_dropped(cut: Run, recommended: str | None) -> None:
    verdict = scores(cut)["verdict"] | {"recommended": recommended}
    cut_recommended(cut, {"verdict": verdict})
    assert not (cut.folder / "cuts.json").exists()


def test_a_lora_that_was_trained_once_is_not_cut(cut: Run) -> None:
    """As with `--quick`: what a cut costs another training cannot be known."""
    for trial in judged_trials(cut):
        if trial.name != trial.model:
            shutil.rmtree(cut.model_folder(trial.name))
    cut_recommended(cut, scores(cut))
    assert not (cut.folder / "cuts.json").exists()


def test_cuts_that_are_measured_anew_are_not_left_as_they_were_if_that_fails(cut: Run, monkeypatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(cuts, "judged_cuts", fails)
    (trial, *_) = trials_of(cut, scores(cut)["verdict"]["recommended"])
    (cut.model_folder(trial.name) / "method.json").touch()
    with pytest.raises(RuntimeError, match="device is gone"):
        cut_recommended(cut, scores(cut))
    assert not (cut.folder / "cuts.json").exists()


def test_a_training_that_is_done_anew_drops_cuts_and_the_final_one_does_not(cut: Run) -> None:
    clear(cut, "final")
    assert (cut.folder / "cuts.json").is_file()
    clear(cut, "lora-2.fold-2")
    assert not (cut.folder / "cuts.json").exists()
