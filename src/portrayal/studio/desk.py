"""A second process for what takes seconds and needs torch: plans, checks of photos, control images.

The server stays light and quick; a decoder that dies of a broken photo takes only this process with it, and the next
question starts another. It is told that there is no network, so that looking never fetches anything. Whoever asks gets
nothing until the answer is there, and asks again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from portrayal import PortrayalError
from portrayal.studio import controls, forms, photos
from portrayal.studio.forms import Outlook
from portrayal.studio.jobs import Failure
from portrayal.studio.photos import Contact
from portrayal.studio.projects import Project

T = TypeVar("T")
REMEMBERED = 64
"""Answers that are kept."""


@dataclass
class Desk:
    """Answers questions one after the other in a process of its own, which starts with the first.

    Attributes:
        pool: The process, while there is one.
        asked: Questions and their answers, the latest last.
    """

    pool: ProcessPoolExecutor | None = None
    asked: OrderedDict[Hashable, Future[Any]] = field(default_factory=OrderedDict)
    lock: RLock = field(default_factory=RLock)

    def ask(self, kind: str, about: Hashable, question: Callable[..., T], *arguments: Any) -> T | None:
        """The answer of a module's function, or nothing while it is being found.

        Args:
            kind: A waiting question of the same kind about something else of the same project is dropped.
            about: What the answer is a function of; its first part names the project.
            question: The function.
            arguments: Its arguments.

        Raises:
            PortrayalError: What the function raised, with its cause and remedy.
        """
        with self.lock:
            key: Hashable = (kind, about)
            if key not in self.asked:
                self.drop_waiting(kind, about)
                self.asked[key] = self.submit(question, arguments)
                while len(self.asked) > REMEMBERED:
                    self.asked.popitem(last=False)
            future = self.asked[key]
            if not future.done():
                return None
            try:
                found, answer = future.result()
            except BrokenProcessPool:
                self.close()
                raise PortrayalError(
                    "Looking at this ended the program that looks.", "Leave out what was added last, and try again."
                ) from None
            if not found:
                del self.asked[key]  # it may go better next time
                raise PortrayalError(*answer)
            self.asked.move_to_end(key)
            return answer  # type: ignore[no-any-return]

    def drop_waiting(self, kind: str, about: Hashable) -> None:
        """Forget questions that nobody waits for any more."""
        of = about[0] if isinstance(about, tuple) else about
        for key in [one for one in self.asked if isinstance(one, tuple) and one[0] == kind and one[1][0] == of]:
            if self.asked[key].cancel():
                del self.asked[key]

    def submit(self, question: Callable[..., Any], arguments: tuple[Any, ...]) -> Future[Any]:
        """Hand a question in."""
        try:
            self.pool = self.pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), offline)
            return self.pool.submit(answered, question, arguments)
        except BrokenProcessPool:
            self.close()
            return self.submit(question, arguments)

    def close(self) -> None:
        """End the process and forget what was asked; the next question starts another."""
        with self.lock:
            pool, self.pool = self.pool, None
            self.asked.clear()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


DESK = Desk()
"""That of this process."""


def offline() -> None:
    """Begin: no network, and no word from libraries."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")


def answered(question: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether a question was answered, and the answer, or cause and remedy."""
    try:
        return True, question(*arguments)
    except PortrayalError as error:
        return False, (error.cause, error.remedy)
    except Exception as error:  # a fault of ours: told, and the desk goes on
        return False, (f"{type(error).__name__}: {error}", "This is a fault of ours; please report it.")


def outlook(project: Project) -> Outlook | None:
    """What the run of a project would take here; nothing while it is being found out."""
    about = (str(project.folder), tuple(project.settings), len(project.photos))
    return DESK.ask("outlook", about, forms.plan, project)


def check(project: Project) -> Contact | None:
    """The photos of a project with advice on each and on the set; nothing while they are being looked at.

    Raises:
        PortrayalError: If they cannot be looked at.
    """
    now = photos.contact(project)
    if now.checked or project.started or not now.photos:
        return now
    about = (str(project.folder), repr(photos.inputs_of(project)))
    return DESK.ask("check", about, photos.check, project)


def control_seen(project: Project, name: str, kind: str) -> Path | Failure | None:
    """What an annotator sees in an accepted picture, as a PNG; nothing while it is being made."""
    try:
        target = controls.seen_path(project, name, kind)
        if target.is_file():
            return target
        return DESK.ask("control", (str(project.folder), name, kind), controls.control_seen, project, name, kind)
    except PortrayalError as error:
        return Failure(error.cause, error.remedy, error.exit_code)
