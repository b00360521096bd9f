"""One training: a method, or a pack of LoRAs, attached to a base, over encoded photos and class images."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from portrayal.config import Config
from portrayal.errors import OutOfMemoryError, TrainingDivergedError
from portrayal.files import drop_folder
from portrayal.interruption import Stop, interruption
from portrayal.models.base import BaseModel
from portrayal.processes import ALONE, Processes
from portrayal.run import atomic_folder
from portrayal.training.graph import CapturedStep, why_plain
from portrayal.training.health import Adaptation, StreakError, said_of
from portrayal.training.keeping import (
    checkpoint_due,
    gather_shards,
    publish,
    reached,
    record_divergence,
    save,
    save_weights,
    write_all,
)
from portrayal.training.onlooker import Onlooker, can_lift, look
from portrayal.training.session import release_accelerator, session
from portrayal.training.state import TrainingState
from portrayal.training.step import Launched, Update, launch, update
from portrayal.training.task import Task, check_finite, ended_at, rows_of


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
    rate, as far as that helps; both are noted, and recorded in `method.json`. A LoRA that diverges while others of its
    pack do not leaves the pack: its folder then holds `diverged.json` and no weights. So does one that keeps its rate.

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
        except TrainingDivergedError as error:
            if not state.learners or not all(task.keeps_rate for task in tasks):
                raise
            for learner in list(state.learners):
                learner.diverged = learner.diverged or error
            let_diverged_go(state, tasks, work, note)
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
        if any(learner.diverged for learner in state.learners):
            write_all(unread, work)
            if all(learner.diverged for learner in state.learners):
                raise next(learner.diverged for learner in state.learners if learner.diverged)
            let_diverged_go(state, tasks, work, note)
            run, due, pause = runner_of(state, note), True, True
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
        in_a_row = any(learner.health.in_a_row for learner in state.learners)
        if state.learners and due and state.processes.first and (stopped or not in_a_row):
            save(state, work)
        if state.learners and stopped:
            raise KeyboardInterrupt
        state.clock = time.perf_counter()


def let_diverged_go(state: TrainingState, tasks: Sequence[Task], work: Path, note: Callable[[str], None]) -> None:
    """Let the learners that cannot go on leave, and record why."""
    folders = {task.name: task.folder for task in tasks}
    for learner in [learner for learner in state.learners if learner.diverged]:
        if state.processes.first:
            record_divergence(state, learner, work, folders[learner.name])
            note(f"{learner.name} diverged and is set aside. {learner.diverged}")
        state.leave(learner)


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


def runner_of(state: TrainingState, note: Callable[[str], None]) -> Update:
    """What runs the steps: a graph where there can be one."""
    return update if why_plain(state) else CapturedStep(note)
