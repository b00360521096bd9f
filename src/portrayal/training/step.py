"""One optimizer update: read whole on one screen, the same for every method, alone or in a pack.

`launch` draws what the step reads and starts it; on a GPU it returns before the step is done, so that the next one's
numbers are drawn meanwhile. Nothing in `update` waits for the GPU: it can be captured as one graph (`graph`).

Shapes: A forward passes of a step, B pictures of a pass, K learners.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from portrayal.config import LoraMethod
from portrayal.data.batches import Batch, join
from portrayal.errors import TrainingDivergedError
from portrayal.randomness import derived_seed, generator_for
from portrayal.training.loss import Noise, diffusion_loss, draw_noise
from portrayal.training.sharing import GradientSum, all_losses
from portrayal.training.state import Learner, TrainingState

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


@dataclass(frozen=True)
class Inputs:
    """What one forward pass reads.

    Attributes:
        latents: Clean latents, scaled, shape `(B, C, H, W)`.
        noise: What is added to them and has to be found again.
        timesteps: How much of it, shape `(B,)`.
        prompts: Token ids `(B, L)` where the text encoder is trained, else features `(B, L, D)`.
        weights: Share of each picture in the loss of the pass, shape `(B,)`.
        place_weights: Weight of each place in its picture's loss, shape `(B, 1, H, W)`, or nothing.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: Tensor
    weights: Tensor
    place_weights: Tensor | None

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same with every tensor changed."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(one) for name, one in found.items() if one is not None})

    def fill(self, other: Inputs) -> None:
        """Take the other's numbers into this one's memory, without waiting for the copy."""
        for field in fields(self):
            here, there = getattr(self, field.name), getattr(other, field.name)
            if here is not None:
                here.copy_(there.pin_memory(), non_blocking=True)


@dataclass(frozen=True)
class Outputs:
    """What is known of a step: losses `(A, B)`, and the norm of each learner's gradient, `(K,)`."""

    losses: Tensor
    norms: Tensor


Update = Callable[[TrainingState, Sequence[Inputs]], Outputs]


def train_step(state: TrainingState) -> list[StepRecord]:
    """One optimizer update, the same for every method; a record for each learner.

    Raises:
        TrainingDivergedError: If a loss or gradient is not finite; the weights have not been touched then.
    """
    return launch(state).records()


def launch(state: TrainingState, run: Update | None = None) -> Launched:
    """Start one optimizer update.

    Args:
        state: The training.
        run: What does it; nothing means :func:`update`.
    """
    started = time.perf_counter()
    accumulation = state.config.gradient_accumulation_steps
    positions = range(state.step * accumulation, (state.step + 1) * accumulation)
    batches = [join([learner.batches.at(position) for learner in state.learners]) for position in positions]
    inputs = [inputs_of(state, batch, position) for batch, position in zip(batches, positions, strict=True)]
    rates = state.set_rates()
    outputs = (run or update)(state, inputs[state.processes.rank :: state.processes.count])
    state.step += 1
    return Launched(state, state.step, list(state.learners), batches, rates, outputs, started)


def inputs_of(state: TrainingState, batch: Batch, position: int) -> Inputs:
    """A batch with its noise, drawn on the CPU: a function of (seed, position)."""
    num_timesteps, offset = state.base.noise_scheduler.config.num_train_timesteps, state.config.noise_offset
    noise = Noise.join(
        draw_noise(part, num_timesteps, generator=generator_for(one.seed, "train.noise", step=position), offset=offset)
        for one, part in zip(state.learners, batch.latents.chunk(len(state.learners)), strict=True)
    )
    prompts = batch.input_ids if state.trains_text_encoder else batch.prompt_embeds
    return Inputs(batch.latents, noise.values, noise.timesteps, prompts, batch.weights, batch.place_weights)


def update(state: TrainingState, inputs: Sequence[Inputs]) -> Outputs:
    """The update itself: losses, gradients, clipping, optimizer."""
    outputs = gradients(state, [one.map(lambda tensor: to_device(tensor, state.base.device)) for one in inputs])
    descend(state, outputs)
    forget_gradients(state)
    return outputs


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, without waiting for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def gradients(state: TrainingState, inputs: Sequence[Inputs]) -> Outputs:
    """Leave the clipped gradient of the step with the weights."""
    losses, total, passes = [], GradientSum(state), len(inputs) * state.processes.count
    if not writes_weights(state):
        state.attached.refresh()
    for number, one in enumerate(inputs):
        position = state.step * passes + number * state.processes.count + state.processes.rank
        loss_B = batch_loss(state, one, position)
        loss = (loss_B * one.weights).sum() / passes
        (state.scaler.scale(loss) if state.scaler else loss).backward()
        losses.append(loss_B.detach())
        total.add_round()
    total.finish()
    return Outputs(all_losses(torch.stack(losses), state), clipped_norms(state))


def clipped_norms(state: TrainingState) -> Tensor:
    """Scale each learner's gradient down to the longest allowed; how long they were, `(K,)`."""
    optimizer, longest = state.optimizer, state.config.max_grad_norm
    if writes_weights(state):  # it reads the gradients where they are, and scales them itself
        found = [weight.grad for weight in state.weights_of(0)] if state.shards else optimizer.gradients()
        lengths = torch._foreach_norm([one for one in found if one is not None], 2.0, dtype=torch.float32)
        norm: Tensor = torch.linalg.vector_norm(torch.stack(lengths))
        optimizer.clip = (longest / (norm + 1e-6)).clamp(max=1)
        return norm[None]
    state.attached.collect_gradients()
    if state.scaler:
        state.scaler.unscale_(optimizer)
    learners = range(len(state.learners))
    return torch.stack([torch.nn.utils.clip_grad_norm_(state.weights_of(number), longest) for number in learners])


def writes_weights(state: TrainingState) -> bool:
    """Whether the optimizer brings the weights that compute up to date itself."""
    return bool(getattr(state.optimizer, "writes_weights", False))


def descend(state: TrainingState, outputs: Outputs) -> None:
    """Move the weights, unless a gradient is not finite."""
    optimizer, not_finite = state.optimizer, (~outputs.norms.isfinite()).any()
    if getattr(optimizer, "_step_supports_amp_scaling", False):  # asks `found_inf` on the device itself
        optimizer.grad_scale, optimizer.found_inf = None, not_finite.float()
        optimizer.step()
    elif not not_finite:
        optimizer.step()
    if state.shards:
        state.shards.spread(state.attached.computing())
    if state.scaler:
        state.scaler.update()


def forget_gradients(state: TrainingState) -> None:
    """Let the gradients' memory go."""
    state.optimizer.zero_grad(set_to_none=True)
    state.attached.zero_grad()
    for weight in state.weights_of(0) if state.shards else ():  # the optimizer forgets those of its share
        weight.grad = None


def batch_loss(state: TrainingState, inputs: Inputs, position: int) -> Tensor:
    """Loss of each picture of a pass, shape `(B,)`."""
    with state.autocast(), seeded_dropout(state, position):
        prompts = inputs.prompts
        return diffusion_loss(
            state.base.unet,
            state.base.noise_scheduler,
            inputs.latents,
            state.base.text_encoder(prompts)[0] if state.trains_text_encoder else prompts,
            Noise(inputs.noise, inputs.timesteps),
            snr_gamma=state.config.snr_gamma,
            place_weights_B1HW=inputs.place_weights,
            dtype=state.computes_in,
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


class Launched:
    """A step that was started; what came of it can be asked for once.

    Its numbers are copied to where the CPU can read them behind the step, and waited for when they are asked for.
    """

    def __init__(
        self,
        state: TrainingState,
        step: int,
        learners: Sequence[Learner],
        batches: Sequence[Batch],
        rates: Sequence[float],
        outputs: Outputs,
        started: float,
    ) -> None:
        self.state, self.step, self.learners, self.rates, self.started = state, step, learners, rates, started
        self.ids = [batch.ids for batch in batches]
        self.weights, self.photos = (
            torch.stack([torch.as_tensor(getattr(batch, name)) for batch in batches])
            for name in ("weights", "is_photo")
        )
        self.losses, self.norms = (to_host(one) for one in (outputs.losses, outputs.norms))
        self.done = torch.cuda.Event() if outputs.losses.is_cuda else None
        if self.done:
            self.done.record()

    def records(self) -> list[StepRecord]:
        """A record for each learner, once the step is done.

        Raises:
            TrainingDivergedError: If a loss or gradient is not finite; the weights have not been touched then.
        """
        if self.done:
            self.done.synchronize()
        now, state = time.perf_counter(), self.state
        seconds = now - max(self.started, state.clock)
        state.clock = now
        for learner in self.learners:
            learner.seconds += seconds / len(self.learners)
        self._check_losses()
        norms = self.norms.tolist()
        skipped = not all(map(math.isfinite, norms))
        self._note_skipped(skipped)
        rows = [part.unflatten(1, (len(norms), -1)).unbind(1) for part in (self.losses, self.weights, self.photos)]
        return [
            StepRecord(
                step=self.step,
                loss=float((values * shares).sum() / len(self.ids)),
                instance_loss=float(values[is_photo].mean()),
                prior_loss=None if is_photo.all() else float(values[~is_photo].mean()),
                learning_rate=rate,
                grad_norm=0.0 if skipped else norm,
                skipped=skipped,
                images_per_second=round(self.losses.numel() / seconds, 3),
            )
            for rate, norm, values, shares, is_photo in zip(self.rates, norms, *rows, strict=True)
        ]

    def _check_losses(self) -> None:
        """Stop at a loss that is not finite, naming the pictures."""
        bad = [
            name
            for ids, finite in zip(self.ids, torch.isfinite(self.losses).tolist(), strict=True)
            for name, fine in zip(ids, finite, strict=True)
            if not fine
        ]
        if bad:
            raise TrainingDivergedError(
                f"The loss of step {self.step} is not finite (pictures: {', '.join(bad)}).",
                "Lower the learning rate, or train with training.mixed_precision=no. The last checkpoint is intact.",
            )

    def _note_skipped(self, skipped: bool) -> None:
        """Let fp16's loss scale settle; any other gradient that is not finite stops the training."""
        state = self.state
        state.skipped_in_a_row = state.skipped_in_a_row + 1 if skipped else 0
        if state.skipped_in_a_row > (MAX_SKIPPED_IN_A_ROW if state.scaler else 0):
            raise TrainingDivergedError(
                f"The gradients of step {self.step} are not finite.",
                "Lower the learning rate, or train with training.mixed_precision=no. The last checkpoint is intact.",
            )


def to_host(tensor: Tensor) -> Tensor:
    """A copy that the CPU can read once the GPU has come so far."""
    if not tensor.is_cuda:
        return tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)
