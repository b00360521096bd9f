"""Trainings of the base of a few thousand weights in `conftest`, and what goes into its UNet, for tests of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portrayal.config import Config, LoraMethod, Method, UnetMethod
from portrayal.models.base import BaseModel
from portrayal.settings import load_config
from portrayal.training.session import session
from portrayal.training.state import TrainingState
from portrayal.training.task import Task, TrainingData

OPTIMIZERS = ("adamw", "adamw8bit", "prodigy", "adafactor")
PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}
TARGETS = ("to_q", "to_out.0", "ff.net.2", "conv1")
UNET = UnetMethod(learning_rate=1e-3, max_train_steps=6)
UNET_AND_TEXT = UNET.model_copy(update={"train_text_encoder": True, "text_encoder_learning_rate": 5e-4})
SMALL = UNET.model_copy(update={"master_weights": False})
"""In bf16 without masters: the optimizer of small cards."""


def lora(rank: int, **settings: Any) -> LoraMethod:
    return LoraMethod(
        **{"rank": rank, "learning_rate": 1e-3, "max_train_steps": 6, "target_modules": TARGETS, **settings}
    )


PACK = (lora(2, alpha=3.0), lora(3), lora(4, alpha=1.0))


def config_of(*settings: str) -> Config:
    fixed = ["training.mixed_precision=no", "training.save_precision=fp32", "training.checkpointing_steps=0"]
    return load_config(None, [*fixed, *settings])


def tasks_of(methods: Sequence[Method], data: TrainingData, folder: Path, seeds: Sequence[int] = ()) -> list[Task]:
    """A training of each method, `m0`, `m1` and so on."""
    given = list(seeds) or [None] * len(methods)
    return [
        Task(f"m{number}", method, data, folder / f"m{number}", seed)
        for number, (method, seed) in enumerate(zip(methods, given, strict=True))
    ]


def started(
    base: BaseModel,
    methods: Sequence[Method],
    data: TrainingData,
    config: Config,
    work: Path,
    seeds: Sequence[int] = (),
) -> AbstractContextManager[TrainingState]:
    return session(base, tasks_of(methods, data, work / "models", seeds), config, work)


def everything_in(state: TrainingState) -> list[Tensor]:
    """Copies of all that a step may change: weights that learn and that compute, and the optimizer's numbers."""
    state.attached.refresh()  # as every step does at its start
    weights = [*state.attached.named_parameters().values(), *state.attached.base.unet.parameters()]
    kept = [value for moments in state.optimizer.state.values() for value in moments.values()]
    return [torch.as_tensor(value).detach().clone() for value in [*weights, *kept]]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


@torch.no_grad()
def stir(state: TrainingState, seed: int = 0) -> None:
    """Move every trained weight somewhere, so that no gradient is zero as at a LoRA's start."""
    generator = torch.Generator().manual_seed(seed)
    for weight in state.attached.named_parameters().values():
        weight.add_(0.2 * torch.randn(weight.shape, generator=generator).to(weight.dtype))
    state.attached.refresh()


@dataclass(frozen=True)
class Seen:
    """What a UNet was given in a forward pass, and its answer."""

    noisy: Tensor
    timesteps: Tensor
    prompts: Tensor
    prediction: Tensor


@contextmanager
def watched(unet: Any) -> Iterator[list[Seen]]:
    """Notes every forward pass of a UNet."""
    seen: list[Seen] = []

    def note(_: Any, inputs: Any, output: Any) -> None:
        seen.append(Seen(*(tensor.detach().clone() for tensor in (*inputs, output.sample))))

    handle = unet.register_forward_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def alpha_bar(timesteps: Tensor) -> Tensor:
    """Of the schedule of Stable Diffusion, from its definition, shape `(B, 1, 1, 1)`."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)[timesteps].view(-1, 1, 1, 1)


def noise_in(noisy: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:
    """The noise that makes latents noisy, solved for: `noisy = √ᾱ·latents + √(1-ᾱ)·noise`."""
    kept = alpha_bar(timesteps)
    return ((noisy.double() - kept.sqrt() * latents.double()) / (1 - kept).sqrt()).float()
