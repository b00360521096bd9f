"""What is done again, and what is not: whatever a stage depends on has changed, or a file of what it made is gone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import portrayal
from portrayal.config import Config
from portrayal.files import write_json, write_text
from portrayal.run import Event, Run, fingerprint
from portrayal.settings import load_config
from portrayal.stages import prepare as prepare_stage
from portrayal.stages import report, train
from portrayal.stages.evaluate import evaluated_files
from portrayal.stages.shared import FINAL, curve_path, judged_trials, trained
from portrayal.stages.verify import lacking

Hashes = Callable[..., dict[str, str]]
PROVENANCE = {"base": {"name": "pocket", "sha256": "0"}, "photos": ["a"], "consent": "not stated"}


def write(path: Path, content: str = "{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def settled(run: Run, name: str) -> Path:
    """The files of a training whose step is chosen."""
    folder = run.model_folder(name)
    weights = (
        "unet/diffusion_pytorch_model.safetensors" if name.startswith("unet") else "pytorch_lora_weights.safetensors"
    )
    for file in ("method.json", "heldout.json", weights, *(["unet/config.json"] if name.startswith("unet") else [])):
        write(folder / file)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose models are there, by name only, and a few of its pictures."""
    run = Run.create(tmp_path / "run", load_config(str(Path(__file__).with_name("tiny.toml"))), PROVENANCE)
    for name in run.config.trials:
        settled(run, name)
    for name in run.config.methods:
        write(curve_path(run, name))
    for name in ("base/street/0", "lora-2/street/0", "class/lora-2/0", "class/base/0", "control/canny/unet/1/0"):
        write(run.folder / "images" / f"{name}.png")
    return run


# Scores ------------------------------------------------------------------------------------------------------------


def retrained(run: Run) -> None:
    path = run.model_folder("lora-2.fold-2") / "method.json"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # to the same step, with the same settings
    os.utime(path, ns=(1, 2))


CHANGES: dict[str, Callable[[Run], object]] = {
    "a model is retrained": retrained,
    "a training is not there any more": lambda run: shutil.rmtree(run.model_folder("lora-4")),
    "a picture was painted": lambda run: write(run.image_path("lora-2", "street", 1)),
    "a picture of another training": lambda run: write(run.image_path("lora-4.fold-2", "street", 0)),
    "a picture by the base": lambda run: write(run.image_path("base", "forest", 0)),
    "a picture of the class": lambda run: write(run.folder / "images/class/lora-4/0.png"),
    "a picture of the class by the base": lambda run: write(run.folder / "images/class/base/1.png"),
    "a picture held to a control image": lambda run: write(run.folder / "images/control/canny/base/1/0.png"),
    "a picture held to none": lambda run: write(run.folder / "images/control/without/base/0.png"),
    "a picture is gone": lambda run: run.image_path("lora-2", "street", 0).unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_scores_are_measured_anew_when_what_they_depend_on_changes(run: Run, change: str) -> None:
    run.mark_finished("evaluate", evaluated_files(run), 1.0)
    assert run.finished("evaluate", evaluated_files(run))
    CHANGES[change](run)
    assert not run.finished("evaluate", evaluated_files(run))


def test_scores_do_not_depend_on_what_is_not_judged(run: Run) -> None:
    run.mark_finished("evaluate", evaluated_files(run), 1.0)
    write(run.image_path(FINAL, "street", 0))
    write(run.folder / "images/steps/lora-2/2/street.png")
    write(run.folder / "pictures/lora-2/0000.png")
    settled(run, FINAL)
    assert run.finished("evaluate", evaluated_files(run))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": {"b": 1.0}}, {"a": {"b": 1.0 + 1e-12}}),
        ({"a": None}, {}),
        ({"a": "1"}, {"a": 1}),
        ({"x" * 500 + str(n): n for n in range(9)}, {"x" * 500 + str(n): n for n in range(10)}),
        (["a"], ["b"]),
        (None, []),
    ],
)
def test_a_fingerprint_differs_where_anything_does(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(json.loads(json.dumps(one)))
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})


# The report --------------------------------------------------------------------------------------------------------


def test_a_report_is_written_anew_when_what_it_shows_changes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def build(folder: Path) -> tuple[Path, Path]:
        built.append(folder)
        write(folder / "report.html")
        write(folder / "report.md", "![a](report/a.webp) ![b](report/chart-b.svg)")
        write(folder / "report" / "a.webp")
        write(folder / "report" / "chart-b.svg")
        return folder / "report.html", folder / "report.md"

    def times() -> int:
        report.write_report(run)
        return len(built)

    monkeypatch.setattr("portrayal.report.build_report", build)
    write_json(run.folder / "scores.json", {"models": []})
    assert [times(), times()] == [1, 1]
    write_json(run.folder / "votes.json", {"votes": []})
    assert [times(), times()] == [2, 2]
    write_json(run.folder / "votes.json", {"votes": [1]})
    assert [times(), times()] == [3, 3]
    write_json(run.folder / "scores.json", {"models": [1]})
    assert [times(), times()] == [4, 4]
    write(run.image_path("lora-2", "street", 1))
    assert [times(), times()] == [5, 5]
    for number, gone in enumerate(("report.html", "report.md", "report/a.webp", "report/chart-b.svg")):
        (run.folder / gone).unlink()
        assert [times(), times()] == [6 + number] * 2


# Trainings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet", "lora-2", "lora-2.fold-2", "lora-4.fold-2"])
def test_a_training_is_done_when_all_that_came_of_it_is_there(run: Run, name: str) -> None:
    folder = run.model_folder(name)
    needed = [path for path in folder.rglob("*") if path.is_file() and path.name != "curve.json"]
    assert len(needed) in (3, 4)
    for path in [*needed, curve_path(run, name.split(".")[0])]:
        assert trained(run, name)
        path.rename(path.with_name("elsewhere"))
        assert not trained(run, name)
        assert name not in [trial.name for trial in judged_trials(run)]
        path.with_name("elsewhere").rename(path)
    (folder / "heldout.json").unlink()
    (folder / "steps" / "2").mkdir(parents=True)  # before its step is chosen
    assert trained(run, name)
    assert name not in [trial.name for trial in judged_trials(run)]


def test_all_trainings_of_a_model_are_done_anew_where_one_is(run: Run) -> None:
    """Its curve is drawn over all of them."""
    (run.model_folder("lora-2.fold-2") / "pytorch_lora_weights.safetensors").unlink()
    train.drop_curves(run, ["lora-4"])
    assert trained(run, "lora-2")
    train.drop_curves(run, list(run.config.methods))
    found = {name: trained(run, name) for name in run.config.trials}
    assert [name for name, done in found.items() if not done] == ["lora-2", "lora-2.fold-2"]


def test_nothing_that_a_training_painted_outlives_it(run: Run) -> None:
    for name in ("lora-2", "lora-4", "lora-2.fold-2"):
        for kind in ("", "class", "steps", "now", "control/canny", "control/without"):
            write(run.folder / "images" / kind / name / "0.png")
    write(run.folder / "pictures" / "lora-2" / "0000.png")  # somebody ordered it
    train.clear(run, "lora-2")
    left = {path.relative_to(run.folder).parent.as_posix() for path in run.folder.glob("images/**/0.png")}
    assert not any(name.endswith("/lora-2") for name in left)
    assert sum(name.endswith("/lora-4") for name in left) == sum(name.endswith(".fold-2") for name in left) == 6
    assert not run.model_folder("lora-2").exists()
    assert (run.folder / "pictures" / "lora-2" / "0000.png").is_file()


@pytest.fixture
def trainings(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stands for the trainer: what is trained, and to which step."""
    found: list[tuple[str, int]] = []

    def training(base: Any, tasks: Any, *_: Any) -> None:
        (task,) = tasks
        found.append((task.method.kind, task.num_steps))
        settled(run, task.name)

    def publishing(run: Run, name: str, *_: Any) -> None:
        for file in ("README.md", f"{name}.kohya.safetensors"):
            write(run.model_folder(name) / file)

    monkeypatch.setattr("portrayal.training.trainer.train", training)
    for name in ("training_data", "base_of", "num_photos"):
        monkeypatch.setattr(train, name, lambda *_: 1)
    monkeypatch.setattr(train, "publish_model", publishing)
    return found


def test_the_final_model_is_trained_anew_for_another_model_or_step(run: Run, trainings: list[tuple[str, int]]) -> None:
    picture = run.image_path(FINAL, "street", 0)
    for model, step in (("lora-2", 2), ("lora-2", 2), ("lora-2", 3), ("lora-4", 3), ("lora-4", 3)):
        before = len(trainings)
        train.train_final(run, model, step)
        assert picture.is_file() is (len(trainings) == before and before > 0)  # it was painted by another
        write(picture)
    assert trainings == [("lora", 2), ("lora", 3), ("lora", 3)]
    (run.model_folder(FINAL) / "pytorch_lora_weights.safetensors").unlink()
    train.train_final(run, "lora-4", 3)
    assert len(trainings) == 4
    (run.model_folder(FINAL) / "final.kohya.safetensors").unlink()
    seen: list[Event] = []
    train.train_final(run, "lora-4", 3, progress=seen.append)
    assert (len(trainings), [event.kind for event in seen]) == (4, ["skipped"])
    assert (run.model_folder(FINAL) / "final.kohya.safetensors").is_file()


# Photos ------------------------------------------------------------------------------------------------------------


def test_a_preparation_that_was_killed_is_done_again_whole(
    photos: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its captions too: a bug, they came from the template where the photos were there and nothing said so."""
    described: list[int] = []

    def describe(prepared: Any, plan: Any) -> Any:
        described.append(len(prepared.photos))
        return replace(prepared, photos=[replace(one, caption=f"{one.caption} in red") for one in prepared.photos])

    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise KilledError

    few = tmp_path / "photos"
    few.mkdir()
    for path in sorted(photos.iterdir())[:4]:
        shutil.copy(path, few)
    monkeypatch.setattr(prepare_stage, "described", describe)
    settings = tiny_config.prepare.model_copy(update={"captions": "captioner"})
    config, out = tiny_config.model_copy(update={"prepare": settings}), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Run, "mark_finished", killed)
        portrayal.prepare(few, config, out)
    run = portrayal.prepare(few, config, out)
    manifest = json.loads((run.dataset_folder / "manifest.json").read_text())
    assert all(photo["caption"].endswith(" in red") for photo in manifest["photos"])
    assert described == [4, 4]
    before = (run.dataset_folder / "manifest.json").read_bytes()
    for gone in (next(run.dataset_folder.glob("images/*.png")), run.dataset_folder / "manifest.json"):
        gone.unlink()
        portrayal.prepare(few, config, out)
        assert gone.is_file()
    assert (run.dataset_folder / "manifest.json").read_bytes() == before
    assert described == [4] * 4


# All of a run ------------------------------------------------------------------------------------------------------

DAMAGED = (
    "dataset/images/*.png",
    "models/lora-4.fold-2/pytorch_lora_weights.safetensors",
    "models/lora-2/lora-2.kohya.safetensors",
    "images/control/canny/control.png",
    "looks.json",
    "report.md",
)


def test_what_is_deleted_of_a_run_is_made_again_the_same(
    tiny_run: Run, photos: Path, tiny_config: Config, tmp_path: Path, hashes: Hashes
) -> None:
    """As `portrayal verify` says of what is damaged."""

    def lasting(folder: Path) -> Iterator[tuple[str, str]]:
        """What does not tell when it was made; LoRAs that share a batch with others differ in their last digits."""
        rounded = ("scores.json", "looks.json", "cuts.json")
        for name, digest in hashes(folder).items():
            timed = name.startswith(("stages/", "report", "models/")) and not name.endswith(".safetensors")
            growing = Path(name).name in {"checksums.json", "events.jsonl", "estimate.json", "live.json"}
            if not timed and not growing and "lora-4" not in name and name not in rounded:
                yield name, digest

    shutil.copytree(tiny_run.folder, tmp_path / "run")
    for pattern in DAMAGED:
        next((tmp_path / "run").glob(pattern)).unlink()
    found = portrayal.verify_run(Run.open(tmp_path / "run"))
    assert len(found.problems) >= len(DAMAGED)
    run = portrayal.portray(photos, tiny_config, tmp_path / "run", consent=True)
    assert dict(lasting(run.folder)) == dict(lasting(tiny_run.folder))
    assert hashes(run.folder).keys() >= hashes(tiny_run.folder).keys()
    assert portrayal.verify_run(run).problems == ()


def test_what_was_deleted_with_its_folder_is_trained_again(run: Run) -> None:
    """ "Delete its folder and train it again": the first training's folder holds the curve of all."""
    shutil.rmtree(run.model_folder("lora-2"))
    train.drop_curves(run, ["lora-2"])
    assert [name for name in run.config.trials if not trained(run, name)] == ["lora-2", "lora-2.fold-2"]


def test_an_unfinished_run_is_no_damage(run: Run) -> None:
    write_text(run.folder / "report.html", "")
    write_json(run.folder / "scores.json", {"verdict": {"recommended": "lora-2"}})
    (run.model_folder("lora-2") / "pytorch_lora_weights.safetensors").unlink()
    found = lacking(run)
    assert "lora-2 is not trained" in found
    assert "lora-4 is not trained" not in found
    assert "the recommended model is not trained on all photos" in found
    Image.new("RGB", (8, 8)).save(run.folder / "a.png")
    assert lacking(run) == found
