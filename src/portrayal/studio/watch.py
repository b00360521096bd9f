"""What goes on in a project, read from its run's files: cheaply, so that a page may ask once a second.

Logs are read on from where the last look ended; what does not change is read once. Nothing here touches torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from portrayal import Config, Run
from portrayal.studio.files import live_of, read_json
from portrayal.studio.jobs import AT_WORK, Failure, Job, Queue
from portrayal.studio.projects import PICTURES, Project, State

MOST_POINTS = 240
"""Of a curve of losses: each is the mean of the steps it stands for."""

RECENT = 20
"""Steps that a speed is the mean of."""

LAST_LINES = 30
NOTES = 40
PARTS = (
    ("prepare", "prepare photos"),
    ("class_images", "paint class images"),
    ("train.unet", "train full UNet"),
    ("train.lora", "train LoRAs"),
    ("steps", "find best steps"),
    ("generate", "paint scenes"),
    ("control", "paint to control images"),
    ("evaluate", "judge"),
    ("final", "train on all photos"),
    ("report", "write report"),
)
"""The parts of a run in their order, by the names of `estimate.json`."""


@dataclass(frozen=True)
class StageView:
    """One part of a run.

    Attributes:
        name: Such as `train.lora`; see :data:`PARTS`.
        title: What a person calls it.
        state: Whether it is done, under way, or to come.
        done: Of what is under way in it: pictures, steps, photos.
        total: Of how many; 0 where nobody can say.
        share: How much of the whole part is done, 0 to 1.
        rate: Of `done` a second, since it began; nothing before there is one.
        seconds_left: Of the whole part; nothing where nobody can say.
        seconds: What it took; of a part under way, so far.
    """

    name: str
    title: str
    state: Literal["waiting", "running", "done"]
    done: int = 0
    total: int = 0
    share: float = 0.0
    rate: float | None = None
    seconds_left: float | None = None
    seconds: float = 0.0


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
        state: `waiting`, `training`, `trained` (its best step is still to be found) or `done`.
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
    state: Literal["waiting", "training", "trained", "done"]
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


@dataclass(frozen=True)
class View:
    """A project at a moment.

    Attributes:
        project: Its name.
        state: See :attr:`portrayal.studio.projects.Project.state`.
        job: Its job that runs, waits or ended last, if it had one.
        stages: Parts of the run, in order.
        lanes: Models, in the study's order; `final` last, once it is trained.
        seconds_left: Of the whole run; nothing where nobody can say.
        memory_gib: GPU memory that the process holds; nothing without a GPU.
        can_ask: Whether a training goes on that can be stopped, or asked for a sample.
        notes: What a person should know, the newest last: `(stage, text)`.
        last_lines: Of the log.
        failure: Why it failed.
    """

    project: str
    state: State
    job: Job | None
    stages: list[StageView]
    lanes: list[Lane]
    seconds_left: float | None
    memory_gib: float | None
    can_ask: bool
    notes: list[tuple[str, str]]
    last_lines: list[str]
    failure: Failure | None


def look(project: Project) -> View:
    """What goes on in a project."""
    queue = Queue(project.root, project.recipe)
    job = latest_job(queue.jobs(), project.name)
    run, state = run_of(project), project.state
    lines = [] if job is None else queue.last_lines(job.id, LAST_LINES)
    failure = job.error if job and state == "failed" else None
    if run is None:
        stages = [StageView("prepare", "prepare photos", "running")] if job and job.state in AT_WORK else []
        return View(project.name, state, job, stages, [], None, None, False, [], lines, failure)
    events = log_of(run.folder / "events.jsonl").rows()
    live = live_of(run.folder) if state == "running" else {}
    lanes = [*lanes_of(run, live)]
    stages = stages_of(run, events, live, lanes, finished=state == "done")
    notes = [(row["stage"], row["message"]) for row in events if row.get("kind") == "note"]
    asks = str(live.get("stage", "")).startswith("train.") and (run.folder / ".requests").is_dir()
    return View(
        project.name,
        state,
        job,
        stages,
        lanes,
        whole(stages) if state == "running" else None,
        live.get("memory_gib"),
        asks,
        notes[-NOTES:],
        lines,
        failure,
    )


def latest_job(jobs: Sequence[Job], project: str) -> Job | None:
    """The job of a project that a page is about: what is at work, else what waits, else what was last."""
    mine = [job for job in jobs if job.project == project]
    order = ([job for job in mine if job.state in AT_WORK], [job for job in mine if not job.ended], mine[-1:])
    return next((group[0] for group in order if group), None)


def run_of(project: Project) -> Run | None:
    """A project's run, if it has been started."""
    path = project.run_folder / "config.toml"
    if not project.started or not path.is_file():
        return None
    return Run(project.run_folder, read_config(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def read_config(path: Path, _: int) -> Config:
    """A run's settings, read again when the file changes."""
    return Run.open(path.parent).config


# Logs ------------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """A file of JSON lines that grows, read on from where the last look ended; begun anew when it is another file."""

    path: Path
    read: int = 0
    inode: int = 0
    found: list[dict[str, Any]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines so far; what is no JSON is left out."""
        with self.lock:
            try:
                state = self.path.stat()
            except OSError:
                self.read, self.inode, self.found = 0, 0, []
                return []
            if state.st_ino != self.inode or state.st_size < self.read:
                self.read, self.inode, self.found = 0, state.st_ino, []
            if state.st_size > self.read:
                with self.path.open("rb") as file:
                    file.seek(self.read)
                    content = file.read()
                whole = content[: content.rfind(b"\n") + 1]
                self.read += len(whole)
                self.found.extend(parsed(whole.splitlines()))
            return self.found


def parsed(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The objects among lines of JSON."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:  # written as the power went
            continue
        if isinstance(value, dict):
            yield value


@lru_cache(maxsize=512)
def log_of(path: Path) -> Log:
    """The one reader of a log."""
    return Log(path)


# Lanes -----------------------------------------------------------------------------------------------------------


def lanes_of(run: Run, live: Mapping[str, Any]) -> Iterator[Lane]:
    """Each model of the study, and the final one where there is something of it."""
    works = training_folders(run.folder / "models")
    for name, method in run.config.methods.items():
        trials = [trial.name for trial in run.config.trials.values() if trial.model == name]
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
    ended = all((run.model_folder(trial) / "method.json").is_file() for trial in trials)
    open_steps = any((run.model_folder(trial) / "steps").is_dir() for trial in trials)
    working = str(live.get("stage", "")).startswith("train.") and any(trial in works for trial in trials)
    rows = records[first]
    steps = [len(found) for found in records.values()]
    under_way = [found for trial, found in records.items() if trial in works and found]
    seconds = live_seconds(live) if working else None
    return Lane(
        name=name,
        rank=run.config.methods[name].rank if name.startswith("lora-") else told.get("rank"),  # type: ignore[union-attr]
        state="training" if working else "waiting" if not ended else "trained" if open_steps else "done",
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


# Stages ----------------------------------------------------------------------------------------------------------


def stages_of(
    run: Run, events: Sequence[Mapping[str, Any]], live: Mapping[str, Any], lanes: Sequence[Lane], *, finished: bool
) -> list[StageView]:
    """The parts of the run, each with how far it is."""
    expected = read_json(run.folder / "estimate.json").get("stages", [])
    estimated = {row["name"]: row["seconds"] for row in expected if isinstance(row, dict)}
    began, ended = spans(events)
    present = {*began, *ended, *estimated, "prepare", "report"}
    names = [name for name, _ in PARTS if name in present]
    current = part_of(str(live.get("stage", ""))) if live else ""
    reached = max((names.index(name) for name in (*ended, current) if name in names), default=0)
    views = []
    for place, (name, title) in enumerate((name, title) for name, title in PARTS if name in names):
        running = name == current and not finished
        over = finished or (not running and name in ended and (place < reached or name not in began))
        seconds = ended.get(name, 0.0) + (max(0.0, live.get("time", 0) - live.get("started", 0)) if running else 0.0)
        share = 1.0 if over else share_of(run, name, events, live if running else {}, lanes)
        views.append(
            StageView(
                name,
                title,
                "done" if over else "running" if running else "waiting",
                int(live.get("done", 0)) if running else 0,
                int(live.get("total", 0)) if running else 0,
                share,
                live_rate(live) if running else None,
                0.0 if over else left(estimated.get(name), share, seconds),
                round(seconds, 1),
            )
        )
    return views


def spans(events: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Parts that are begun and not ended, with when; and seconds of those that ended, all their stages together."""
    began: dict[str, float] = {}
    starts: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for event in events:
        stage, time = str(event.get("stage", "")), float(event.get("time", 0))
        part = part_of(stage)
        if event.get("kind") == "started":
            starts[stage], began[part] = time, time
        elif event.get("kind") == "finished":
            seconds[part] = seconds.get(part, 0.0) + time - starts.pop(stage, time)
            if not any(part_of(other) == part for other in starts):
                began.pop(part, None)
    return began, seconds


def part_of(stage: str) -> str:
    """The part of a run that a stage belongs to, as `estimate.json` names it."""
    if stage.endswith(".final"):
        return "final"
    kind = stage.split(".")[0]
    return kind if kind != "train" else "train.unet" if stage.startswith("train.unet") else "train.lora"


def share_of(run: Run, name: str, events: Sequence[Any], live: Mapping[str, Any], lanes: Sequence[Lane]) -> float:
    """How much of a part is done."""
    if name.startswith("train."):
        mine = [one for one in lanes if (one.name == "unet") == (name == "train.unet") and one.name != "final"]
        steps = sum(one.total * one.trainings for one in mine)
        return sum(one.step * one.trainings for one in mine) / steps if steps else 0.0
    if name == "steps":
        return sum(read_share(run, model) for model in run.config.methods) / len(run.config.methods)
    whole = {"generate": len(run.config.trials) + 1, "final": 2}
    if name == "control":
        whole["control"] = len(run.config.control.kinds) * min(3, 1 + len(run.config.methods))
    ended = {event["stage"] for event in events if event.get("kind") == "finished" and part_of(event["stage"]) == name}
    under_way = live["done"] / live["total"] if live.get("total") else 0.0
    return min(1.0, (len(ended) + under_way) / whole.get(name, max(1, len(ended) + 1)))


def read_share(run: Run, model: str) -> float:
    """How much of a model's readings are there: they are looked at while it trains, or afterwards."""
    if (run.model_folder(model) / "curve.json").is_file():
        return 1.0
    trials = [trial.name for trial in run.config.trials.values() if trial.model == model]
    read = sum(1 for trial in trials for _ in run.model_folder(trial).glob("steps/*/heldout.json"))
    return min(1.0, read / (len(trials) * run.config.study.readings))


def left(estimated: float | None, share: float, seconds: float) -> float | None:
    """Seconds that a part has left: at its own pace once a tenth is done, before that as was reckoned."""
    if share > 0.1 and seconds > 1:  # of one that has not begun there are none
        return seconds / share * (1 - share)
    return None if estimated is None else estimated * (1 - share)


def live_rate(live: Mapping[str, Any]) -> float | None:
    """Done a second of what is under way."""
    passed, since = live.get("time", 0) - live.get("started", 0), live.get("done", 0) - live.get("first", 0)
    return since / passed if passed > 0 and since > 0 else None


def whole(stages: Sequence[StageView]) -> float | None:
    """Seconds that all parts have left; nothing where one cannot be told."""
    found = [stage.seconds_left for stage in stages if stage.state != "done"]
    return sum(one or 0.0 for one in found) if any(one is not None for one in found) else None
