"""One optimizer update: read whole on one screen, the same for every method.

Shapes: B pictures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from portrayal.config import LoraMethod, TrainingConfig
from portrayal.data.batches import Batch, BatchSource
from portrayal.errors import TrainingDivergedError
from portrayal.models.base import BaseModel
from portrayal.models.methods import Attached
from portrayal.randomness import derived_seed, generator_for
from portrayal.training.loss import diffusion_loss, draw_noise

MAX_SKIPPED_IN_A_ROW = 20


@dataclass(frozen=True)
class StepRecord:
    """What is logged of one optimizer update.

    `loss` is what was descended on; `instance_loss` and `prior_loss` are plain means over photos and class images.
    """

    step: int
    loss: float
    instance_loss: float
    prior_loss: float | None
    learning_rate: float
    grad_norm: float
    skipped: bool
    images_per_second: float


@dataclass
class TrainingState:
    """Everything one step reads and writes."""

    base: BaseModel
    attached: Attached
    accelerator: Any
    optimizer: Any
    lr_scheduler: Any
    batches: BatchSource
    config: TrainingConfig
    seed: int
    step: int = 0
    seconds: float = 0.0
    skipped_in_a_row: int = 0

    @property
    def trains_text_encoder(self) -> bool:
        """Whether prompts must be encoded anew in every step."""
        return self.attached.method.train_text_encoder

    def snapshot(self) -> dict[str, Any]:
        """All that resuming needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "parameters": dict(self.attached.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot."""
        named = self.attached.named_parameters()
        with torch.no_grad():
            for name, tensor in snapshot["parameters"].items():
                named[name].copy_(tensor)
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.lr_scheduler.load_state_dict(snapshot["lr_scheduler"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(snapshot["scaler"])
        self.step, self.seconds = snapshot["step"], snapshot["seconds"]


def train_step(state: TrainingState) -> StepRecord:
    """One optimizer update, the same for every method.

    Raises:
        TrainingDivergedError: If a loss or gradient is not finite; the weights have not been touched then.
    """
    started = time.perf_counter()
    accumulation = state.config.gradient_accumulation_steps
    losses, weights, photos = [], [], []
    for micro_step in range(accumulation):
        position = state.step * accumulation + micro_step
        batch = state.batches.at(position).to(state.base.device)
        loss_B = batch_loss(state, batch, position)
        state.accelerator.backward((loss_B * batch.weights).sum() / accumulation)
        losses.append(loss_B.detach())
        weights.append(batch.weights)
        photos.append(torch.arange(len(loss_B)) < batch.num_photos)
        check_finite(loss_B, batch, state.step)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    grad_norm = float(state.accelerator.clip_grad_norm_(parameters, state.config.max_grad_norm))
    skipped = not math.isfinite(grad_norm)
    note_skipped(state, skipped)
    learning_rate = float(state.optimizer.param_groups[0]["lr"])
    state.optimizer.step()  # with fp16 the scaler leaves the weights alone when a gradient overflowed
    state.lr_scheduler.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    seconds = time.perf_counter() - started
    state.seconds += seconds
    values, is_photo = torch.cat(losses).cpu(), torch.cat(photos)
    return StepRecord(
        step=state.step,
        loss=float((values * torch.cat(weights).cpu()).sum() / accumulation),
        instance_loss=float(values[is_photo].mean()),
        prior_loss=None if is_photo.all() else float(values[~is_photo].mean()),
        learning_rate=learning_rate,
        grad_norm=grad_norm if not skipped else 0.0,
        skipped=skipped,
        images_per_second=round(len(values) / seconds, 3),
    )


def batch_loss(state: TrainingState, batch: Batch, position: int) -> Tensor:
    """Loss of each picture of a batch, shape `(B,)`."""
    scheduler = state.base.noise_scheduler
    noise = draw_noise(
        batch.latents,
        scheduler.config.num_train_timesteps,
        generator=generator_for(state.seed, "train.noise", step=position),
        offset=state.config.noise_offset,
    )
    with state.accelerator.autocast(), seeded_dropout(state, position):
        embeds = state.base.text_encoder(batch.input_ids)[0] if state.trains_text_encoder else batch.prompt_embeds
        return diffusion_loss(
            state.base.unet,
            scheduler,
            batch.latents,
            embeds,
            noise,
            snr_gamma=state.config.snr_gamma,
            place_weights_B1HW=batch.place_weights,
        )


@contextmanager
def seeded_dropout(state: TrainingState, position: int) -> Iterator[None]:
    """Dropout can only draw from the global generator: seed it inside, and give it back as it was."""
    method = state.attached.method
    if not (isinstance(method, LoraMethod) and method.dropout):
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(state.seed, "train.dropout", step=position))
        yield


def check_finite(loss_B: Tensor, batch: Batch, step: int) -> None:
    """Stop before a loss that is not finite reaches the weights, naming the pictures."""
    finite = torch.isfinite(loss_B).tolist()
    if not all(finite):
        bad = ", ".join(photo for photo, fine in zip(batch.ids, finite, strict=True) if not fine)
        raise TrainingDivergedError(
            f"The loss of step {step + 1} is not finite (pictures: {bad}).",
            "Lower the learning rate, or train with training.mixed_precision=no. The last checkpoint is intact.",
        )


def note_skipped(state: TrainingState, skipped: bool) -> None:
    """Let fp16's loss scale settle; anything else that is not finite stops the training."""
    state.skipped_in_a_row = state.skipped_in_a_row + 1 if skipped else 0
    scaled = state.accelerator.scaler is not None
    if state.skipped_in_a_row > (MAX_SKIPPED_IN_A_ROW if scaled else 0):
        raise TrainingDivergedError(
            f"The gradients of step {state.step + 1} are not finite.",
            "Lower the learning rate, or train with training.mixed_precision=no. The last checkpoint is intact.",
        )
