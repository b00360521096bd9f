"""A training that goes on from a checkpoint is the training: in every method, optimizer and precision."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from portrayal.config import LoraMethod, Method
from portrayal.errors import TrainingDivergedError
from portrayal.models.base import BaseModel
from portrayal.models.methods import attach
from portrayal.training import session as session_module
from portrayal.training import step as step_module
from portrayal.training import trainer
from portrayal.training.health import Health
from portrayal.training.keeping import save
from portrayal.training.onlooker import lifted
from portrayal.training.state import TrainingState
from portrayal.training.step import StepRecord, train_step
from portrayal.training.task import Task, TrainingData, check_finite, ended_at
from tests.training.mini import (
    OPTIMIZERS,
    PACKAGES,
    SMALL,
    UNET,
    UNET_AND_TEXT,
    config_of,
    everything_in,
    lora,
    same,
    started,
    tasks_of,
)

PACK: tuple[LoraMethod, ...] = (
    lora(2, alpha=3.0, train_text_encoder=True, text_encoder_learning_rate=2e-4),
    lora(3, train_text_encoder=True, learning_rate=2e-3),
)
METHODS: dict[str, tuple[Method, ...]] = {"unet": (UNET_AND_TEXT,), "pack": PACK}
CASES = [
    *((optimizer, name, "no") for optimizer in OPTIMIZERS for name in METHODS),
    ("adamw", "unet", "fp16"),
    ("adamw", "pack", "fp16"),
    ("adafactor", "unet", "fp16"),
    ("adamw", "small", "bf16"),
    ("adamw", "half pack", "bf16"),
]


def ignore(done: int, total: int) -> None:
    """Progress nobody watches."""


def plain(records: Sequence[StepRecord]) -> list[StepRecord]:
    return [replace(record, images_per_second=0.0) for record in records]


def spoiled_step(state: TrainingState, monkeypatch: pytest.MonkeyPatch) -> list[StepRecord]:
    """A step in which one picture's loss and the gradient are not finite: it is skipped, and remembered."""
    with monkeypatch.context() as patched:
        whole = step_module.clipped_norms
        patched.setattr(step_module, "all_losses", lambda losses, _: losses.index_fill(1, torch.tensor([0]), torch.nan))
        patched.setattr(step_module, "clipped_norms", lambda state: whole(state) * torch.inf)
        return train_step(state)


@pytest.mark.parametrize(("optimizer", "name", "precision"), CASES)
def test_what_goes_on_from_a_checkpoint_is_what_was_not_interrupted(
    mini,
    mini_half,
    mini_data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    name: str,
    precision: str,
) -> None:
    """Weights, averages, loss scale, rates, seconds, and what is remembered of steps that were skipped."""
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer])
    base = mini if name in METHODS else mini_half
    methods = METHODS.get(name, (SMALL,) if name == "small" else PACK)
    settings = [f"training.optimizer.name={optimizer}", f"training.mixed_precision={precision}"]
    config = config_of(*settings, "training.lr_scheduler=cosine", "training.lr_warmup_steps=2")
    work = tmp_path / "work"
    with started(base, methods, mini_data, config, work) as state:
        if state.scaler:
            state.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        before = [plain(train_step(state)), plain(spoiled_step(state, monkeypatch)), plain(train_step(state))]
        for learner in state.learners:
            (work / f"{learner.name}.jsonl").touch()
        save(state, work)
        seconds = [learner.seconds for learner in state.learners]
        kept = everything_in(state)
        scale = state.scaler.get_scale() if state.scaler else None
        health = replace(state.learners[0].health, blamed=dict(state.learners[0].health.blamed))
        after = plain(train_step(state))
        ended = everything_in(state)
    assert [records[0].skipped for records in before] == [False, True, False]
    assert health.skipped == 1
    assert all(seconds)
    with started(base, methods, mini_data, config, work) as state:
        assert state.step == 3
        assert state.learners[0].health == health
        assert [learner.seconds for learner in state.learners] == seconds
        assert (state.scaler.get_scale() if state.scaler else None) == scale
        assert same(everything_in(state), kept)
        assert plain(train_step(state)) == after
        assert same(everything_in(state), ended)


def test_blame_is_remembered_over_an_interruption(mini, mini_data, tmp_path: Path, monkeypatch) -> None:
    """A picture whose loss was not finite the last two times is to blame at the third, in whatever process."""
    config, work = config_of("training.prior_loss_weight=0"), tmp_path / "work"
    data = TrainingData((mini_data.photos[0].subset({"photo0"}),), None)
    tasks = tasks_of([UNET], data, tmp_path)
    for times in (1, 2, 3):
        with session_module.session(mini, tasks, config, work) as state:
            if times > 1:
                assert state.learners[0].health == Health(times - 1, times - 1, {"photo0": times - 1})
            spoiled_step(state, monkeypatch)
            (work / "m0.jsonl").touch()
            save(state, work)
    assert state.learners[0].health.blamed == {"photo0": 3}
    with pytest.raises(TrainingDivergedError):
        for _ in range(3):
            state.learners[0].health.note(4, {"photo0": False, "photo1": True}, skipped=True, fp16=False)


# Time ------------------------------------------------------------------------------------------------------------


def test_the_time_of_a_step_is_shared_by_the_learners_in_it(mini, mini_data, tmp_path: Path, monkeypatch) -> None:
    """By a clock that a second passes on between two looks at it."""
    with started(mini, [lora(2), lora(2), lora(2), lora(2)], mini_data, config_of(), tmp_path) as state:
        ticks = itertools.count(100)
        monkeypatch.setattr(step_module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
        train_step(state)
        assert [learner.seconds for learner in state.learners] == [0.25] * 4
        state.leave(state.learners[0])
        state.leave(state.learners[0])
        train_step(state)
        assert [learner.seconds for learner in state.learners] == [0.75] * 2


# Seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [UNET, lora(3), lora(3, dropout=0.5)], ids=["unet", "pack", "dropout"])
def test_all_that_a_training_draws_follows_from_its_own_seed(mini, mini_data, tmp_path: Path, method: Method) -> None:
    """A trial with a seed in a run of another is that trial in a run of that seed: order, latents, noise, weights."""
    settings = ["training.caption_dropout=0.5", "training.train_batch_size=2", "training.noise_offset=0.1"]
    ends = []
    for seed, of_run in ((7, 0), (None, 7), (None, 0)):
        config = config_of(*settings, f"seed={of_run}")
        task = Task("m", method, mini_data, tmp_path / "m", seed)
        with session_module.session(mini, [task], config, tmp_path / f"{seed}-{of_run}") as state:
            records = [plain(train_step(state)) for _ in range(2)]
            ends.append((records, everything_in(state)))
    (records, weights), (of_run, same_weights), (others, other_weights) = ends
    assert records == of_run
    assert same(weights, same_weights)
    assert records != others
    assert not same(weights, other_weights)


# Readings and ends -----------------------------------------------------------------------------------------------


def weights_in(folder: Path) -> dict[str, Tensor]:
    return {f"{p.parent.name}/{k}": w for p in sorted(folder.rglob("*.safetensors")) for k, w in load_file(p).items()}


@pytest.mark.parametrize(
    "method", [UNET, UNET_AND_TEXT, lora(3, alpha=2.0), lora(2, dropout=0.5)], ids=lambda m: m.kind
)
def test_the_weights_of_a_reading_are_those_of_a_training_that_ends_there(
    mini, mini_data, tmp_path: Path, method: Method
) -> None:
    """Its schedule is that of the whole training, wherever it ends."""
    config = config_of("training.lr_scheduler=linear")
    task = Task("m", method, mini_data, tmp_path / "whole", readings=(1, 3), last_step=3)
    trainer.train(mini, [task], config, tmp_path / "work", ignore)
    assert sorted(path.name for path in (task.folder / "steps").iterdir()) == ["1", "3"]
    assert not list(task.folder.glob("*.safetensors"))
    assert json.loads((task.folder / "method.json").read_text())["step"] == 3
    seen: dict[int, dict[str, Tensor]] = {}
    for step in task.readings:
        ending = Task("m", method, mini_data, tmp_path / str(step), last_step=step)
        trainer.train(mini, [ending], config, tmp_path / "work", ignore)
        described = json.loads((ending.folder / "method.json").read_text())
        assert described["step"] == step
        rates = [
            json.loads(line)["learning_rate"] for line in (ending.folder / "training.jsonl").read_text().splitlines()
        ]
        assert rates == pytest.approx([method.learning_rate * (1 - s / method.max_train_steps) for s in range(step)])
        found, seen[step] = weights_in(ending.folder), weights_in(task.folder / "steps" / str(step))
        assert found.keys() == seen[step].keys()
        assert all(torch.equal(weight, seen[step][key]) for key, weight in found.items())
    assert not same(*([*weights.values()] for weights in seen.values()))


def test_a_pack_keeps_each_members_readings_and_lets_each_go_at_its_end(mini, mini_data, tmp_path: Path) -> None:
    methods = (lora(2, alpha=3.0), lora(3), lora(4, alpha=1.0))
    plans = (((2, 4), None), ((1, 3), 3), ((), 2))
    tasks = [
        replace(task, readings=readings, last_step=end)
        for task, (readings, end) in zip(tasks_of(methods, mini_data, tmp_path / "pack"), plans, strict=True)
    ]
    trainer.train(mini, tasks, config_of(), tmp_path / "work", ignore)
    for task, alone in zip(tasks, tasks_of(methods, mini_data, tmp_path / "alone"), strict=True):
        described = json.loads((task.folder / "method.json").read_text())
        assert described["step"] == task.num_steps
        assert len((task.folder / "training.jsonl").read_text().splitlines()) == task.num_steps
        folders = {step: task.folder / "steps" / str(step) for step in task.readings} or {task.num_steps: task.folder}
        for step, folder in folders.items():
            ending = replace(alone, last_step=step, folder=alone.folder / str(step))
            trainer.train(mini, [ending], config_of(), tmp_path / "work", ignore)
            found, expected = weights_in(folder), weights_in(ending.folder)
            for (_, weight), (_, other) in zip(found.items(), expected.items(), strict=True):
                torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)


def test_a_task_that_is_ended_keeps_its_earlier_readings_and_one_of_its_end(mini_data, tmp_path: Path) -> None:
    task = Task("m", lora(2, max_train_steps=9), mini_data, tmp_path, readings=(2, 5, 9))
    assert task.num_steps == 9
    ended = ended_at(task, 5)
    assert (ended.num_steps, ended.readings) == (5, (2, 5))
    ended = ended_at(task, 7)
    assert (ended.num_steps, ended.readings) == (7, (2, 5, 7))
    assert ended_at(task, 9) is task
    assert ended_at(task, 12) is task
    without = replace(task, readings=())
    assert (ended_at(without, 4).num_steps, ended_at(without, 4).readings) == (4, ())


@pytest.mark.parametrize("checkpointing", ["false", "true"])
@pytest.mark.parametrize("name", METHODS)
def test_looking_at_a_training_changes_nothing_of_it(
    mini, mini_data, tmp_path: Path, name: str, checkpointing: str
) -> None:
    """Meanwhile the base is as it was, and others may be attached to it, which recompute nothing as they leave."""
    config, untouched = config_of(f"training.gradient_checkpointing={checkpointing}"), parts_of(mini)
    ends, modes = [], []
    for looking in (False, True):
        with started(mini, METHODS[name], mini_data, config, tmp_path / str(looking)) as state:
            train_step(state)
            if looking:
                with lifted(state.attached):
                    assert not mini.attached
                    now = parts_of(mini)
                    assert all(now[part].keys() == weights.keys() for part, weights in untouched.items())
                    assert all(same([*now[part].values()], [*untouched[part].values()]) for part in untouched)
                    attach(mini, UNET_AND_TEXT, seed=0).detach()
                    attach(mini, lora(2, train_text_encoder=True), seed=0).detach()
            parts = (mini.unet, mini.text_encoder)
            modes.append([(m.training, getattr(m, "gradient_checkpointing", None)) for p in parts for m in p.modules()])
            assert mini.attached
            train_step(state)
            ends.append(everything_in(state))
    assert same(*ends)
    assert modes[0] == modes[1]
    left = [module for part in (mini.unet, mini.text_encoder) for module in part.modules() if module._forward_hooks]
    assert not left


# What is trained, and what is not --------------------------------------------------------------------------------


def parts_of(base: BaseModel) -> dict[str, dict[str, Tensor]]:
    return {
        part: {name: weight.detach().clone() for name, weight in getattr(base, part).state_dict().items()}
        for part in ("unet", "text_encoder", "vae")
    }


@pytest.mark.parametrize(
    ("methods", "moving"),
    [((UNET,), {"unet"}), ((UNET_AND_TEXT,), {"unet", "text_encoder"}), ((lora(2), lora(3)), set()), (PACK, set())],
    ids=["unet", "unet+text", "pack", "pack+text"],
)
def test_only_what_is_trained_moves_and_the_base_is_given_back_bit_for_bit(
    mini, mini_data, tmp_path: Path, methods: tuple[Method, ...], moving: set[str]
) -> None:
    before = parts_of(mini)
    with started(mini, methods, mini_data, config_of(), tmp_path) as state:
        for _ in range(2):
            train_step(state)
        during = parts_of(mini)
        adapted = {name.split(".")[1] for name, w in state.attached.named_parameters().items() if w.any()}
    for part, weights in before.items():
        here = {name.replace(".base_layer", ""): weight for name, weight in during[part].items()}
        stayed = {name: torch.equal(here[name], weight) for name, weight in weights.items()}
        assert any(stayed.values()) != (part in moving), part
        assert all(stayed.values()) or part in moving, part
    if not moving:
        assert adapted == ({"unet", "text_encoder"} if methods == PACK else {"unet"})
    after = parts_of(mini)
    assert all(after[part].keys() == weights.keys() for part, weights in before.items())
    assert all(torch.equal(after[part][name], w) for part, weights in before.items() for name, w in weights.items())


@pytest.mark.parametrize("kind", ["mean", "std", "prompt_embeds"])
@pytest.mark.parametrize("of_class", [False, True])
def test_pictures_whose_numbers_are_not_finite_are_named_before_training(mini_data, kind: str, of_class: bool) -> None:
    (photos,), (others,) = mini_data.photos, mini_data.class_images
    part: Any = others if of_class else photos
    values = getattr(part, kind).clone()
    values[(1, *[0] * (values.ndim - 1))] = float("inf")
    bad = replace(part, **{kind: values})
    data = TrainingData((photos,), (bad,)) if of_class else TrainingData((bad,), (others,))
    check_finite(mini_data)
    with pytest.raises(TrainingDivergedError, match=f"of {part.ids[1]} is not finite"):
        check_finite(data)
