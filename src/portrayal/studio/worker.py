"""The worker: a process of its own that does the queue's jobs in order, and lives on when the server does not.

    python -m portrayal.studio.worker ROOT [RECIPE]

Each job is a child process of the command line. A worker that is killed leaves its child at work: the next one finds
it by its process id and start, and waits for it. What is found dead without an outcome has failed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from portrayal import MachineError, PortrayalError
from portrayal.studio.commands import command
from portrayal.studio.files import born_at
from portrayal.studio.jobs import AT_WORK, Failure, Job, Queue
from portrayal.studio.projects import WORKSHOP

TICK = 0.2
IDLE = 5.0
"""Seconds that a worker without work stays."""

SECOND_SIGNAL, KILL = 30.0, 60.0
"""Seconds after which one who was asked to stop is asked to stop at once, and after which it is killed."""

INTERRUPTED = 130
RESERVED = 1 << 16
"""Bytes kept for a job's outcome, so that a full disk can be told of."""

BALLAST = 1 << 20
"""Bytes let go when the disk is full, so that the queue can be written."""

MEANINGS = {
    1: ("A fault of ours ended it.", "The last lines say where; please report them. Going on may work."),
    3: ("This machine could not do it: a full disk, most likely.", "Free some disk space, then go on."),
    6: ("It ran out of memory.", "Choose quick, or a smaller training.train_batch_size."),
}
"""What exit codes mean of commands that could not say so themselves; see :mod:`portrayal.errors`."""


STARTED: list[subprocess.Popen[bytes]] = []
"""Workers that this process started: looked at again, so that none is left a zombie."""


def ensure_worker(root: Path, recipe: str | None = None) -> None:
    """Start a worker if none is at work."""
    lock = FileLock(worker_lock(root))
    try:
        with lock.acquire(timeout=0):
            pass
    except Timeout:
        return
    STARTED[:] = [one for one in STARTED if one.poll() is None]
    with (root / WORKSHOP / "worker.log").open("ab") as log:
        STARTED.append(
            subprocess.Popen(
                [sys.executable, "-m", "portrayal.studio.worker", str(root), *([recipe] if recipe else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )


def worker_lock(root: Path) -> Path:
    """The file that the worker holds while it lives."""
    (root / WORKSHOP).mkdir(parents=True, exist_ok=True)
    return root / WORKSHOP / "worker.lock"


def work(root: Path, recipe: str | None = None, idle: float = IDLE) -> None:
    """Do what is queued until there has been nothing for a while; at once nothing where another worker is at work."""
    queue = Queue(root, recipe)
    try:
        with FileLock(worker_lock(root)).acquire(timeout=0):
            reserve(root)
            last = time.monotonic()
            while (job := next_job(queue)) is not None or time.monotonic() - last < idle:
                if job is None:
                    time.sleep(TICK)
                    continue
                Shift(queue, job).carry_out()
                last = time.monotonic()
    except Timeout:
        return


def reserve(root: Path) -> None:
    """Hold some space of the disk."""
    ballast = root / WORKSHOP / "ballast"
    if not ballast.is_file() or ballast.stat().st_size < BALLAST:
        try:
            ballast.write_bytes(bytes(BALLAST))
        except OSError:
            ballast.unlink(missing_ok=True)


def next_job(queue: Queue) -> Job | None:
    """What was begun, by a worker that is gone; else the first that waits."""
    jobs = queue.jobs()
    begun = [job for job in jobs if job.state in AT_WORK]
    waiting = [job for job in jobs if job.state == "queued"]
    return next(iter(begun + waiting), None)


@dataclass
class Shift:
    """The work on one job.

    Attributes:
        queue: The queue.
        job: The job as it was taken.
        child: Its process, if this worker started it.
    """

    queue: Queue
    job: Job
    child: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> Path:
        """Where the command's outcome lies."""
        return self.queue.folder / self.job.id / "said.json"

    def carry_out(self) -> None:
        """Start the job's command, or find it at work; see it to its end."""
        if self.job.state == "queued":
            try:
                self.start()
            except (PortrayalError, OSError) as error:
                told = error if isinstance(error, PortrayalError) else MachineError(f"It could not start: {error}.")
                self.keep(state="failed", ended=time.time(), error=Failure(told.cause, told.remedy, told.exit_code))
                return
        code = self.wait()
        self.keep(**self.outcome(code))

    def start(self) -> None:
        """Start the command."""
        arguments = command(self.queue.project(self.job), self.job)
        self.said.write_bytes(bytes(RESERVED))
        with self.said.open("r+b") as said, self.queue.log(self.job.id).open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "portrayal", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"},
                start_new_session=True,
            )
        process = (self.child.pid, born_at(self.child.pid))
        started = self.job.started or time.time()
        self.keep(state="running", started=started, process=process, wish="", error=None)

    def wait(self) -> int | None:
        """Its exit code, once it has ended; nothing where another worker had started it."""
        asked: tuple[str, float] = ("", 0.0)
        signals = 0
        while self.alive():
            wish = self.queue.job(self.job.id).wish
            if wish and wish != asked[0]:
                asked, signals = (wish, time.monotonic()), 0
            if wish:
                waited = time.monotonic() - asked[1]
                if signals == 0 or (signals == 1 and waited > SECOND_SIGNAL):
                    self.send(signal.SIGINT)
                    signals += 1
                elif signals == 2 and waited > KILL:
                    self.send(getattr(signal, "SIGKILL", signal.SIGTERM))
                    signals += 1
            time.sleep(TICK)
        return self.child.returncode if self.child else None

    def alive(self) -> bool:
        """Whether the command is at work."""
        if self.child is not None:
            return self.child.poll() is None
        process, born = self.job.process or (0, 0.0)
        return bool(process) and abs(born_at(process) - born) < 1

    def send(self, number: int) -> None:
        """Send the command a signal, if it is still there."""
        process = (self.child.pid if self.child else None) or (self.job.process or (0, 0))[0]
        if process and self.alive():
            os.kill(process, number)

    def outcome(self, code: int | None) -> dict[str, Any]:
        """What becomes of the job."""
        now, wish = time.time(), self.queue.job(self.job.id).wish
        told = self.told()
        if told and code is None:
            code = 0 if told.get("ok") else told["error"]["code"]
        if wish == "cancel":
            return {"state": "cancelled", "ended": now, "process": None}
        if code == 0 and told:
            return {"state": "done", "ended": now, "process": None, "wish": "", "result": told}
        if code == INTERRUPTED or (wish == "pause" and code is not None and code < 0):
            return {"state": "paused", "process": None, "wish": ""}
        return {"state": "failed", "ended": now, "process": None, "wish": "", "error": self.failure(code, told)}

    def told(self) -> dict[str, Any]:
        """What the command printed; empty if it did not come to that."""
        try:
            found = json.loads(self.said.read_bytes().rstrip(b"\0"))
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in found.items() if key != "scores"} if isinstance(found, dict) else {}

    def failure(self, code: int | None, told: dict[str, Any]) -> Failure:
        """Why a command failed, in its own words where it found some."""
        lines = tuple(self.queue.last_lines(self.job.id))
        if "error" in told:
            error = told["error"]
            return Failure(error["message"], error["fix"], error["code"], lines)
        if code is None or code < 0:
            why = f" (signal {-code})" if code else ""
            message = f"It was ended from outside{why}: killed, or the machine ran out of memory or was restarted."
            return Failure(message, "What was finished is kept: go on from there.", code or 0, lines)
        return Failure(*MEANINGS.get(code, (f"It ended with code {code}.", "The last lines say why.")), code, lines)

    def keep(self, **changes: Any) -> None:
        """Change the job; on a full disk, in the room that was held for it."""
        while True:
            try:
                self.job = self.queue.change(self.job.id, lambda job: replace(job, **changes))
                return
            except MachineError:
                (self.queue.root / WORKSHOP / "ballast").unlink(missing_ok=True)
                time.sleep(TICK)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have had it ignored, and children would inherit that
    work(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
