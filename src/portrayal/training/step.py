"""One optimizer update: read whole on one screen, the same for every method, alone or in a pack.

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

from portrayal.config import LoraMethod, Method, TrainingConfig
from portrayal.data.batches import Batch, BatchSource, join
from portrayal.errors import TrainingDivergedError
from portrayal.models.base import BaseModel
from portrayal.models.methods import Attached
from portrayal.models.packed_lora import Pack
from portrayal.randomness import derived_seed, generator_for
from portrayal.training.loss import Noise, diffusion_loss, draw_noise

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
class Learner:
    """One model in training, alone or in a pack.

    Attributes:
        name: Such as `lora-64`.
        method: What is trained.
        batches: What it is trained on.
        seed: Of its noise; learners with one seed and one source of batches meet the same noise.
        seconds: Its share of the time so far.
    """

    name: str
    method: Method
    batches: BatchSource
    seed: int
    seconds: float = 0.0


@dataclass
class TrainingState:
    """Everything one step reads and writes.

    Attributes:
        learners: One, or those of a pack, in the order of their rows in a batch.
        optimizer: Over the weights of all; with several learners `member` of its groups says whose they are.
    """

    base: BaseModel
    attached: Attached | Pack
    accelerator: Any
    optimizer: Any
    lr_scheduler: Any
    learners: list[Learner]
    config: TrainingConfig
    step: int = 0
    skipped_in_a_row: int = 0

    @property
    def trains_text_encoder(self) -> bool:
        """Whether prompts must be encoded anew in every step."""
        return self.learners[0].method.train_text_encoder

    def weights_of(self, number: int) -> list[Tensor]:
        """The trainable weights of one learner."""
        groups = self.optimizer.param_groups
        return [weight for group in groups if group.get("member", 0) == number for weight in group["params"]]

    def leave(self, learner: Learner) -> None:
        """Let a learner that is done go: the others of its pack go on as they were."""
        if len(self.learners) == 1:
            self.learners.clear()
            return
        assert isinstance(self.attached, Pack)
        number = self.learners.index(learner)
        groups, schedule = self.optimizer.param_groups, self.lr_scheduler
        kept = [place for place, group in enumerate(groups) if group["member"] != number]
        for weight in self.weights_of(number):
            self.optimizer.state.pop(weight, None)
        groups[:] = [groups[place] for place in kept]
        for group in groups:
            group["member"] -= group["member"] > number
        schedule.lr_lambdas = [schedule.lr_lambdas[place] for place in kept]
        schedule.base_lrs = [schedule.base_lrs[place] for place in kept]
        self.attached.leave(self.attached.members[number])
        self.learners.remove(learner)

    def snapshot(self) -> dict[str, Any]:
        """All that resuming needs."""
        return {
            "learners": {learner.name: learner.seconds for learner in self.learners},
            "step": self.step,
            "parameters": dict(self.attached.named_parameters()),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot; learners that had left by then leave."""
        for learner in [learner for learner in self.learners if learner.name not in snapshot["learners"]]:
            self.leave(learner)
        named = self.attached.named_parameters()
        with torch.no_grad():
            for name, tensor in snapshot["parameters"].items():
                named[name].copy_(tensor)
        self.optimizer.load_state_dict(snapshot["optimizer"])
        self.lr_scheduler.load_state_dict(snapshot["lr_scheduler"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(snapshot["scaler"])
        self.step = snapshot["step"]
        for learner in self.learners:
            learner.seconds = snapshot["learners"][learner.name]


def train_step(state: TrainingState) -> list[StepRecord]:
    """One optimizer update, the same for every method; a record for each learner.

    Raises:
        TrainingDivergedError: If a loss or gradient is not finite; the weights have not been touched then.
    """
    started = time.perf_counter()
    accumulation = state.config.gradient_accumulation_steps
    losses, weights, photos = [], [], []
    for micro_step in range(accumulation):
        position = state.step * accumulation + micro_step
        batch = join([learner.batches.at(position) for learner in state.learners]).to(state.base.device)
        loss_B = batch_loss(state, batch, position)
        state.accelerator.backward((loss_B * batch.weights).sum() / accumulation)
        losses.append(loss_B.detach())
        weights.append(batch.weights)
        photos.append(torch.tensor(batch.is_photo))
        check_finite(loss_B, batch, state.step)
    state.attached.share_gradients()
    state.accelerator.unscale_gradients()
    norms = [clipped_norm(state, number) for number in range(len(state.learners))]
    skipped = not all(math.isfinite(norm) for norm in norms)
    note_skipped(state, skipped)
    rates = {group.get("member", 0): float(group["lr"]) for group in reversed(state.optimizer.param_groups)}
    state.optimizer.step()  # with fp16 the scaler leaves the weights alone when a gradient overflowed
    state.lr_scheduler.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.attached.zero_grad()
    state.step += 1
    seconds = time.perf_counter() - started
    for learner in state.learners:
        learner.seconds += seconds / len(state.learners)
    rows = [torch.stack(part).cpu().unflatten(1, (len(norms), -1)) for part in (losses, weights, photos)]
    return [
        StepRecord(
            step=state.step,
            loss=float((values * shares).sum() / accumulation),
            instance_loss=float(values[is_photo].mean()),
            prior_loss=None if is_photo.all() else float(values[~is_photo].mean()),
            learning_rate=rates[number],
            grad_norm=norm if not skipped else 0.0,
            skipped=skipped,
            images_per_second=round(values.numel() / seconds, 3),
        )
        for number, (norm, values, shares, is_photo) in enumerate(
            zip(norms, *(part.unbind(1) for part in rows), strict=True)
        )
    ]


def clipped_norm(state: TrainingState, number: int) -> float:
    """Scale the gradients of one learner down to the longest allowed; how long they were."""
    return float(torch.nn.utils.clip_grad_norm_(state.weights_of(number), state.config.max_grad_norm))


def batch_loss(state: TrainingState, batch: Batch, position: int) -> Tensor:
    """Loss of each picture of a batch, shape `(B,)`."""
    scheduler = state.base.noise_scheduler
    parts = batch.latents.chunk(len(state.learners))
    noise = Noise.join(
        draw_noise(
            part,
            scheduler.config.num_train_timesteps,
            generator=generator_for(learner.seed, "train.noise", step=position),
            offset=state.config.noise_offset,
        )
        for learner, part in zip(state.learners, parts, strict=True)
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
    learner = state.learners[0]  # members of a pack drop nothing
    if not (isinstance(learner.method, LoraMethod) and learner.method.dropout):
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(learner.seed, "train.dropout", step=position))
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
