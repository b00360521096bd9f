"""What stands while a training goes on: the method in place on the base, optimizer, rates, precision, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.utils.checkpoint

from portrayal.config import Config, LoraMethod, Method, TrainingConfig, UnetMethod
from portrayal.data.batches import BatchSource, EmptyCaption
from portrayal.errors import OutOfMemoryError
from portrayal.models.base import BaseModel
from portrayal.models.methods import Attached, attach, checkpoint_text_encoder
from portrayal.models.packed_lora import Member, Pack, attach_pack
from portrayal.processes import ALONE, Processes
from portrayal.run import write_text
from portrayal.training.checkpoint import load_checkpoint
from portrayal.training.health import Adaptation
from portrayal.training.keeping import log_of
from portrayal.training.optimizers import build_optimizer
from portrayal.training.shards import Shards
from portrayal.training.state import Learner, Rate, TrainingState
from portrayal.training.task import Task


@contextmanager
def session(
    base: BaseModel,
    tasks: Sequence[Task],
    config: Config,
    work: Path,
    adapted: Adaptation | None = None,
    note: Callable[[str], None] | None = None,
    processes: Processes = ALONE,
) -> Iterator[TrainingState]:
    """A training that goes on where it was left; the base is given back as it was, whatever happens."""
    if adapted is not None and adapted.checkpointing:
        training = config.training.model_copy(update={"gradient_checkpointing": True})
        config = config.model_copy(update={"training": training})
    work.mkdir(parents=True, exist_ok=True)
    try:
        attached = attach_tasks(base, tasks, config.seed)
        try:
            state = start(base, attached, tasks, config, work, processes)
            state.adapted = adapted or state.adapted
            resume(state, work, note)
            yield state
        finally:
            attached.detach()
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{base.device} ran out of memory while training {', '.join(task.name for task in tasks)}.",
            "Try --set training.gradient_checkpointing=true, a smaller train_batch_size with more "
            "gradient_accumulation_steps, study.loras_at_once=1, or --recipe sd15-8gb.",
        ) from error
    finally:
        release_accelerator(base.device)


def attach_tasks(base: BaseModel, tasks: Sequence[Task], seed: int) -> Attached | Pack:
    """LoRAs as a pack, of one too; a full UNet, or a LoRA that drops inputs, as it is."""
    alone = tasks[0].method if len(tasks) == 1 else None
    if isinstance(alone, UnetMethod) or (alone and alone.dropout):
        return attach(base, alone, seed=seed if tasks[0].seed is None else tasks[0].seed)
    members = []
    for task in tasks:
        assert isinstance(task.method, LoraMethod)
        members.append(Member(task.name, task.method, seed if task.seed is None else task.seed))
    return attach_pack(base, members)


def resume(state: TrainingState, work: Path, note: Callable[[str], None] | None = None) -> None:
    """Restore the last checkpoint, if there is one, and drop the record of steps that will be taken again."""
    snapshot = load_checkpoint(work / "checkpoint", note)
    if snapshot is not None:
        state.restore(snapshot)
    state.processes.wait()  # nobody writes the next one while another still reads this
    for learner in state.learners if state.processes.first else ():
        log = log_of(learner, work)
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
        write_text(log, "".join(lines[: state.step]))
    if state.base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def start(
    base: BaseModel,
    attached: Attached | Pack,
    tasks: Sequence[Task],
    config: Config,
    work: Path,
    processes: Processes = ALONE,
) -> TrainingState:
    """Optimizer, schedule, precision and batches around what is attached."""
    from accelerate import Accelerator

    training, trains_text_encoder = config.training, tasks[0].method.train_text_encoder
    accelerator = Accelerator(
        cpu=base.device.type == "cpu",
        log_with=(list(training.trackers) or None) if processes.first else None,
        project_dir=work / "trackers",
    )
    if training.trackers and processes.first:
        accelerator.init_trackers("portrayal")
    if training.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing(None if drops(tasks) else checkpoint_block)
        if trains_text_encoder:
            checkpoint_text_encoder(base.text_encoder, on=True)
    base.unet.train(drops(tasks))  # else nothing in it differs but its speed
    base.text_encoder.train(trains_text_encoder)
    fp16 = training.mixed_precision == "fp16"
    groups, shards = attached.parameter_groups(), None
    if training.shard_optimizer and processes.count > 1 and isinstance(attached, Attached):
        shards = Shards.of(attached, groups, processes)
        groups = shards.own(groups)
        shards.let_go(attached)
    optimizer = build_optimizer(training.optimizer, groups, scaled=fp16)
    schedules = [schedule_of(task.method, training) for task in tasks]
    rates = [Rate(group["lr"], schedules[group.get("member", 0)]) for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler(base.device.type) if fp16 else None
    empty = empty_caption(base, training.caption_dropout)
    learners = [
        Learner(
            task.name,
            task.method,
            batches_of(task, base, config, empty),
            config.seed if task.seed is None else task.seed,
        )
        for task in tasks
    ]
    return TrainingState(
        base, attached, accelerator, optimizer, rates, learners, training, scaler, processes=processes, shards=shards
    )


def drops(tasks: Sequence[Task]) -> bool:
    """Whether adapters drop some of their inputs, by chance."""
    return any(isinstance(task.method, LoraMethod) and task.method.dropout > 0 for task in tasks)


def checkpoint_block(block: Any, *inputs: Any) -> Any:
    """Recompute a block in the backward pass. It draws nothing, so no generator is kept, which no graph could."""
    return torch.utils.checkpoint.checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


def schedule_of(method: Method, training: TrainingConfig) -> Callable[[int], float]:
    """By what a learning rate is multiplied at each step."""
    from diffusers.optimization import get_scheduler

    nothing = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule: Any = get_scheduler(
        training.lr_scheduler,
        optimizer=nothing,
        num_warmup_steps=training.lr_warmup_steps,
        num_training_steps=method.max_train_steps,
    )
    found: Callable[[int], float] = schedule.lr_lambdas[0]
    return found


def batches_of(task: Task, base: BaseModel, config: Config, empty: EmptyCaption | None) -> BatchSource:
    """What a task is trained on."""
    training = config.training
    return BatchSource(
        task.data.photos,
        task.data.class_images,
        training.train_batch_size,
        training.class_batch_size or training.train_batch_size,
        training.prior_loss_weight,
        base.vae.config.scaling_factor,
        config.seed if task.seed is None else task.seed,
        training.background_loss_weight,
        empty,
    )


@torch.no_grad()
def empty_caption(base: BaseModel, share: float) -> EmptyCaption | None:
    """What dropped captions become, or nothing if none is dropped."""
    if not share:
        return None
    return EmptyCaption(base.input_ids([""])[0].cpu(), base.encode_prompts([""])[0].float().cpu(), share)


def release_accelerator(device: torch.device) -> None:
    """Let the next training choose its own precision, and give memory back."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()
