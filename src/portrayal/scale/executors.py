"""How studies are done: `(jobs, store) -> outcomes`; here one after another, in processes of the same command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from portrayal.errors import PortrayalError
from portrayal.interruption import interruption
from portrayal.planning import make_plan
from portrayal.scale.outcomes import Outcome, digest, failure, lost
from portrayal.scale.storage import Store
from portrayal.scale.subjects import Study

TRIES = 4
"""How often a study is begun whose process is lost; each time it goes on from its last checkpoint."""


@dataclass(frozen=True)
class Job:
    """A study with what it should take.

    Attributes:
        study: The study.
        seconds: It should take here.
        gib: GPU memory at its fullest; nothing where that is not known.
        memory: GiB of the GPU that was asked; nothing without one.
    """

    study: Study
    seconds: float
    gib: float | None = None
    memory: float | None = None


def reckon(study: Study) -> Job | Outcome:
    """What a study should take on this machine; its failure if its settings or its base are none."""
    try:
        return Job(study, *reckoned(study.recipe, study.settings))
    except PortrayalError as error:
        return failure(study.name, error)


@lru_cache(maxsize=256)
def reckoned(recipe: str | None, settings: tuple[str, ...]) -> tuple[float, float | None, float | None]:
    """Seconds, GiB and the GPU's GiB by the plan: the same for all subjects of the same settings."""
    estimated = make_plan(recipe, list(settings)).estimate()
    return estimated.seconds, estimated.peak_gib, estimated.machine.memory_gib


@dataclass(frozen=True)
class Executor:
    """A way to do studies.

    Attributes:
        execute: Does jobs, in their order as far as there is one, and yields what becomes of them as it is known.
        reckon: What a study should take where it would be done.
    """

    execute: Callable[[Sequence[Job], Store], Iterator[Outcome]]
    reckon: Callable[[Study], Job | Outcome] = reckon


def one_by_one(jobs: Sequence[Job], store: Store) -> Iterator[Outcome]:
    """One study after another, each in a process of its own: what one does to its process harms no other."""
    for job in jobs:
        yield in_a_process(job.study, store)


def in_a_process(study: Study, store: Store) -> Outcome:
    """Do a study by the command that a person would type."""
    started, tries = time.monotonic(), 0
    while True:
        tries += 1
        code, output = carried_out(command(study, store), store.log(study.name))
        seconds = round(time.monotonic() - started, 1)
        if code == 130:
            raise KeyboardInterrupt
        if code == 0:
            return replace(kept(study.name, store), seconds=seconds, tries=tries)
        said = answer(output)
        if said is not None:
            return Outcome(study.name, seconds, said, tries=tries)
        if tries == TRIES or code == 1:  # a fault of ours: it would be the same again
            why = f"Its process ended with {code}; {store.log(study.name)} has what it said."
            return lost(study.name, tries, why, seconds)


def command(study: Study, store: Store) -> list[str]:
    """What Python is to do."""
    return ["-m", "portrayal", *study.arguments(store.folder(study.name))]


def carried_out(words: Sequence[str], log: Path) -> tuple[int, bytes]:
    """Let Python do something in a process of its own; its exit code and what it printed.

    A signal to stop is handed on once, and waited for: a training ends with a whole step.
    """
    with log.open("ab") as said, interruption() as stop:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # Ctrl-C reaches it from here alone
        )
        handed_on = False
        while True:
            try:
                output, _ = process.communicate(timeout=0.2)
                return process.returncode, output
            except subprocess.TimeoutExpired:
                if stop.signal is not None and not handed_on:
                    process.send_signal(stop.signal)
                    handed_on = True
            except BaseException:  # Ctrl-C once more: at once
                process.kill()
                process.wait()
                raise


def answer(output: bytes) -> dict[str, object] | None:
    """The error that a command told as JSON; nothing of a process that was torn away."""
    try:
        error = json.loads(output.splitlines()[-1]).get("error")
    except (ValueError, IndexError, AttributeError):
        return None
    return error if isinstance(error, dict) else None


def kept(name: str, store: Store) -> Outcome:
    """A finished run, brought to where it is kept, as an outcome."""
    try:
        found = digest(store.folder(name))
        store.keep(name)
    except PortrayalError as error:
        return failure(name, error)
    return Outcome(name, digest=found)
