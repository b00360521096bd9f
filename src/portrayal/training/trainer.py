"""One training: a method, or a pack of LoRAs, attached to a base, over encoded photos and class images."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.utils.checkpoint

from portrayal.config import Config, LoraMethod, Method, TrainingConfig, UnetMethod
from portrayal.data.batches import BatchSource, EmptyCaption
from portrayal.data.encode import EncodedDataset
from portrayal.errors import OutOfMemoryError, TrainingDivergedError
from portrayal.files import append_line, drop_folder
from portrayal.interruption import Stop, interruption
from portrayal.models.base import BaseModel
from portrayal.models.methods import Attached, attach, checkpoint_text_encoder
from portrayal.models.packed_lora import Member, Pack, attach_pack
from portrayal.processes import ALONE, Processes
from portrayal.run import atomic_folder, write_bytes, write_json, write_text
from portrayal.training.checkpoint import kept, load_checkpoint, save_checkpoint
from portrayal.training.graph import CapturedStep, why_plain
from portrayal.training.health import Adaptation, StreakError, said_of
from portrayal.training.onlooker import Onlooker, can_lift, look
from portrayal.training.optimizers import build_optimizer
from portrayal.training.shards import Shards
from portrayal.training.state import Learner, Rate, TrainingState
from portrayal.training.step import Launched, Update, launch, update


@dataclass(frozen=True)
class TrainingData:
    """What a training reads: photos, and class images when the prior is preserved; one dataset for each shape."""

    photos: tuple[EncodedDataset, ...]
    class_images: tuple[EncodedDataset, ...] | None


@dataclass(frozen=True)
class Task:
    """One model to train, alone or in a pack.

    Attributes:
        name: Such as `lora-64`.
        method: What is trained.
        data: Its photos and class images; those of a pack may differ, in photos or in their order.
        folder: Where it goes.
        seed: Of first weights, order, latents and noise; nothing means the config's.
        readings: Steps whose weights are kept, in `steps/NUMBER`; without any, the last step's in the folder itself.
        last_step: Where it ends; nothing means with its learning rate's schedule.
    """

    name: str
    method: Method
    data: TrainingData
    folder: Path
    seed: int | None = None
    readings: tuple[int, ...] = ()
    last_step: int | None = None

    @property
    def num_steps(self) -> int:
        """Optimizer updates it takes."""
        return self.last_step or self.method.max_train_steps


def train(
    base: BaseModel,
    tasks: Sequence[Task],
    config: Config,
    work: Path,
    progress: Callable[[int, int], None],
    note: Callable[[str], None] | None = None,
    processes: Processes = ALONE,
    onlooker: Onlooker | None = None,
) -> None:
    """Train a model, or several LoRAs in one batch, each into its folder; resume where it was left.

    A folder holds weights, `training.jsonl` and, once the training is done, `method.json`. A LoRA of a pack is what it
    would be had it trained alone; one with fewer steps leaves the pack earlier. When a pack goes on, one that is
    finished but had not left at the last checkpoint rides along to where it leaves: the others' last digits depend on
    what is in the batch.

    Args:
        base: The base; given back as it was.
        tasks: One, or LoRAs that can share a batch.
        config: The run's config.
        work: Folder for what is only needed until the end.
        progress: Called with (steps done, steps in all).
        note: Called with what a person should know of how it trains.
        onlooker: Looks at readings as they are kept, and may ask for a sample, or for the end.
        processes: Who shares the steps, each calling this; the first of them writes.

    A training that runs out of memory goes on in smaller parts, and one that diverges from an earlier step with a lower
    rate, as far as that helps; both are noted, and recorded in `method.json`.

    Raises:
        TrainingDivergedError: If losses or gradients are not finite, again and again, or a picture's latents are not.
        OutOfMemoryError: If the device is too small for one picture.
        UsageError: If a target module matches nothing, or the tasks cannot be packed.
        KeyboardInterrupt: If it was asked to stop; the last step is kept.
    """
    note = note or logging.getLogger(__name__).warning
    for task in tasks:
        check_finite(task.data)
    while True:
        adapted = Adaptation.read(work)
        try:
            attempt(base, tasks, config, work, adapted, progress, note, processes, onlooker)
            break
        except OutOfMemoryError as error:
            if processes.count > 1:  # the others have not, and wait for this one
                raise
            changed = adapted.smaller(rows_of(tasks, config), checkpoints=config.training.gradient_checkpointing)
            if changed is None:
                raise
            cause = error.cause
        except StreakError as error:
            processes.wait()  # all have read what is changed now
            if adapted.lowered and processes.first:  # what the last checkpoint holds was no good start the last time
                drop_folder(work / "checkpoint")
            changed = adapted.slower(reached(work))
            if changed is None:
                raise
            cause = error.cause
        if processes.first:
            changed.write(work)
        note(said_of(adapted, changed, reached(work), [cause]))
        processes.wait()
        release_accelerator(base.device)  # once what the error held on to is gone
    processes.wait()
    if processes.first:
        drop_folder(work)


def attempt(
    base: BaseModel,
    tasks: Sequence[Task],
    config: Config,
    work: Path,
    adapted: Adaptation,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    processes: Processes,
    onlooker: Onlooker | None = None,
) -> None:
    """Train to the end from the last checkpoint on; what stops it half-way leaves a checkpoint if it can."""
    with session(base, tasks, config, work, adapted, note, processes) as state, interruption() as stop:
        unread = deque[Launched]()
        try:
            take_steps(state, tasks, config, work, unread, progress, note, stop, onlooker)
        except torch.OutOfMemoryError:
            if state.whole and state.step and processes.count == 1:
                write_all(unread, work)
                save(state, work)
            raise


def take_steps(
    state: TrainingState,
    tasks: Sequence[Task],
    config: Config,
    work: Path,
    unread: deque[Launched],
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    stop: Stop,
    onlooker: Onlooker | None = None,
) -> None:
    """Take the steps that are left, keep the readings, and let each learner go when it is done."""
    by_name = {task.name: task for task in tasks}
    total = max(task.num_steps for task in tasks)
    stops = {step for task in tasks for step in (*task.readings, task.num_steps)}
    progress(state.step, total)
    run = runner_of(state, note)
    while state.learners:
        unread.append(launch(state, run))
        stopped = state.processes.any(stop.asked)
        wishes = onlooker.wishes() if onlooker else set()
        if onlooker and "stop" in wishes:
            end = onlooker.end_at([learner.name for learner in state.learners], state.step)
            by_name = {name: ended_at(task, end) for name, task in by_name.items()}
            stops, total = {*stops, end}, min(total, end)
        due = stopped or checkpoint_due(state)
        pause = due or state.step in stops or bool(wishes)
        ahead = 0 if pause or state.base.device.type == "cpu" else 1  # the GPU is one step ahead
        write_all(unread, work, ahead)
        progress(state.step, total)
        if not pause:
            continue
        gather_shards(state)
        if onlooker and "sample" in wishes and can_lift(state.attached):
            paint_samples(state, config, work, note, onlooker)
        for learner in list(state.learners):
            task = by_name[learner.name]
            # It rides along, once more; or another process writes it.
            done = (task.folder / "method.json").is_file() or not state.processes.first
            if state.step in task.readings and not done:
                with atomic_folder(task.folder / "steps" / str(state.step)) as reading:
                    save_weights(state, learner, config, reading)
                if onlooker and can_lift(state.attached):
                    with look(state.attached, note):
                        onlooker.reading(task.name, state.step)
            if state.step == task.num_steps:
                if not done:
                    publish(state, learner, config, work, task)
                state.leave(learner)
                run = runner_of(state, note)
                due = True  # a learner that left cannot come back
        if state.learners and due and state.processes.first and (stopped or not state.health.in_a_row):
            save(state, work)
        if state.learners and stopped:
            raise KeyboardInterrupt
        state.clock = time.perf_counter()


def ended_at(task: Task, end: int) -> Task:
    """A task that ends at a step, which is its last reading if it has any; one that ends sooner stays as it is."""
    if task.num_steps <= end:
        return task
    readings = (*(step for step in task.readings if step < end), end) if task.readings else ()
    return replace(task, last_step=end, readings=readings)


def paint_samples(
    state: TrainingState, config: Config, work: Path, note: Callable[[str], None], onlooker: Onlooker
) -> None:
    """Have the onlooker paint with each learner's weights as they are."""
    for learner in list(state.learners):
        folder = work / "sample"
        save_weights(state, learner, config, folder)
        with look(state.attached, note):
            onlooker.sample(learner.name, state.step, folder)
        drop_folder(folder)


def write_all(unread: deque[Launched], work: Path, but: int = 0) -> None:
    """Write what came of the steps that were launched, but for the last ones."""
    while len(unread) > but:
        write_records(unread.popleft(), work)


def save(state: TrainingState, work: Path) -> None:
    """Write a checkpoint, once the records of its steps are on the disk; of several processes the first does."""
    for learner in state.learners:
        with log_of(learner, work).open("ab") as log:
            os.fsync(log.fileno())
    save_checkpoint(work / "checkpoint", state.snapshot(), state.config.checkpoints_total_limit)


def reached(work: Path) -> int:
    """The step of the last checkpoint."""
    return max((int(path.name) for path in kept(work / "checkpoint")), default=0)


def rows_of(tasks: Sequence[Task], config: Config) -> int:
    """Pictures of each learner in a forward pass."""
    training = config.training
    of_class = training.class_batch_size or training.train_batch_size
    return training.train_batch_size + (of_class if tasks[0].data.class_images is not None else 0)


def check_finite(data: TrainingData) -> None:
    """Refuse pictures or captions whose numbers are not finite, by name, before anything is trained.

    Raises:
        TrainingDivergedError: If there are some.
    """
    for part in (*data.photos, *(data.class_images or ())):
        of_views = part.mean.flatten(1).isfinite().all(1) & part.std.flatten(1).isfinite().all(1)
        fine = of_views.unflatten(0, (part.num_views, -1)).all(0) & part.prompt_embeds.flatten(1).isfinite().all(1)
        bad = [name for name, finite in zip(part.ids, fine.tolist(), strict=True) if not finite]
        if bad:
            raise TrainingDivergedError(
                f"What the base makes of {', '.join(bad)} is not finite.",
                "Search the run for that id to see which photo it is and leave it out with prepare.drop; or train with "
                "training.mixed_precision=no. Delete RUN/encoded first.",
            )


def runner_of(state: TrainingState, note: Callable[[str], None]) -> Update:
    """What runs the steps: a graph where there can be one."""
    return update if why_plain(state) else CapturedStep(note)


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


def log_of(learner: Learner, work: Path) -> Path:
    """Where the record of a learner's steps lies while it trains."""
    return work / f"{learner.name}.jsonl"


def checkpoint_due(state: TrainingState) -> bool:
    """Whether a checkpoint belongs after this step; the last step needs none."""
    every = state.config.checkpointing_steps
    return bool(every) and state.step % every == 0


def save_weights(state: TrainingState, learner: Learner, config: Config, folder: Path) -> None:
    """Write a learner's weights as they are."""
    if isinstance(state.attached, Pack):
        member = state.attached.members[state.learners.index(learner)]
        state.attached.save(member, folder, config.training.save_precision)
    else:
        state.attached.save(folder, config.training.save_precision)


def publish(state: TrainingState, learner: Learner, config: Config, work: Path, task: Task) -> None:
    """Write a finished model in one go."""
    if len(state.learners) == 1:
        for tracker in state.accelerator.trackers:  # `end_training` would part the processes too
            tracker.finish()
    if task.readings:  # its weights are there
        write_history(state, learner, config, work, task.folder)
        return
    with atomic_folder(task.folder) as finished:
        save_weights(state, learner, config, finished)
        write_history(state, learner, config, work, finished)


def write_history(state: TrainingState, learner: Learner, config: Config, work: Path, folder: Path) -> None:
    """Write how a model was trained; `method.json` last, which says that all is there."""
    write_bytes(folder / "training.jsonl", log_of(learner, work).read_bytes())
    if (work / "trackers").is_dir():
        shutil.copytree(work / "trackers", folder / "trackers", dirs_exist_ok=True)
    write_json(folder / "method.json", describe(learner, state, config, folder))


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


def gather_shards(state: TrainingState) -> None:
    """Bring what other processes keep of the weights and the optimizer to the one that writes."""
    if state.shards and isinstance(state.attached, Attached):
        state.shards.gather(state.attached, state.optimizer)
        gathered = state.shards.gathered.items()
        state.attached.elsewhere = {name: parts["weight"] for name, parts in gathered if "weight" in parts}


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


def write_records(launched: Launched, work: Path) -> None:
    """Log one step to each learner's own file and to the trackers that were asked for."""
    records = launched.records()  # a loss that is not finite ends every process
    for learner, record in zip(launched.learners, records, strict=True) if launched.state.processes.first else ():
        values = asdict(record)
        append_line(log_of(learner, work), json.dumps(values))
        prefix = f"{learner.name}/" if len(launched.learners) > 1 else ""
        numbers = {prefix + key: value for key, value in values.items() if value is not None and key != "step"}
        launched.state.accelerator.log(numbers, step=record.step)


def describe(learner: Learner, state: TrainingState, config: Config, folder: Path) -> dict[str, Any]:
    """What `method.json` says of a trained model."""
    method = learner.method
    parameters = sum(weight.numel() for weight in state.weights_of(state.learners.index(learner)))
    last = max(folder.glob("steps/*"), key=lambda path: int(path.name), default=folder)
    size = sum(path.stat().st_size for path in last.rglob("*.safetensors"))
    on_gpu = state.base.device.type == "cuda"
    lora = method if isinstance(method, LoraMethod) else None
    return {
        "name": learner.name,
        "kind": method.kind,
        "rank": lora.rank if lora else None,
        "alpha": (lora.alpha or lora.rank) if lora else None,
        "step": state.step,
        "settings": method.model_dump(mode="json") | {"training": config.training.model_dump(mode="json")},
        "skipped_steps": state.health.skipped,
        "adapted": state.adapted.as_json(),
        "train_seconds": round(learner.seconds, 2),
        "pack": len(state.attached.members) if isinstance(state.attached, Pack) else 1,
        "trainable_parameters": parameters,
        "file_megabytes": round(size / 1e6, 3),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3) if on_gpu else None,
    }


def release_accelerator(device: torch.device) -> None:
    """Let the next training choose its own precision, and give memory back."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()
