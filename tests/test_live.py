"""Trainings that are looked at while they go on: the same as afterwards, and asked for samples or to stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from portrayal.config import LoraMethod
from portrayal.live import REQUESTS, Pulse, Requests, request_of_training
from portrayal.models.packed_lora import Member, attach_pack
from portrayal.run import Event, Run
from portrayal.settings import load_config
from portrayal.stages.onlook import settle_end, shortened, stopped
from portrayal.stages.steps import kept_steps
from portrayal.stages.train import train
from portrayal.training.session import checkpoint_block

Hashes = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def prepared(photos: Path, tiny_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose photos are ready."""
    from portrayal import prepare

    lora = tiny_config.method.lora.model_copy(update={"max_train_steps": 4})
    method = tiny_config.method.model_copy(update={"lora": lora})
    scene = {"street": tiny_config.generation.scenes["street"]}
    generation = tiny_config.generation.model_copy(update={"scenes": scene, "num_inference_steps": 1})
    config = tiny_config.model_copy(update={"method": method, "generation": generation})
    return prepare(photos, config, tmp_path_factory.mktemp("live") / "prepared", consent=True).folder


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are looked for after every step: a second is long for a training as short as these."""
    monkeypatch.setattr("portrayal.live.SECONDS", 0.0)


def copied(prepared: Path, to: Path) -> Run:
    shutil.copytree(prepared, to)
    return Run.open(to)


def learned(hashes: Hashes, run: Run) -> dict[str, str]:
    """Everything that was learned and read, and every picture; not how long it took."""
    models = hashes(run.folder / "models", "*.safetensors") | hashes(run.folder / "models", "heldout.json")
    return models | hashes(run.folder / "models", "curve.json") | hashes(run.folder / "images")


def losses(run: Run, name: str) -> list[float]:
    lines = (run.model_folder(name) / "training.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def plain(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The study as it is without anybody looking."""
    run = copied(prepared, tmp_path_factory.mktemp("plain") / "run")
    train(run)
    return run


def test_looking_changes_nothing(prepared: Path, plain: Run, tmp_path: Path, hashes: Hashes) -> None:
    """Nor is it done twice: what was read is there when the best steps are sought."""
    run, seen = copied(prepared, tmp_path / "run"), []

    def look(event: Event) -> None:
        if event.stage.startswith("train.") and event.kind == "finished":
            seen.append(sorted(path.parent.name for path in run.folder.glob("models/*/steps/*/heldout.json")))
        if event.stage.startswith("steps.") and event.kind == "started":
            for path in run.folder.glob("models/*/steps/*/heldout.json"):
                path.touch()
                before[path] = path.stat().st_mtime_ns

    before: dict[Path, int] = {}
    train(run, progress=look, live=True)
    assert learned(hashes, run) == learned(hashes, plain)
    assert losses(run, "lora-4") == losses(plain, "lora-4")
    assert losses(run, "unet") == losses(plain, "unet")
    assert seen == [["2", "3"], ["2", "2", "2", "2", "2", "3", "4", "4", "4", "4"]]
    assert len(before) == 10
    assert not (run.folder / REQUESTS).exists()


def test_a_sample_is_what_a_reading_would_have_painted(
    prepared: Path, plain: Run, tmp_path: Path, at_once: None
) -> None:
    run = copied(prepared, tmp_path / "run")

    def ask(event: Event) -> None:
        if event.stage.startswith("train.lora") and event.kind == "progress" and event.done in (1, 2):
            asked.append(request_of_training(run.folder, "sample"))

    asked: list[bool] = []
    train(run, ["lora-2"], progress=ask)
    assert asked == [True, True]
    for name in ("lora-2", "lora-2.fold-2"):
        now = {path.parent.name: path for path in (run.folder / "images" / "now" / name).rglob("*.png")}
        assert sorted(now) == ["2", "3"]
    sample, reading = (run.folder / "images" / kind / "lora-2" / "2" / "street.png" for kind in ("now", "steps"))
    with Image.open(sample) as one, Image.open(reading) as other:
        assert one.tobytes() == other.tobytes()
    assert losses(run, "lora-2") == pytest.approx(losses(plain, "lora-2"), rel=1e-5)  # other company in the batch
    assert not list(run.folder.rglob("sample"))


def test_a_training_that_is_stopped_keeps_its_weights(
    prepared: Path, plain: Run, tmp_path: Path, at_once: None
) -> None:
    run = copied(prepared, tmp_path / "run")

    def ask(event: Event) -> None:
        if event.stage.startswith("train.lora") and event.kind == "progress" and event.done == 1:
            request_of_training(run.folder, "stop")

    train(run, ["lora-2", "lora-4"], progress=ask)
    ends = stopped(run)
    assert set(ends) == {"lora-2", "lora-4"}
    (end,) = set(ends.values())
    assert end == 2
    for name in ("lora-2", "lora-4.fold-2"):
        assert len(losses(run, name)) == end
        told = json.loads((run.model_folder(name) / "method.json").read_text())
        assert told["step"] in shortened([2, 4], end)
    assert losses(run, "lora-2") == losses(plain, "lora-2")[:end]
    curve = json.loads((run.model_folder("lora-2") / "curve.json").read_text())
    assert curve["steps"] == [0, *shortened([2, 4], end)]


def test_where_others_of_a_model_are_done_it_ends_at_a_reading_that_they_have(prepared: Path, tmp_path: Path) -> None:
    run = copied(prepared, tmp_path / "run")
    folder = run.model_folder("lora-2")
    for step in ("2", "4"):
        (folder / "steps" / step).mkdir(parents=True)
    assert settle_end(run, ["lora-2", "lora-2.fold-2"], 1) == 1
    (folder / "method.json").write_text("{}")
    assert settle_end(run, ["lora-2.fold-2"], 1) == 2
    assert settle_end(run, ["lora-2.fold-2"], 3) == 4
    assert stopped(run) == {"lora-2": 4}
    second = run.model_folder("lora-2.fold-2") / "steps"
    (second / "2").mkdir(parents=True)
    trials = [trial for trial in run.config.trials.values() if trial.model == "lora-2"]
    assert kept_steps(run, trials) == [2]


def test_requests_are_heard_only_while_a_training_goes_on(tmp_path: Path) -> None:
    assert not request_of_training(tmp_path, "stop")
    requests = Requests(tmp_path)
    requests.open()
    assert request_of_training(tmp_path, "stop")
    assert request_of_training(tmp_path, "sample")
    assert requests.take() == {"stop", "sample"}
    assert requests.take() == set()
    request_of_training(tmp_path, "stop")
    requests.open()  # the next training: what was asked of another is not meant
    requests.looked = 0.0
    assert requests.take() == set()
    requests.close()
    assert not (tmp_path / REQUESTS).exists()


def test_a_run_says_what_it_is_doing(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path, "train.lora-2")
    pulse.write()
    pulse.beat(5, 100)
    pulse.beat(6, 100)
    told = json.loads((tmp_path / "live.json").read_text())
    assert (told["stage"], told["done"], told["first"], told["memory_gib"]) == ("train.lora-2", 5, 5, None)
    pulse.beat(100, 100)
    assert json.loads((tmp_path / "live.json").read_text())["done"] == 100
    Pulse(tmp_path / "gone", "x").write()  # a disk that refuses is no reason to stop


def test_weights_that_are_saved_on_the_way_leave_checkpointing_on(pocket, tmp_path: Path) -> None:
    """A bug: PEFT's adapters, put on for a moment to write a file, turned it off as they left."""
    pack = attach_pack(pocket, [Member("a", LoraMethod(rank=2), 0)])
    try:
        pocket.unet.enable_gradient_checkpointing(checkpoint_block)
        before = [
            name for name, module in pocket.unet.named_modules() if getattr(module, "gradient_checkpointing", False)
        ]
        assert before
        pack.save(pack.members[0], tmp_path, "fp16")
        after = [
            name for name, module in pocket.unet.named_modules() if getattr(module, "gradient_checkpointing", False)
        ]
        assert after == before
    finally:
        pack.detach()
    assert not recomputing(pocket.unet)


def recomputing(module) -> list[str]:
    """Names of the blocks that are computed anew in the backward pass."""
    return [name for name, part in module.named_modules() if getattr(part, "gradient_checkpointing", False)]


def test_live_is_no_setting(tiny_config) -> None:
    """What is looked at does not change what a run is a function of."""
    assert "live" not in load_config(None).to_toml()
