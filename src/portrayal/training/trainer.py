"""One training: a method, attached to a base, over encoded photos and class images."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from portrayal.config import Config, LoraMethod, Method
from portrayal.data.batches import BatchSource, EmptyCaption
from portrayal.data.encode import EncodedDataset
from portrayal.errors import OutOfMemoryError
from portrayal.models.base import BaseModel
from portrayal.models.methods import Attached, attach, checkpoint_text_encoder
from portrayal.run import atomic_folder, write_text
from portrayal.training.checkpoint import load_checkpoint, save_checkpoint
from portrayal.training.optimizers import build_optimizer
from portrayal.training.step import StepRecord, TrainingState, train_step


@dataclass(frozen=True)
class TrainingData:
    """What a training reads: photos, and class images when the prior is preserved; one dataset for each shape."""

    photos: tuple[EncodedDataset, ...]
    class_images: tuple[EncodedDataset, ...] | None


def train(
    base: BaseModel,
    name: str,
    method: Method,
    data: TrainingData,
    config: Config,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Train a model into a folder: weights, `method.json`, `training.jsonl`; resume where it was left.

    Args:
        base: The base; given back as it was.
        name: The model's name, such as `lora-64`.
        method: What is trained.
        data: Encoded photos and class images.
        config: The run's config.
        folder: The model's folder; it appears whole when the training is done.
        progress: Called with (steps done, steps in all).

    Raises:
        TrainingDivergedError: If the loss stops being finite.
        OutOfMemoryError: If the device is too small.
        UsageError: If a target module matches nothing.
    """
    work = folder.with_name(f".{name}.training")
    with session(base, name, method, data, config, work) as state, interruption() as interrupted:
        progress(state.step, method.max_train_steps)
        while state.step < method.max_train_steps:
            record = train_step(state)
            write_record(state, work, record)
            progress(state.step, method.max_train_steps)
            if checkpoint_due(state) or interrupted.is_set():
                save_checkpoint(work / "checkpoint", state.snapshot())
            if interrupted.is_set():
                raise KeyboardInterrupt
        publish(state, name, config, work, folder)


@contextmanager
def session(
    base: BaseModel, name: str, method: Method, data: TrainingData, config: Config, work: Path
) -> Iterator[TrainingState]:
    """A training that goes on where it was left; the base is given back as it was, whatever happens."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        attached = attach(base, method, seed=config.seed)
        try:
            state = start(base, attached, data, config, work)
            resume(state, work)
            yield state
        finally:
            attached.detach()
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{base.device} ran out of memory while training {name}.",
            "Try --set training.gradient_checkpointing=true, a smaller train_batch_size with more "
            "gradient_accumulation_steps, or --recipe sd15-8gb.",
        ) from error
    finally:
        release_accelerator(base.device)


def resume(state: TrainingState, work: Path) -> None:
    """Restore the last checkpoint, if there is one, and drop the record of steps that will be taken again."""
    snapshot = load_checkpoint(work / "checkpoint")
    if snapshot is not None:
        state.restore(snapshot)
    log = work / "training.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
    write_text(log, "".join(lines[: state.step]))
    if state.base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def checkpoint_due(state: TrainingState) -> bool:
    """Whether a checkpoint belongs after this step; the last step needs none."""
    every = state.config.checkpointing_steps
    return bool(every) and state.step % every == 0 and state.step < state.attached.method.max_train_steps


def publish(state: TrainingState, name: str, config: Config, work: Path, folder: Path) -> None:
    """Write the finished model in one go, and clear away what was only needed to get there."""
    state.accelerator.end_training()
    with atomic_folder(folder) as finished:
        state.attached.save(finished, config.training.save_precision)
        shutil.copy(work / "training.jsonl", finished)
        if (work / "trackers").is_dir():
            shutil.copytree(work / "trackers", finished / "trackers")
        description = json.dumps(describe(name, state, config, finished), indent=1)
        (finished / "method.json").write_text(description + "\n", encoding="utf-8")
    shutil.rmtree(work)


def start(base: BaseModel, attached: Attached, data: TrainingData, config: Config, work: Path) -> TrainingState:
    """Optimizer, schedule, precision and batches around an attached method."""
    from accelerate import Accelerator
    from diffusers.optimization import get_scheduler

    training = config.training
    accelerator = Accelerator(
        mixed_precision=training.mixed_precision,
        cpu=base.device.type == "cpu",
        log_with=list(training.trackers) or None,
        project_dir=work / "trackers",
    )
    if training.trackers:
        accelerator.init_trackers("portrayal")
    if training.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        if attached.method.train_text_encoder:
            checkpoint_text_encoder(base.text_encoder, on=True)
    base.unet.train()
    base.text_encoder.train(attached.method.train_text_encoder)
    optimizer = build_optimizer(training.optimizer, attached.parameter_groups())
    lr_scheduler = get_scheduler(
        training.lr_scheduler,
        optimizer=optimizer,
        num_warmup_steps=training.lr_warmup_steps,
        num_training_steps=attached.method.max_train_steps,
    )
    batches = BatchSource(
        data.photos,
        data.class_images,
        training.train_batch_size,
        training.class_batch_size or training.train_batch_size,
        training.prior_loss_weight,
        base.vae.config.scaling_factor,
        config.seed,
        training.background_loss_weight,
        empty_caption(base, training.caption_dropout),
    )
    return TrainingState(
        base, attached, accelerator, accelerator.prepare(optimizer), lr_scheduler, batches, training, config.seed
    )


@torch.no_grad()
def empty_caption(base: BaseModel, share: float) -> EmptyCaption | None:
    """What dropped captions become, or nothing if none is dropped."""
    if not share:
        return None
    return EmptyCaption(base.input_ids([""])[0].cpu(), base.encode_prompts([""])[0].float().cpu(), share)


def write_record(state: TrainingState, work: Path, record: StepRecord) -> None:
    """Log one step to the run's own file and to the trackers that were asked for."""
    values = asdict(record)
    with (work / "training.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(values) + "\n")
    numbers = {key: value for key, value in values.items() if value is not None and key != "step"}
    state.accelerator.log(numbers, step=record.step)


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a step is never torn apart; a second Ctrl-C acts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(signum: int, frame: FrameType | None) -> None:
        if event.is_set():
            signal.default_int_handler(signum, frame)
        event.set()

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


def describe(name: str, state: TrainingState, config: Config, folder: Path) -> dict[str, Any]:
    """What `method.json` says of a trained model."""
    method = state.attached.method
    parameters = sum(parameter.numel() for parameter in state.attached.named_parameters().values())
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    on_gpu = state.base.device.type == "cuda"
    lora = method if isinstance(method, LoraMethod) else None
    return {
        "name": name,
        "kind": method.kind,
        "rank": lora.rank if lora else None,
        "alpha": (lora.alpha or lora.rank) if lora else None,
        "settings": method.model_dump(mode="json") | {"training": config.training.model_dump(mode="json")},
        "train_seconds": round(state.seconds, 2),
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
