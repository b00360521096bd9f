"""One optimizer update: read whole on one screen, the same for every method, alone or in a pack.

`launch` draws what the step reads and starts it; on a GPU it returns before the step is done, so that the next one's
numbers are drawn meanwhile. Nothing in `update` waits for the GPU: it can be captured as one graph (`graph`).

Shapes: A forward passes of a step, B pictures of a pass, K learners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from portrayal.config import LoraMethod
from portrayal.data.batches import Batch, join
from portrayal.errors import TrainingDivergedError
from portrayal.randomness import derived_seed, generator_for
from portrayal.training.loss import Noise, diffusion_loss, draw_noise
from portrayal.training.sharing import all_losses, gradient_sum
from portrayal.training.state import Learner, TrainingState


@dataclass(frozen=True)
class StepRecord:
    """What is logged of one optimizer update.

    `loss` is what was descended on; `instance_loss` and `prior_loss` are plain means over photos and class images. What
    is not finite is nothing: such a step is skipped.
    """

    step: int
    loss: float | None
    instance_loss: float | None
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
        TrainingDivergedError: If too many steps in a row were skipped, since a loss or gradient was not finite.
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
    losses, learners = [], len(state.learners)
    total, passes = gradient_sum(state), len(inputs) * state.processes.count
    if not writes_weights(state):
        state.attached.refresh()
    for number, one in enumerate(inputs):
        position, found = state.step * passes + number * state.processes.count + state.processes.rank, []
        parts = parts_of(one, learners, state.adapted.parts)
        for part_number, part in enumerate(parts):
            loss_B = batch_loss(state, part, position, part_number)
            loss = (loss_B * part.weights).sum() / passes
            last = number == len(inputs) - 1 and part_number == len(parts) - 1
            with total.last_pass() if last else nullcontext():
                (state.scaler.scale(loss) if state.scaler else loss).backward()
            found.append(loss_B.detach().unflatten(0, (learners, -1)))
        losses.append(torch.cat(found, dim=1).flatten())
        total.add_round()
    total.finish()
    return Outputs(all_losses(torch.stack(losses), state), clipped_norms(state))


def parts_of(inputs: Inputs, learners: int, parts: int) -> list[Inputs]:
    """A forward pass in several smaller ones, each with rows of every learner, as far as there are rows."""
    if parts == 1:
        return [inputs]
    rows = len(inputs.latents) // learners
    bounds = [rows * number // parts for number in range(parts + 1)]

    def cut(start: int, end: int) -> Inputs:
        return inputs.map(lambda tensor: tensor.unflatten(0, (learners, rows))[:, start:end].flatten(0, 1))

    return [cut(start, end) for start, end in pairwise(bounds) if end > start]


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
    """Move each learner's weights, unless a loss or gradient of its own is not finite."""
    skipped_K = ~finite(outputs.losses, outputs.norms)
    if state.scaler:
        skipped_K = skipped_K.any().expand_as(skipped_K)  # one scale serves all
    state.whole = False
    for number, skipped in enumerate(skipped_K.unbind()):
        with groups_of(state.optimizer, number, len(state.learners)) as optimizer:
            if getattr(optimizer, "_step_supports_amp_scaling", False):  # asks `found_inf` on the device itself
                optimizer.grad_scale, optimizer.found_inf = None, skipped.float()
                optimizer.step()
            elif not skipped:
                optimizer.step()
    if state.shards:
        state.shards.spread(state.attached.computing())
    if state.scaler:
        state.scaler.update()
    state.whole = True


def finite(losses: Tensor, norms: Tensor) -> Tensor:
    """Whether all losses `(A, B)` of each learner and the norm of its gradient `(K,)` are finite, `(K,)`."""
    of_losses: Tensor = losses.isfinite().unflatten(1, (len(norms), -1)).all(dim=2).all(dim=0)
    return norms.isfinite() & of_losses


@contextmanager
def groups_of(optimizer: Any, number: int, learners: int) -> Iterator[Any]:
    """An optimizer that knows one learner's parameter groups alone, for a while."""
    groups = optimizer.param_groups
    if learners > 1:
        optimizer.param_groups = [group for group in groups if group["member"] == number]
    try:
        yield optimizer
    finally:
        optimizer.param_groups = groups


def forget_gradients(state: TrainingState) -> None:
    """Let the gradients' memory go."""
    state.optimizer.zero_grad(set_to_none=True)
    state.attached.zero_grad()
    for weight in state.weights_of(0) if state.shards else ():  # the optimizer forgets those of its share
        weight.grad = None


def batch_loss(state: TrainingState, inputs: Inputs, position: int, part: int = 0) -> Tensor:
    """Loss of each picture of a pass, or of a part of it, shape `(B,)`."""
    with state.autocast(), seeded_dropout(state, position, part):
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
def seeded_dropout(state: TrainingState, position: int, part: int) -> Iterator[None]:
    """Dropout can only draw from the global generator: seed it inside, and give it back as it was."""
    learner = state.learners[0]  # members of a pack drop nothing
    if not (isinstance(learner.method, LoraMethod) and learner.method.dropout):
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(learner.seed, "train.dropout", part, position))
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
        """A record for each learner, once the step is done; one of several that cannot go on is marked.

        Raises:
            TrainingDivergedError: If too many steps in a row of the only learner were skipped; none of them has touched
                the weights.
        """
        if self.done:
            self.done.synchronize()
        now, state = time.perf_counter(), self.state
        seconds = now - max(self.started, state.clock)
        state.clock = now
        for learner in self.learners:
            learner.seconds += seconds / len(self.learners)
        norms, skipped_K = self.norms.tolist(), (~finite(self.losses, self.norms)).tolist()
        if state.scaler and any(skipped_K):
            skipped_K = [True] * len(skipped_K)
        for number, (learner, skipped) in enumerate(zip(self.learners, skipped_K, strict=True)):
            self.note(number, learner, skipped=skipped)
        rows = [part.unflatten(1, (len(norms), -1)).unbind(1) for part in (self.losses, self.weights, self.photos)]
        return [
            StepRecord(
                step=self.step,
                loss=known((values * shares).sum() / len(self.ids)),
                instance_loss=known(values[is_photo].mean()),
                prior_loss=None if is_photo.all() else known(values[~is_photo].mean()),
                learning_rate=rate,
                grad_norm=0.0 if skipped else norm,
                skipped=skipped,
                images_per_second=round(self.losses.numel() / seconds, 3),
            )
            for rate, norm, skipped, values, shares, is_photo in zip(self.rates, norms, skipped_K, *rows, strict=True)
        ]

    def note(self, number: int, learner: Learner, *, skipped: bool) -> None:
        """Count the step in a learner's health.

        Raises:
            TrainingDivergedError: If it is the only one and going on is of no use.
        """
        count, pictures = len(self.learners), dict[str, bool]()
        fine = self.losses.isfinite().unflatten(1, (count, -1))[:, number].tolist()
        for ids, row in zip(self.ids, fine, strict=True):
            of_learner = ids[number * len(row) : (number + 1) * len(row)]
            for name, is_fine in zip(of_learner, row, strict=True):
                pictures[name] = pictures.get(name, True) and is_fine
        try:
            learner.health.note(self.step, pictures, skipped=skipped, fp16=self.state.scaler is not None)
        except TrainingDivergedError as error:
            if count == 1:
                raise
            learner.diverged = learner.diverged or error


def known(value: Tensor) -> float | None:
    """A number, or nothing if it is not finite, which JSON has no word for."""
    return float(value) if value.isfinite() else None


def to_host(tensor: Tensor) -> Tensor:
    """A copy that the CPU can read once the GPU has come so far."""
    if not tensor.is_cuda:
        return tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)
