"""The queue: what is to be done, in order, as files that outlive the server; one job at a time.

::

    ROOT/.studio/jobs/NUMBER/job.json   the job
    ROOT/.studio/jobs/NUMBER/log.txt    what its command said
    ROOT/.studio/jobs/NUMBER/said.json  its outcome, as its command printed it

The server adds jobs and wishes; the worker (`portrayal.studio.worker`) carries them out. Both change a job only while
they hold the lock of the folder.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from portrayal import MachineError, UsageError, request_of_training
from portrayal.studio.files import live_of, locked, read_json, write_json
from portrayal.studio.projects import WORKSHOP, Project, Projects

Kind = Literal["run", "paint", "export", "report"]
JobState = Literal["queued", "running", "pausing", "paused", "stopping", "done", "failed", "cancelled"]
Wish = Literal["", "pause", "cancel"]

ENDED = frozenset({"done", "failed", "cancelled"})
AT_WORK = frozenset({"running", "pausing", "stopping"})
LAST_LINES = 20
PATIENCE = 60.0
"""Seconds that a project's work may take to stop before deleting it is refused."""


@dataclass(frozen=True)
class Failure:
    """Why a job failed.

    Attributes:
        message: What happened.
        fix: What to do about it.
        code: The command's exit code; see :mod:`portrayal.errors`. Negative is the signal that killed it.
        last_lines: Of its log.
    """

    message: str
    fix: str
    code: int
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One thing to be done.

    Attributes:
        id: Its number, as text; later jobs have higher ones.
        project: Name of its project.
        kind: `run` (the whole job, or what is left of it), `paint`, `export` or `report`.
        arguments: What :func:`portrayal.studio.commands.command` makes of its command.
        state: How far it is. A paused job waits for :meth:`Queue.resume`, and others go on meanwhile.
        created: When it was asked for, in Unix seconds.
        started: When it was first begun; 0 before.
        ended: When it ended; 0 before.
        place: Jobs before it, while it is queued.
        error: Why it failed.
        result: What its command said at its end: paths of pictures, files, the report.
        wish: What was asked of it and has not been done yet.
        process: Process id and start of what works on it: a process id alone may come to be another's.
    """

    id: str
    project: str
    kind: Kind
    arguments: dict[str, Any] = field(default_factory=dict)
    state: JobState = "queued"
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    place: int = 0
    error: Failure | None = None
    result: dict[str, Any] = field(default_factory=dict)
    wish: Wish = ""
    process: tuple[int, float] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """Read what :meth:`Queue.write` wrote."""
        error, process = values.get("error"), values.get("process")
        failure = Failure(**(error | {"last_lines": tuple(error["last_lines"])})) if error else None
        return cls(**{**values, "error": failure, "process": tuple(process) if process else None})


@dataclass(frozen=True)
class Queue:
    """All jobs of a studio.

    Attributes:
        root: Folder of all projects.
        recipe: What settings of projects start from; see :class:`portrayal.studio.projects.Projects`.
    """

    root: Path
    recipe: str | None = None

    @property
    def folder(self) -> Path:
        """Where jobs lie."""
        return self.root / WORKSHOP / "jobs"

    def submit(self, project: Project, kind: Kind, arguments: Mapping[str, Any] | None = None) -> Job:
        """Add a job at the end of the queue.

        Raises:
            UsageError: If it cannot be meant, consent is missing, or the project's run is being made already.
        """
        from portrayal.studio.commands import command

        if kind not in get_args(Kind):
            raise UsageError(f"There is no kind of job {kind!r}.")
        job = Job("", project.name, kind, dict(arguments or {}), created=time.time())
        command(project, job)  # refuses what cannot be meant before anything waits
        with locked(self.folder):
            waiting = [
                one for one in self.jobs() if one.project == project.name and one.kind == "run" and not one.ended
            ]
            if kind == "run" and waiting:
                raise UsageError(f"{project.name} is being worked on already.", "Pause or cancel that first.")
            taken = [int(one.id) for one in self.jobs()]
            job = replace(job, id=f"{max(taken, default=0) + 1:06d}")
            self.write(job)
        return self.job(job.id)

    def jobs(self) -> list[Job]:
        """All jobs, the oldest first."""
        found = sorted(self.folder.glob("*/job.json")) if self.folder.is_dir() else []
        jobs = [Job.from_json(values) for path in found if (values := read_json(path))]
        ahead, placed = 0, []
        for job in jobs:
            placed.append(replace(job, place=ahead if job.state == "queued" else 0))
            ahead += job.state in AT_WORK or job.state == "queued"
        return placed

    def job(self, id: str) -> Job:
        """The job of a number.

        Raises:
            UsageError: If there is none.
        """
        found = next((job for job in self.jobs() if job.id == id), None)
        if found is None:
            raise UsageError(f"There is no job {id!r}.")
        return found

    def cancel(self, id: str) -> Job:
        """Give a job up; what it has finished stays."""
        return self.ask(id, "cancel")

    def pause(self, id: str) -> Job:
        """Interrupt a job so that it can go on later: a training at once, with a checkpoint."""
        return self.ask(id, "pause")

    def stop_and_keep(self, id: str) -> Job:
        """End the training under way after its current step, or its next reading where others of its model are done.

        Raises:
            UsageError: If the job is not training.
        """
        return self.request(id, "stop")

    def sample_now(self, id: str) -> Job:
        """Paint a picture with each model in training, as it is now.

        Raises:
            UsageError: If the job is not training.
        """
        return self.request(id, "sample")

    def request(self, id: str, what: Literal["stop", "sample"]) -> Job:
        """Ask something of the training under way."""
        job = self.job(id)
        folder = self.project(job).run_folder
        training = str(live_of(folder).get("stage", "")).startswith("train.")
        if job.state != "running" or not training or not request_of_training(folder, what):
            raise UsageError(f"Job {id} is not training at the moment.")
        return job

    def resume(self, id: str) -> Job:
        """Let a paused or failed job go on where it was; it waits in its old place.

        Raises:
            UsageError: If it is neither.
        """

        def again(job: Job) -> Job:
            if job.state not in ("paused", "failed"):
                raise UsageError(f"Job {id} is {job.state}: there is nothing to go on with.")
            return replace(job, state="queued", ended=0.0, error=None, wish="", process=None)

        return self.change(id, again)

    def ask(self, id: str, wish: Wish) -> Job:
        """Ask something of a job; the worker does it within a second or two.

        Raises:
            UsageError: If the job is not in a state for it.
        """

        def asked(job: Job) -> Job:
            cancel = wish == "cancel"
            if job.state in ("queued", "paused"):
                return replace(job, state="cancelled" if cancel else "paused", ended=time.time() if cancel else 0.0)
            if job.state not in AT_WORK:
                raise UsageError(f"Job {id} is {job.state}: that cannot be asked of it.")
            if job.wish == "cancel":
                return job
            return replace(job, wish=wish, state="stopping" if cancel else "pausing")

        return self.change(id, asked)

    def change(self, id: str, change: Callable[[Job], Job]) -> Job:
        """Change a job while nobody else does."""
        with locked(self.folder):
            self.write(change(self.job(id)))
        return self.job(id)

    def write(self, job: Job) -> None:
        """Keep a job."""
        write_json(self.folder / job.id / "job.json", asdict(replace(job, place=0)))

    def log(self, id: str) -> Path:
        """Where a job's log lies."""
        return self.folder / id / "log.txt"

    def last_lines(self, id: str, count: int = LAST_LINES) -> list[str]:
        """The end of a job's log."""
        return tail(self.log(id), count)

    def forget(self, project: str) -> None:
        """Stop what works on a project and remove its jobs.

        Raises:
            MachineError: If the work does not stop within a minute.
        """
        from portrayal.studio.worker import ensure_worker

        mine = [job for job in self.jobs() if job.project == project]
        for job in mine:
            if not job.ended:
                self.ask(job.id, "cancel")
        until = time.monotonic() + PATIENCE
        while any(self.job(job.id).state in AT_WORK for job in mine):
            ensure_worker(self.root, self.recipe)
            if time.monotonic() > until:
                raise MachineError(f"The work on {project} does not stop.", "Try again in a minute.")
            time.sleep(0.1)
        with locked(self.folder):
            for job in mine:
                shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def project(self, job: Job) -> Project:
        """A job's project."""
        return Projects(self.root, self.recipe).open(job.project)


def tail(path: Path, count: int) -> list[str]:
    """The last lines of a text file; none where there is none."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 400 * count))
        return file.read().decode(errors="replace").splitlines()[-count:]
