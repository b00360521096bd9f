"""The rank decides how much a LoRA can learn, not how fast: by default the first step is as large at every rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from portrayal.models.base import BaseModel
from portrayal.training.step import train_step
from portrayal.training.task import TrainingData
from tests.training.mini import config_of, started

RANKS = (4, 16, 64, 128)


@torch.no_grad()
def predictions(base: BaseModel) -> Tensor:
    """What the UNet says with each LoRA of the pack to noise and a prompt that no training has, `(K, N, C, H, W)`."""
    channels, side, each = base.unet.config.in_channels, base.unet.config.sample_size, 2
    noisy = torch.randn(each, channels, side, side, generator=torch.Generator().manual_seed(0))
    prompts, count = base.encode_prompts(["a portrait of sks woman"]), len(RANKS)
    timesteps = torch.tensor([300, 700]).repeat(count)
    said: Tensor = base.unet(noisy.repeat(count, 1, 1, 1), timesteps, prompts.repeat(count * each, 1, 1)).sample
    return said.unflatten(0, (count, each))


def first_steps(base: BaseModel, data: TrainingData, work: Path, draws: int, *settings: str) -> list[float]:
    """How far the first step moves the prediction at each rank: root of the mean square of its mean over first weights.

    The mean, since what one draw adds is luck, and more of it the fewer weights are drawn: about a fifth at rank 4.
    """
    config = config_of(
        f"study.ranks={list(RANKS)}",
        "study.learning_rates=[1.0]",
        "study.full_unet=false",
        "method.lora.learning_rate=0.001",
        "training.train_batch_size=2",
        *settings,
    )
    methods, moved = [*config.methods.values()], []
    for seed in range(draws):
        with started(base, methods, data, config, work / str(seed), [seed] * len(RANKS)) as state:
            for learner in state.learners:  # which have one noise, whatever they start from
                learner.seed, learner.batches = 0, replace(learner.batches, seed=0)
            before = predictions(base)
            train_step(state)
            moved.append(predictions(base) - before)
    return torch.stack(moved).mean(0).square().flatten(1).mean(1).sqrt().tolist()


def test_the_first_step_is_as_large_at_every_rank(pocket, encoded: TrainingData, tmp_path: Path) -> None:
    moved = first_steps(pocket, encoded, tmp_path, 8)
    assert max(moved) < 1.15 * min(moved)


def test_with_an_equal_scale_it_grows_with_the_rank(pocket, encoded: TrainingData, tmp_path: Path) -> None:
    """What the test above would not let through."""
    moved = first_steps(pocket, encoded, tmp_path, 2, "study.lora_scale=equal")
    assert moved == sorted(moved)
    assert moved[-1] > 5 * moved[0]
