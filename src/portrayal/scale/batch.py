"""Many studies: planned, the long ones first, done by an executor, shown as they go, summed up in one report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from portrayal.errors import PortrayalError, UsageError
from portrayal.processes import here
from portrayal.scale.executors import Executor, Job, one_by_one
from portrayal.scale.on_ray import by_ray, ray_itself
from portrayal.scale.outcomes import Outcome, digest, failure
from portrayal.scale.report import write_summary
from portrayal.scale.storage import RECORDS, Store
from portrayal.scale.subjects import Study, read_studies
from portrayal.scale.summary import Json, summarise

Watch = Callable[["Batch"], None]


@dataclass
class Batch:
    """A batch in progress, as whoever watches sees it.

    Attributes:
        studies: All of them, in the order they were named.
        store: Where runs are kept.
        jobs: What is to be done, in the order it is done.
        outcomes: What is known so far, by name.
        started: When it began, on :func:`time.monotonic`.
    """

    studies: list[Study]
    store: Store
    jobs: list[Job]
    outcomes: dict[str, Outcome]
    started: float


def run_batch(
    subjects: Path,
    out: str,
    recipes: Sequence[str] = (),
    settings: Sequence[str] = (),
    *,
    consent: bool | None = None,
    address: str | None = None,
    at_once: int | None = None,
    watch: Watch | None = None,
) -> Json:
    """Study many subjects, or go on where the same call was interrupted; one that fails is told, and others go on.

    With Ray several are done at once, as memory allows; without it one after another.

    Args:
        subjects: A folder of folders of photos, or a table; see :func:`portrayal.scale.subjects.read_studies`.
        out: Folder of the runs, or an address that fsspec knows, such as `s3://bucket/runs`.
        recipes: What settings start from; several make several studies of each subject.
        settings: `section.key=value` texts for all.
        consent: Whether the subjects agreed, as stated by the user.
        address: Of a Ray cluster; `none` does without Ray; nothing means this machine.
        at_once: Studies that share a GPU, or a machine where there is none; nothing means as many as fit.
        watch: Called whenever something is known.

    Returns:
        The summary, as `batch/summary.json` keeps it.

    Raises:
        PortrayalError: If no study can be begun at all.
    """
    if here().count > 1:
        raise UsageError("A batch is one process.", "Start it without accelerate or torchrun; Ray spreads it.")
    studies, store = read_studies(subjects, recipes, settings, consent=consent), Store(out)
    executor = executor_for(address, at_once)
    batch = Batch(studies, store, [], {}, time.monotonic())
    for study in studies:
        if store.has(study.name):
            note(batch, before(study.name, store))
        elif study.consent is False:
            error = UsageError("The table says that this person does not agree.", "Nobody is trained on unasked.")
            note(batch, failure(study.name, error))
        else:
            found = executor.reckon(study)
            if isinstance(found, Job):
                batch.jobs.append(found)
            else:
                note(batch, found)
    batch.jobs.sort(key=lambda job: -job.seconds)  # stable: equals as they were named
    tell(batch, watch)
    try:
        for outcome in executor.execute(batch.jobs, store) if batch.jobs else ():
            note(batch, outcome)
            tell(batch, watch)
    finally:
        summary = summarise(studies, batch.outcomes, round(time.monotonic() - batch.started, 1))
        store.write(f"{RECORDS}/summary.json", (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode())
        write_summary(store, summary)
    return summary


def executor_for(address: str | None, at_once: int | None = None) -> Executor:
    """Ray where it is installed, unless `none` is asked for; it must be where an address is given."""
    if address == "none":
        return Executor(one_by_one)
    try:
        ray_itself()
    except PortrayalError:
        if address is not None:
            raise
        return Executor(one_by_one)
    return by_ray(address, at_once)


def before(name: str, store: Store) -> Outcome:
    """A study that was done before: what was noted of it then, or what its run says."""
    noted = store.read_json(f"{RECORDS}/{name}.json")
    if noted and noted["error"] is None:
        return replace(Outcome(**noted), before=True)
    return Outcome(name, digest={} if store.remote else digest(store.folder(name)), before=True)


def note(batch: Batch, outcome: Outcome) -> None:
    """Keep what became of a study."""
    batch.outcomes[outcome.name] = outcome
    if not outcome.before:
        batch.store.write(f"{RECORDS}/{outcome.name}.json", (json.dumps(outcome.as_json()) + "\n").encode())


def tell(batch: Batch, watch: Watch | None) -> None:
    """Let whoever watches know."""
    if watch is not None:
        watch(batch)
