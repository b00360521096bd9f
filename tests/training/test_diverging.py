"""A LoRA that diverges is its own affair: the others of its pack go on as if it had never been there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from portrayal.config import LoraMethod
from portrayal.errors import TrainingDivergedError
from portrayal.models.methods import LORA_FILE
from portrayal.training import step as step_module
from portrayal.training import trainer
from portrayal.training.state import TrainingState
from portrayal.training.task import Task
from tests.training.mini import config_of

STEPS = 14


def task(name: str, data: Any, folder: Path, *, rank: int = 4, keeps_rate: bool = False) -> Task:
    method = LoraMethod(rank=rank, learning_rate=1e-3, max_train_steps=STEPS)
    return Task(name, method, data, folder / name, seed=3, keeps_rate=keeps_rate)


@pytest.fixture
def explode(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Losses of learners of these names are not finite after so many steps."""

    def arrange(*names: str, after: int = 7) -> None:
        whole = step_module.gradients

        def exploding(state: TrainingState, inputs: Sequence[Any]) -> Any:
            found = whole(state, inputs)
            losses = found.losses.unflatten(1, (len(state.learners), -1)).clone()
            for number, learner in enumerate(state.learners):
                if learner.name in names and state.step >= after:
                    losses[:, number] = float("nan")
            return replace(found, losses=losses.flatten(1))

        monkeypatch.setattr(step_module, "gradients", exploding)

    return arrange


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / LORA_FILE)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_the_others_of_a_pack_go_on_as_they_would_alone(mini, mini_data, tmp_path, explode, optimizer: str) -> None:
    config, said = config_of(f"training.optimizer.name={optimizer}"), list[str]()
    alone = [task("a", mini_data, tmp_path / "alone"), task("c", mini_data, tmp_path / "alone", rank=2)]
    trainer.train(mini, alone, config, tmp_path / "work", lambda *_: None, said.append)
    explode("b")
    pack = [task(name, mini_data, tmp_path / "pack", rank=rank) for name, rank in (("a", 4), ("b", 8), ("c", 2))]
    trainer.train(mini, pack, config, tmp_path / "work", lambda *_: None, said.append)
    for name in ("a", "c"):
        ours, theirs = weights(tmp_path / "pack" / name), weights(tmp_path / "alone" / name)
        for key in theirs:
            assert torch.allclose(ours[key].float(), theirs[key].float(), atol=2e-5), key
        described = json.loads((tmp_path / "pack" / name / "method.json").read_text())
        assert (described["step"], described["skipped_steps"], described["adapted"]) == (STEPS, 0, {})
    left = sorted(path.name for path in (tmp_path / "pack" / "b").iterdir())
    assert left == ["diverged.json", "training.jsonl"]
    record = json.loads((tmp_path / "pack" / "b" / "diverged.json").read_text())
    assert record["name"] == "b"
    assert "learning rate is too high" in record["cause"]
    rows = [json.loads(line) for line in (tmp_path / "pack" / "b" / "training.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows[7:]] == [None] * 6
    assert [one for one in said if one.startswith("b diverged and is set aside")]
    assert not (tmp_path / "work").exists()


def test_steps_that_a_learner_skips_are_its_own(mini, mini_data, tmp_path, explode) -> None:
    """Two skipped steps of one learner leave its weights and averages alone, and nobody else's."""
    config = config_of()
    pack = [task(name, mini_data, tmp_path) for name in ("a", "b")]
    with trainer.session(mini, pack, config, tmp_path / "work") as state:
        step_module.train_step(state)
        explode("b", after=1)
        before = [[weight.clone() for weight in state.weights_of(number)] for number in (0, 1)]
        records = step_module.train_step(state)
        assert [record.skipped for record in records] == [False, True]
        moved = [
            any(not torch.equal(one, other) for one, other in zip(row, state.weights_of(number), strict=True))
            for number, row in enumerate(before)
        ]
        assert moved == [True, False]
        steps = [{float(state.optimizer.state[weight]["step"]) for weight in state.weights_of(n)} for n in (0, 1)]
        assert steps == [{2.0}, {1.0}]
        assert [learner.health.skipped for learner in state.learners] == [0, 1]


def test_a_pack_that_diverges_as_a_whole_goes_on_with_a_lower_rate(mini, mini_data, tmp_path, explode) -> None:
    said = list[str]()
    explode("a", "b")
    pack = [task(name, mini_data, tmp_path) for name in ("a", "b")]
    with pytest.raises(TrainingDivergedError, match="in a row"):
        trainer.train(mini, pack, config_of(), tmp_path / "work", lambda *_: None, said.append)
    assert len([one for one in said if "a quarter of what it was" in one]) == 2


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_trainings_that_are_compared_keep_their_rate(mini, mini_data, tmp_path, explode, names) -> None:
    said = list[str]()
    explode(*names)
    pack = [task(name, mini_data, tmp_path, keeps_rate=True) for name in names]
    trainer.train(mini, pack, config_of(), tmp_path / "work", lambda *_: None, said.append)
    for name in names:
        assert [path.name for path in sorted((tmp_path / name).iterdir())] == ["diverged.json", "training.jsonl"]
    assert not [one for one in said if "a quarter" in one]
    assert not (tmp_path / "work").exists()


def test_readings_of_a_training_that_diverged_are_gone(mini, mini_data, tmp_path, explode) -> None:
    explode("b")
    pack = [replace(task(name, mini_data, tmp_path), readings=(5, STEPS)) for name in ("a", "b")]
    trainer.train(mini, pack, config_of(), tmp_path / "work", lambda *_: None)
    assert not (tmp_path / "b" / "steps").exists()
    assert (tmp_path / "a" / "steps" / "5").is_dir()
