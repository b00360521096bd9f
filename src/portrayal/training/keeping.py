"""What a training writes: the record of its steps, checkpoints, and at its end the model with how it was made."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from portrayal.config import Config, LoraMethod
from portrayal.files import append_line, drop_folder
from portrayal.models.methods import Attached
from portrayal.models.packed_lora import Pack
from portrayal.run import DIVERGED, atomic_folder, write_bytes, write_json
from portrayal.training.checkpoint import kept, save_checkpoint
from portrayal.training.state import Learner, TrainingState
from portrayal.training.step import Launched
from portrayal.training.task import Task


def log_of(learner: Learner, work: Path) -> Path:
    """Where the record of a learner's steps lies while it trains."""
    return work / f"{learner.name}.jsonl"


def write_all(unread: deque[Launched], work: Path, but: int = 0) -> None:
    """Write what came of the steps that were launched, but for the last ones."""
    while len(unread) > but:
        write_records(unread.popleft(), work)


def write_records(launched: Launched, work: Path) -> None:
    """Log one step to each learner's own file and to the trackers that were asked for."""
    records = launched.records()  # a loss that is not finite ends every process
    for learner, record in zip(launched.learners, records, strict=True) if launched.state.processes.first else ():
        values = asdict(record)
        append_line(log_of(learner, work), json.dumps(values))
        prefix = f"{learner.name}/" if len(launched.learners) > 1 else ""
        numbers = {prefix + key: value for key, value in values.items() if value is not None and key != "step"}
        launched.state.accelerator.log(numbers, step=record.step)


def checkpoint_due(state: TrainingState) -> bool:
    """Whether a checkpoint belongs after this step; the last step needs none."""
    every = state.config.checkpointing_steps
    return bool(every) and state.step % every == 0


def save(state: TrainingState, work: Path) -> None:
    """Write a checkpoint, once the records of its steps are on the disk; of several processes the first does."""
    for learner in state.learners:
        with log_of(learner, work).open("ab") as log:
            os.fsync(log.fileno())
    save_checkpoint(work / "checkpoint", state.snapshot(), state.config.checkpoints_total_limit)


def reached(work: Path) -> int:
    """The step of the last checkpoint."""
    return max((int(path.name) for path in kept(work / "checkpoint")), default=0)


def gather_shards(state: TrainingState) -> None:
    """Bring what other processes keep of the weights and the optimizer to the one that writes."""
    if state.shards and isinstance(state.attached, Attached):
        state.shards.gather(state.attached, state.optimizer)
        gathered = state.shards.gathered.items()
        state.attached.elsewhere = {name: parts["weight"] for name, parts in gathered if "weight" in parts}


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
    (folder / DIVERGED).unlink(missing_ok=True)  # of an attempt at a higher rate
    write_json(folder / "method.json", describe(learner, state, config, folder))


def record_divergence(state: TrainingState, learner: Learner, work: Path, folder: Path) -> None:
    """Write that a training could not go on, and its record so far, in the place of its model."""
    error = learner.diverged
    assert error is not None
    drop_folder(folder)
    log = log_of(learner, work)
    write_bytes(folder / "training.jsonl", log.read_bytes() if log.is_file() else b"")
    described = {"name": learner.name, "step": state.step, "cause": error.cause, "seed": learner.seed}
    write_json(folder / DIVERGED, described | {"settings": learner.method.model_dump(mode="json")})


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
        "photos": sorted(name for part in learner.batches.photos for name in part.ids),
        "seed": learner.seed,
        "settings": method.model_dump(mode="json") | {"training": config.training.model_dump(mode="json")},
        "skipped_steps": learner.health.skipped,
        "adapted": state.adapted.as_json(),
        "train_seconds": round(learner.seconds, 2),
        "pack": len(state.attached.members) if isinstance(state.attached, Pack) else 1,
        "trainable_parameters": parameters,
        "file_megabytes": round(size / 1e6, 3),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3) if on_gpu else None,
    }
