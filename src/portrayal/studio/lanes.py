"""How far each model of a run is: its steps, losses, readings and samples, from the records of its trainings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from portrayal import Run
from portrayal.studio.files import read_json
from portrayal.studio.logs import log_of
from portrayal.studio.projects import PICTURES

MOST_POINTS = 240
"""Of a curve of losses: each is the mean of the steps it stands for."""

RECENT = 20
"""Steps that a speed is the mean of."""

State = Literal["waiting", "training", "trained", "done", "diverged"]


@dataclass(frozen=True)
class Sample:
    """A picture by a model on its way."""

    step: int
    scene: str
    path: Path


@dataclass(frozen=True)
class Lane:
    """One model of the study, or the final one.

    Attributes:
        name: Such as `lora-64`.
        rank: Of a LoRA.
        state: `waiting`, `training`, `trained` (its best step is still to be found), `done`, or `diverged`, if none of
            its trainings could go on.
        step: Steps taken: the mean over its trainings.
        total: Steps of one training.
        trainings: How many there are, each with other photos held out or another seed.
        best_step: The step it is judged at, once that is known.
        seconds_left: Of its training; nothing where nobody can say.
        losses: `(step, loss)` of its first training, each point the mean of the steps before it.
        heldout: `(step, loss)` on the photos that its first training did not see, at its readings.
        heldout_base: The base's loss on the same photos.
        identity: `(step, cosine)`: likeness of its pictures to those photos, at its readings.
        samples: Pictures of its first training, by step.
        images_per_second: Lately; nothing while it does not train.
        memory_gib: GPU memory at its fullest; nothing without a GPU.
    """

    name: str
    rank: int | None
    state: State
    step: int
    total: int
    trainings: int = 1
    best_step: int | None = None
    seconds_left: float | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    heldout: list[tuple[int, float]] = field(default_factory=list)
    heldout_base: float | None = None
    identity: list[tuple[int, float]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    images_per_second: float | None = None
    memory_gib: float | None = None


def lanes_of(run: Run, live: Mapping[str, Any]) -> Iterator[Lane]:
    """Each model of the study, and the final one where there is something of it."""
    works = training_folders(run.folder / "models")
    for name, method in run.config.methods.items():
        trials = [trial.name for trial in run.trials.values() if trial.model == name]
        yield lane(run, name, trials, method.max_train_steps, works, live)
    if "final" in works or run.model_folder("final").is_dir():
        told = read_json(run.model_folder("final") / "method.json")
        model = str(told.get("settings", {}).get("max_train_steps", "")) or "1"
        total = int(told.get("step") or (live.get("total") if live.get("stage") == "train.final" else 0) or model)
        yield lane(run, "final", ["final"], total, works, live)


def training_folders(models: Path) -> dict[str, Path]:
    """Where the logs of trainings under way lie, by the training's name."""
    return {log.stem: log for log in models.glob(".*.training/*.jsonl")} if models.is_dir() else {}


def lane(run: Run, name: str, trials: Sequence[str], total: int, works: Mapping[str, Path], live: Any) -> Lane:
    """One model, from the records of its trainings."""
    first, records = trials[0], {trial: records_of(run, trial, works) for trial in trials}
    told = read_json(run.model_folder(first) / "method.json")
    over = [trial for trial in trials if (run.model_folder(trial) / "method.json").is_file()]
    lost = [trial for trial in trials if run.has_diverged(trial)]
    ended = len(over) + len(lost) == len(trials)
    open_steps = any((run.model_folder(trial) / "steps").is_dir() for trial in trials)
    working = str(live.get("stage", "")).startswith("train.") and any(trial in works for trial in trials)
    rows = records[first]
    steps = [len(found) for found in records.values()]
    under_way = [found for trial, found in records.items() if trial in works and found]
    seconds = live_seconds(live) if working else None
    return Lane(
        name=name,
        rank=run.config.methods[name].rank if name.startswith("lora-") else told.get("rank"),  # type: ignore[union-attr]
        state=state_of(working, ended, open_steps, len(lost) == len(trials)),
        step=min(total, round(sum(steps) / len(steps))),
        total=total,
        trainings=len(trials),
        best_step=told.get("step") if ended and not open_steps else None,
        seconds_left=seconds,
        losses=points(rows),
        **readings(run, first),
        samples=list(samples_of(run.folder / "images", first)),
        images_per_second=speed(under_way[0]) if working and under_way else None,
        memory_gib=told.get("peak_memory_gib"),
    )


def state_of(working: bool, ended: bool, open_steps: bool, lost: bool) -> State:
    """The state of a lane; `lost` if all of its trainings diverged."""
    if working:
        return "training"
    if not ended:
        return "waiting"
    return "trained" if open_steps else "diverged" if lost else "done"


def records_of(run: Run, trial: str, works: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What was logged of each step of a training, whether it is under way or done."""
    done = run.model_folder(trial) / "training.jsonl"
    return log_of(works.get(trial, done)).rows() if trial in works or done.is_file() else []


def live_seconds(live: Mapping[str, Any]) -> float | None:
    """Seconds that what is under way has left, at its pace so far."""
    done, total = live.get("done", 0), live.get("total", 0)
    passed = live.get("time", 0) - live.get("started", 0)
    since = done - live.get("first", 0)
    return passed / since * (total - done) if since > 0 and passed > 0 else None


def points(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Losses as a curve of a few hundred points."""
    size = max(1, math.ceil(len(rows) / MOST_POINTS))
    found = []
    for start in range(0, len(rows), size):
        part = [row for row in rows[start : start + size] if isinstance(row.get("loss"), int | float)]
        if part:
            found.append((int(part[-1]["step"]), sum(row["loss"] for row in part) / len(part)))
    return found


def speed(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Pictures a second, lately."""
    found = [row["images_per_second"] for row in rows[-RECENT:] if row.get("images_per_second")]
    return sum(found) / len(found) if found else None


def readings(run: Run, trial: str) -> dict[str, Any]:
    """What was read of a training on the photos it did not see, while its steps are kept and afterwards."""
    folder = run.model_folder(trial)
    kept = {int(path.parent.name): path for path in folder.glob("steps/*/heldout.json") if path.parent.name.isdecimal()}
    rows = {step: read_reading(path, path.stat().st_mtime_ns) for step, path in sorted(kept.items())}
    if not rows:
        rows = {int(step): row for step, row in read_json(folder / "readings.json").items()}
    photos: list[str] = next((row["photos"] for row in rows.values() if row.get("photos")), [])
    base = run.model_folder("base") / "heldout.json"
    losses = base_losses(base, base.stat().st_mtime_ns) if base.is_file() else {}
    of_base = [losses[photo] for photo in photos if photo in losses]
    return {
        "heldout": [(step, row["loss"]) for step, row in rows.items()],
        "identity": [(step, row["identity"]) for step, row in rows.items() if row.get("identity") is not None],
        "heldout_base": sum(of_base) / len(of_base) if of_base else None,
    }


@lru_cache(maxsize=512)
def read_reading(path: Path, _: int) -> dict[str, Any]:
    """Mean loss and likeness of one reading, and the photos it was read on."""
    values = read_json(path)
    identity = values.get("identity")
    losses = {photo: mean(rows) for photo, rows in values.get("losses", {}).items()}
    return {
        "loss": mean(losses.values()),
        "identity": mean(identity) if identity else None,
        "photos": list(losses),
    }


@lru_cache(maxsize=64)
def base_losses(path: Path, _: int) -> dict[str, float]:
    """The base's mean loss on each photo."""
    return {photo: mean(rows) for photo, rows in read_json(path).get("losses", {}).items()}


def mean(values: Any) -> float:
    """Mean of numbers, or of rows of numbers."""
    found = [mean(value) if isinstance(value, list) else float(value) for value in values]
    return sum(found) / len(found) if found else math.nan


def samples_of(images: Path, trial: str) -> Iterator[Sample]:
    """Pictures of a training on its way, by step: of its readings, and those that were asked for."""
    found: dict[tuple[int, str], Path] = {}
    for folder in (images / "now" / trial, images / "steps" / trial):
        for path in folder.glob("*/*"):
            if path.suffix in PICTURES and path.parent.name.isdecimal() and not path.name.startswith("."):
                found[int(path.parent.name), path.stem] = path
    for (step, scene), path in sorted(found.items()):
        yield Sample(step, scene, path)
