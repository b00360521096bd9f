"""What a training holds between two steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from portrayal.config import Method, TrainingConfig, UnetMethod
from portrayal.data.batches import BatchSource
from portrayal.errors import TrainingDivergedError
from portrayal.models.base import BaseModel
from portrayal.models.methods import DTYPES, Attached
from portrayal.models.packed_lora import Pack
from portrayal.processes import ALONE, Processes
from portrayal.training.health import Adaptation, Health
from portrayal.training.shards import Shards

HARDWARE_KEYS = ("lr", "capturable", "fused", "foreach", "weights")
"""What of an optimizer's groups belongs to this machine and step, not to a checkpoint."""


@dataclass
class Learner:
    """One model in training, alone or in a pack.

    Attributes:
        name: Such as `lora-64`.
        method: What is trained.
        batches: What it is trained on.
        seed: Of its noise; learners with one seed and one source of batches meet the same noise.
        seconds: Its share of the time so far.
        health: Which of its steps were skipped.
        diverged: Why it cannot go on, once it cannot, while others of its pack can.
    """

    name: str
    method: Method
    batches: BatchSource
    seed: int
    seconds: float = 0.0
    health: Health = field(default_factory=Health)
    diverged: TrainingDivergedError | None = None


@dataclass(frozen=True)
class Rate:
    """Learning rate of a parameter group: `highest` times a function of the step."""

    highest: float
    schedule: Callable[[int], float]

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        return self.highest * self.schedule(step)


@dataclass
class TrainingState:
    """Everything one step reads and writes.

    Attributes:
        learners: One, or those of a pack, in the order of their rows in a batch.
        optimizer: Over the weights of all; with several learners `member` of its groups says whose they are.
        rates: Of each of its groups.
        scaler: Scales the loss in fp16; nothing in other formats.
        accelerator: Knows the trackers.
        step: Steps taken.
        adapted: How the training departs from its settings.
        whole: Whether the weights are those of `step`, and not on their way to the next.
        clock: When the last step was done.
        rate_buffer: The groups' learning rates where the optimizer reads them on the GPU, or nothing.
        processes: Who shares its steps.
        shards: Who keeps which of the optimizer's numbers, if not each all of them.
    """

    base: BaseModel
    attached: Attached | Pack
    accelerator: Any
    optimizer: Any
    rates: list[Rate]
    learners: list[Learner]
    config: TrainingConfig
    scaler: torch.amp.GradScaler | None = None
    step: int = 0
    adapted: Adaptation = field(default_factory=Adaptation)
    whole: bool = True
    clock: float = 0.0
    rate_buffer: Tensor | None = None
    processes: Processes = ALONE
    shards: Shards | None = None

    def __post_init__(self) -> None:
        self.hold_rates()

    @property
    def trains_text_encoder(self) -> bool:
        """Whether prompts must be encoded anew in every step."""
        return self.learners[0].method.train_text_encoder

    @property
    def computes_in(self) -> torch.dtype:
        """Number format of the UNet's inputs: half where all weights that compute are half, else fp32."""
        halves = isinstance(self.attached, Pack) or isinstance(self.attached.method, UnetMethod)
        dtype: torch.dtype = self.base.unet.dtype if halves else torch.float32
        return dtype

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision where weights are fp32; half weights compute in their own format."""
        precision = self.config.mixed_precision
        if precision == "no" or self.computes_in != torch.float32:
            return nullcontext()
        return torch.autocast(self.base.device.type, DTYPES[precision], cache_enabled=False)

    def set_rates(self) -> list[float]:
        """Give the optimizer the rates of this step; those of each learner's first group."""
        rates = [rate.at(self.step) * self.adapted.rate_at(self.step) for rate in self.rates]
        groups = self.optimizer.param_groups
        if self.rate_buffer is not None:
            self.rate_buffer.copy_(torch.tensor(rates).pin_memory(), non_blocking=True)
        else:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
        first = {group.get("member", 0): rate for group, rate in reversed(list(zip(groups, rates, strict=True)))}
        return [first[number] for number in range(len(self.learners))]

    def hold_rates(self) -> None:
        """Let an optimizer that can be captured read its rates from one tensor: one copy a step sets them all."""
        groups = self.optimizer.param_groups
        if groups[0].get("capturable"):
            self.rate_buffer = torch.zeros(len(groups), device=self.base.device)
            for group, rate in zip(groups, self.rate_buffer, strict=True):
                group["lr"] = rate

    def weights_of(self, number: int) -> list[Tensor]:
        """The trainable weights of one learner."""
        if self.shards and isinstance(self.attached, Attached):  # the optimizer knows its share alone
            return [*self.attached.computing().values()]
        groups = self.optimizer.param_groups
        return [weight for group in groups if group.get("member", 0) == number for weight in group["params"]]

    def trainable(self) -> list[Tensor]:
        """The trainable weights of all learners."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def leave(self, learner: Learner) -> None:
        """Let a learner that is done go: the others of its pack go on as they were."""
        if len(self.learners) == 1:
            self.learners.clear()
            return
        assert isinstance(self.attached, Pack)
        number = self.learners.index(learner)
        groups = self.optimizer.param_groups
        kept = [place for place, group in enumerate(groups) if group["member"] != number]
        for weight in self.weights_of(number):
            self.optimizer.state.pop(weight, None)
        groups[:] = [groups[place] for place in kept]
        for group in groups:
            group["member"] -= group["member"] > number
        self.rates = [self.rates[place] for place in kept]
        self.hold_rates()
        self.attached.leave(self.attached.members[number])
        self.learners.remove(learner)

    def snapshot(self) -> dict[str, Any]:
        """All that resuming needs; of shards, once they are gathered."""
        optimizer = self.shards.whole_state(self.optimizer) if self.shards else self.optimizer.state_dict()
        parameters = dict(self.attached.named_parameters())
        groups = [
            {key: value for key, value in group.items() if key not in HARDWARE_KEYS}
            for group in optimizer["param_groups"]
        ]
        return {
            "learners": {
                learner.name: {"seconds": learner.seconds, "health": asdict(learner.health)}
                for learner in self.learners
            },
            "step": self.step,
            "parameters": self.shards.whole_parameters(parameters) if self.shards else parameters,
            "optimizer": optimizer | {"param_groups": groups},
            "scaler": self.scaler.state_dict() if self.scaler else {},
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to a snapshot; learners that had left by then leave."""
        for learner in [learner for learner in self.learners if learner.name not in snapshot["learners"]]:
            self.leave(learner)
        named = {**self.attached.computing(), **self.attached.named_parameters()}
        with torch.no_grad():
            for name, tensor in snapshot["parameters"].items():
                named[name].copy_(tensor)
            self.attached.refresh()
        optimizer = snapshot["optimizer"]
        restore_optimizer(self.optimizer, self.shards.own_state(optimizer) if self.shards else optimizer)
        self.hold_rates()
        if self.scaler:
            self.scaler.load_state_dict(snapshot["scaler"])
        self.step = snapshot["step"]
        for learner in self.learners:
            saved = snapshot["learners"][learner.name]
            learner.seconds, learner.health = saved["seconds"], Health(**saved["health"])


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Give an optimizer a saved state; what belongs to this machine stays its own."""
    kept = [{key: group[key] for key in HARDWARE_KEYS if key in group} for group in optimizer.param_groups]
    groups = [group | own for group, own in zip(saved["param_groups"], kept, strict=True)]
    optimizer.load_state_dict({**saved, "param_groups": groups})
    for group, own in zip(optimizer.param_groups, kept, strict=True):  # themselves: loading makes copies
        group.update(own)
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == weight.shape and moment.stride() != weight.stride():
                lying = torch.empty_like(
                    weight, dtype=moment.dtype
                )  # as the weight does, so that kernels can pair them
                moments[name] = lying.copy_(moment)
