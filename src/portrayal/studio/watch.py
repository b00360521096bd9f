"""What goes on in a project, read from its run's files: cheaply, so that a page may ask once a second.

Logs are read on from where the last look ended; what does not change is read once. Nothing here touches torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from portrayal import Config, Run
from portrayal.studio.files import live_of
from portrayal.studio.jobs import AT_WORK, Failure, Job, Queue
from portrayal.studio.lanes import Lane, lanes_of
from portrayal.studio.logs import log_of
from portrayal.studio.parts import StageView, stages_of, whole
from portrayal.studio.projects import Project, State

LAST_LINES = 30
NOTES = 40


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
