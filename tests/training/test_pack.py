"""A pack of LoRAs is the LoRAs: each is what it would be had it trained alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from portrayal.config import Config, LoraMethod
from portrayal.errors import UsageError
from portrayal.models.base import load_base
from portrayal.models.methods import LORA_FILE, attach
from portrayal.models.packed_lora import Member, attach_pack
from portrayal.settings import load_config
from portrayal.training import trainer
from portrayal.training.session import session
from portrayal.training.step import train_step
from portrayal.training.task import Task, TrainingData

FIXED = ["training.mixed_precision=no", "training.save_precision=fp32", "training.num_class_images=2"]
CONV = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "conv1", "downsamplers.0.conv")


def config_of(*settings: str) -> Config:
    return load_config(None, [*FIXED, *settings])


def lora(rank: int, steps: int, **settings: Any) -> LoraMethod:
    return LoraMethod(rank=rank, learning_rate=1e-3, max_train_steps=steps, **settings)


def ignore(done: int, total: int) -> None:
    """Progress nobody watches."""


def tasks_in(folder: Path, methods: list[LoraMethod], data: TrainingData, seeds: list[int] | None = None) -> list[Task]:
    return [
        Task(f"lora-{number}", method, data, folder / f"lora-{number}", seeds[number] if seeds else None)
        for number, method in enumerate(methods)
    ]


def files_of(tasks: list[Task]) -> list[dict[str, Tensor]]:
    return [load_file(task.folder / LORA_FILE) for task in tasks]


def losses_of(task: Task) -> list[float]:
    return [json.loads(line)["loss"] for line in (task.folder / "training.jsonl").read_text().splitlines()]


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far the adapters are apart, as a share of their length."""
    assert one.keys() == other.keys()
    apart = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (apart / sum(float(tensor.square().sum()) for tensor in one.values())) ** 0.5


@pytest.fixture(autouse=True)
def base_given_back(pocket) -> Iterator[None]:
    before = {name: value.clone() for name, value in pocket.unet.state_dict().items()}
    yield
    assert not pocket.attached
    assert pocket.unet.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in pocket.unet.state_dict().items())
    assert not any(parameter.requires_grad for parameter in pocket.unet.parameters())


def test_each_starts_from_what_it_would_start_from_alone(pocket) -> None:
    """Bit for bit the weights that a LoRA in PEFT's layers starts from, convolutions and the text encoder's too."""
    methods = [lora(rank, 1, target_modules=CONV, train_text_encoder=True) for rank in (5, 2, 5)]
    members = [
        Member(f"lora-{number}", method, seed)
        for number, (method, seed) in enumerate(zip(methods, (3, 3, 4), strict=True))
    ]
    pack = attach_pack(pocket, members)
    started = [
        {
            name: pack.layers[name[: name.index(".lora_")]].as_peft(weight, up=".lora_B." in name).clone()
            for name, weight in member.weights.items()
        }
        for member in members
    ]
    pack.detach()
    for member, weights in zip(members, started, strict=True):
        alone = attach(pocket, member.method, seed=member.seed)
        expected = {name: weight.clone() for name, weight in alone.named_parameters().items()}
        alone.detach()
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


def test_fifty_steps_of_a_pack_are_fifty_steps_of_each(pocket, encoded, tmp_path: Path) -> None:
    """Ranks 4, 8 and 16, the text encoder's adapters too: losses to 1e-5, weights likewise."""
    data = TrainingData(encoded.photos, None)
    config = config_of("training.prior_loss_weight=0")
    methods = [lora(rank, 50, train_text_encoder=True, text_encoder_learning_rate=5e-4) for rank in (4, 8, 16)]
    packed, alone = (tasks_in(tmp_path / name, methods, data) for name in ("packed", "alone"))
    trainer.train(pocket, packed, config, tmp_path / "work", ignore)
    for task in alone:
        trainer.train(pocket, [task], config, tmp_path / "work", ignore)
    for one, other in zip(packed, alone, strict=True):
        assert losses_of(one) == pytest.approx(losses_of(other), rel=1e-5)
    for one, other in zip(files_of(packed), files_of(alone), strict=True):
        assert difference(one, other) < 1e-5
    assert sorted(path.name for path in packed[0].folder.iterdir()) == sorted(
        path.name for path in alone[0].folder.iterdir()
    )


def test_members_differ_in_all_that_a_study_compares(pocket, encoded, tmp_path: Path) -> None:
    """Rank, alpha, rate, seed, photos, steps; convolutions; accumulation; prior preservation."""
    config = config_of(
        "training.prior_loss_weight=0.5", "training.gradient_accumulation_steps=2", "training.lr_scheduler=cosine",
        "training.snr_gamma=5", "training.caption_dropout=0.3",
    )  # fmt: skip
    (photos,) = encoded.photos
    half = replace(
        photos,
        ids=photos.ids[:2],
        **{name: getattr(photos, name)[:2] for name in ("mean", "std", "input_ids", "prompt_embeds")},
    )
    methods = [
        lora(2, 3, alpha=1, target_modules=CONV),
        lora(5, 5, target_modules=CONV).model_copy(update={"learning_rate": 3e-3}),
        lora(3, 2, target_modules=CONV),
    ]
    seeds = [0, 7, 0]
    packed, alone = (tasks_in(tmp_path / name, methods, encoded, seeds) for name in ("packed", "alone"))
    packed[2], alone[2] = (
        replace(task, data=TrainingData((half,), encoded.class_images)) for task in (packed[2], alone[2])
    )
    trainer.train(pocket, packed, config, tmp_path / "work", ignore)
    for task in alone:
        trainer.train(pocket, [task], config, tmp_path / "work", ignore)
    for one, other in zip(packed, alone, strict=True):
        assert losses_of(one) == pytest.approx(losses_of(other), rel=1e-5)
        assert len(losses_of(one)) == one.method.max_train_steps
    for one, other in zip(files_of(packed), files_of(alone), strict=True):
        assert difference(one, other) < 1e-4  # convolutions sum in another order


@pytest.mark.parametrize("text", [False, True])
def test_half_weights_compute_and_fp32_masters_learn(pocket, encoded, tmp_path: Path, text: bool) -> None:
    """As on every GPU: near what fp32 learns, and no step is lost to rounding."""
    half = load_base(pocket.source, device=torch.device("cpu"), dtype=torch.bfloat16)
    methods = [lora(rank, 6, train_text_encoder=text) for rank in (2, 4)]
    trained = {}
    for name, base, precision in (("half", half, "bf16"), ("whole", pocket, "no")):
        config = config_of("training.prior_loss_weight=0", f"training.mixed_precision={precision}")
        tasks = trained[name] = tasks_in(tmp_path / name, methods, TrainingData(encoded.photos, None))
        with session(base, tasks, config, tmp_path / f"{name}-work") as state:
            dtypes = {weight.dtype for weight in state.attached.named_parameters().values()}
            assert dtypes == {torch.float32}
            assert {layer.down.dtype for layer in state.attached.layers.values()} == {base.dtype}
        trainer.train(base, tasks, config, tmp_path / f"{name}-work", ignore)
    for ours, theirs in zip(trained["half"], trained["whole"], strict=True):
        assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=0.05)
        assert difference(load_file(ours.folder / LORA_FILE), load_file(theirs.folder / LORA_FILE)) < 0.5


def test_the_padding_stays_zero_and_shrinks_when_the_largest_leaves(pocket, encoded, tmp_path: Path) -> None:
    config = config_of("training.prior_loss_weight=0")
    tasks = tasks_in(tmp_path, [lora(2, 9), lora(6, 9)], TrainingData(encoded.photos, None))
    with session(pocket, tasks, config, tmp_path / "work") as state:
        for _ in range(3):
            train_step(state)
        layers = state.attached.layers.values()
        assert all(layer.down.shape[:2] == layer.up.shape[:2] == (2, 6) for layer in layers)
        assert all(not layer.down[0, 2:].any() and not layer.up[0, 2:].any() for layer in layers)
        assert all(layer.up[0, :2].any() for layer in layers)
        state.leave(state.learners[1])
        train_step(state)
        assert all(layer.down.shape[:2] == (1, 2) for layer in state.attached.layers.values())


def test_a_killed_pack_goes_on_to_the_same_weights(pocket, encoded, tmp_path: Path) -> None:
    """Also when a member had left before, with and without a checkpoint since then."""
    config = config_of("training.checkpointing_steps=3", "training.prior_loss_weight=0")
    data = TrainingData(encoded.photos, None)
    methods = [lora(2, 8), lora(4, 4), lora(3, 8)]
    whole = tasks_in(tmp_path / "whole", methods, data)
    trainer.train(pocket, whole, config, tmp_path / "work", ignore)
    for stop in (2, 4, 5, 7):
        tasks = tasks_in(tmp_path / str(stop), methods, data)

        def pull_the_plug(done: int, total: int, stop: int = stop) -> None:
            if done == stop:
                raise RuntimeError("plug pulled")

        with pytest.raises(RuntimeError, match="plug"):
            trainer.train(pocket, tasks, config, tmp_path / "work", pull_the_plug)
        trainer.train(pocket, tasks, config, tmp_path / "work", ignore)
        for one, other in zip(tasks, whole, strict=True):
            assert losses_of(one) == losses_of(other)
            found, wanted = load_file(one.folder / LORA_FILE), load_file(other.folder / LORA_FILE)
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("second", "named"),
    [
        (lora(2, 3, target_modules=("to_q",)), "target_modules"),
        (lora(2, 3, train_text_encoder=True), "train_text_encoder"),
        (lora(2, 3, dropout=0.1), "drop inputs"),
    ],
)
def test_what_cannot_share_a_batch_is_refused(pocket, second: LoraMethod, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        attach_pack(pocket, [Member("one", lora(2, 3), 0), Member("two", second, 0)])
