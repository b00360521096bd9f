"""What is looked at while a training goes on, just as it would be afterwards, and what may be asked of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from portrayal.config import Trial
from portrayal.files import drop_folder
from portrayal.live import Requests
from portrayal.run import Run, write_json
from portrayal.stages.shared import curve_path, generator_of, in_place
from portrayal.stages.steps import base_losses, curve_of_model, read_step, sample_pictures, samples_folder

if TYPE_CHECKING:
    from portrayal.training.onlooker import Onlooker

NOW = "now"
"""Folder of pictures that were asked for, in `images/`."""


def onlooker_of(run: Run, requests: Requests, *, live: bool) -> Onlooker:
    """Who looks on at trainings of a run.

    Args:
        run: The run.
        requests: What is asked of them.
        live: Whether every reading is looked at as soon as it is kept; afterwards it need not be any more.
    """
    from portrayal.training.onlooker import Onlooker

    def reading(name: str, step: int) -> None:
        trial = run.trials.get(name)
        if live and trial is not None:
            drop_folder(samples_folder(run, name) / str(step))  # of a training that went back to an earlier step
            base_losses(run)
            read_step(run, trial, step)

    def sample(name: str, step: int, folder: Path) -> None:
        paint_now(run, name, step, folder)

    def end_at(names: Sequence[str], step: int) -> int:
        return settle_end(run, names, step)

    return Onlooker(reading, requests.take, sample, end_at)


def paint_now(run: Run, name: str, step: int, folder: Path) -> None:
    """Paint the first scene with weights in a folder, as its readings are painted."""
    from portrayal.generation.pictures import paint_missing

    picture = sample_pictures(run, run.folder / "images" / NOW / name / str(step))[0]
    with in_place(run, name, folder) as weights:
        paint_missing(generator_of(run), [picture], weights, lambda *_: None)


def stopped(run: Run) -> dict[str, int]:
    """The step at which trainings of a model end that were asked to stop, by the model's name."""
    path = run.folder / "models" / "stopped.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def settle_end(run: Run, names: Sequence[str], step: int) -> int:
    """Decide and record where trainings end that were asked to stop: at this step, so do the model's others after them.

    Where others of a model are done already, they end at the next reading: steps are compared over all trainings.
    """
    models = {trial.model if (trial := run.trials.get(name)) else name for name in names}
    others = [trial for trial in run.trials.values() if trial.model in models and trial.name not in names]
    end = step
    if any((run.model_folder(trial.name) / "method.json").is_file() for trial in others):
        readings = reading_steps(run.config.methods[others[0].model].max_train_steps, run.config.study.readings)
        end = next(reading for reading in readings if reading >= step)
    write_json(run.folder / "models" / "stopped.json", stopped(run) | dict.fromkeys(sorted(models), end))
    return end


def steps_of(run: Run, trial: Trial) -> tuple[int | None, tuple[int, ...]]:
    """Where a training ends, None meaning with its schedule; and the steps at which it is looked at.

    One of a later round ends at its model's best step, which the first round has found.
    """
    if trial.name not in run.rounds[0] and curve_path(run, trial.model).is_file():
        best = curve_of_model(run, trial.model).best_step
        return best, (best,)
    readings = reading_steps(run.config.methods[trial.model].max_train_steps, run.config.study.readings)
    end = stopped(run).get(trial.model)
    return end, readings if end is None else shortened(readings, end)


def shortened(readings: Sequence[int], end: int) -> tuple[int, ...]:
    """Readings of a training that ends early, its end the last."""
    return (*(step for step in readings if step < end), end)


def reading_steps(last: int, count: int) -> tuple[int, ...]:
    """Steps at equal distances, the last one among them."""
    return tuple(sorted({round(last * number / count) for number in range(1, count + 1)} - {0}))
