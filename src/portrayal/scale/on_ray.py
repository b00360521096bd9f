"""Studies by Ray, on this machine or a cluster: several at once, each with its share of a GPU.

A worker process does one study after another and keeps the base in memory from one to the next; class images are kept
by each machine for all its workers. A worker or machine that is lost takes nothing with it but the time since the last
checkpoint: Ray begins the task again, and the same call goes on.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from portrayal.errors import MachineError, OutOfMemoryError, PortrayalError
from portrayal.scale.executors import TRIES, Executor, Job, kept, reckon
from portrayal.scale.outcomes import Outcome, failure, lost
from portrayal.scale.storage import Store
from portrayal.scale.subjects import Study

HEADROOM = 1.15
"""Times the memory that was reckoned with that a study is given."""
SMALLEST = 0.05

Files = dict[str, bytes]


def by_ray(address: str | None, at_once: int | None = None) -> Executor:
    """An executor on Ray.

    Args:
        address: Of a cluster's head, such as `10.0.0.1:6379` or `ray://10.0.0.1:10001`; nothing means this machine.
        at_once: Studies that share a GPU, or this machine where there is none; nothing means as many as fit.

    Raises:
        MachineError: If Ray is not installed.
    """
    ray = ray_itself()

    def connect() -> None:
        if ray.is_initialized():
            return
        try:
            ray.init(address or "local", include_dashboard=None, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise MachineError(
                f"Ray cannot be reached at {address}: {error}",
                "Is its head running there, and has it the same RAY_AUTH_TOKEN as this machine? See docs/scale.md.",
            ) from error

    def reckon_there(study: Study) -> Job | Outcome:
        connect()
        has_gpus = ray.cluster_resources().get("GPU", 0) > 0
        asked = ray.remote(reckon).options(num_cpus=0, num_gpus=SMALLEST if has_gpus else 0)
        found: Job | Outcome = ray.get(asked.remote(replace(study, photos=Path())))
        return replace(found, study=study) if isinstance(found, Job) else found

    def execute(jobs: Sequence[Job], store: Store) -> Iterator[Outcome]:
        connect()
        try:
            yield from results(ray, jobs, store, at_once, travelling=address is not None)
        finally:
            ray.shutdown()

    return Executor(execute, reckon if address is None else reckon_there)


def ray_itself() -> Any:
    """The package, or how to get it."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of a change to come
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
    if "RAY_AUTH_TOKEN" in os.environ:  # who gives one means it; without the mode Ray does not look at it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise MachineError("Ray is not installed.", "pip install 'portrayal[ray]'") from error
    return ray


def results(ray: Any, jobs: Sequence[Job], store: Store, at_once: int | None, *, travelling: bool) -> Iterator[Outcome]:
    """Hand all jobs to Ray in their order, and yield what becomes of them as it is known."""
    gpus, cpus = (ray.cluster_resources().get(kind, 0) for kind in ("GPU", "CPU"))
    threads = max(1, int(cpus // max(1, at_once or min(cpus, len(jobs)))))
    task, batch = ray.remote(max_retries=TRIES - 1)(work), uuid.uuid4().hex
    waiting: dict[Any, tuple[Job, float]] = {}

    def submit(job: Job, share: float) -> None:
        options: dict[str, Any] = {"num_cpus": 1 if gpus else threads, "name": job.study.name}
        options |= {"num_gpus": share} if gpus else {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(threads)}}}
        photos = files_of(job.study.photos) if travelling else None
        waiting[task.options(**options).remote(job.study, store.out, photos, batch)] = (job, share)

    for job in jobs:
        submit(job, 1 / at_once if at_once else share_of(job))
    while waiting:
        (ready, *_), _ = ray.wait(list(waiting))
        job, share = waiting.pop(ready)
        try:
            outcome: Outcome = ray.get(ready)
        except ray.exceptions.RayTaskError as error:  # a fault of ours: it would be the same again
            yield lost(job.study.name, 1, str(error).strip().splitlines()[-1])
            continue
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RaySystemError):
                raise MachineError(f"Ray's head is gone: {error}", "Start it; the same command goes on.") from error
            yield lost(job.study.name, TRIES, str(error).splitlines()[0])
            continue
        if outcome.error and outcome.error["code"] == OutOfMemoryError.exit_code and gpus and share < 1:
            submit(job, 1.0)  # once more, with a card to itself
        else:
            yield outcome


def share_of(job: Job) -> float:
    """The part of a GPU that a study is given: as much as it needs of the memory, all of it where that is most."""
    if not job.gib or not job.memory:
        return 1.0
    share = HEADROOM * job.gib / job.memory
    return 1.0 if share > 0.5 else max(SMALLEST, round(share + 0.005, 2))


def files_of(photos: Path) -> Files:
    """Everything in a folder of photos, or an archive: it travels with the task, for a cluster need not share disks.

    Raises:
        MachineError: If it cannot be read.
    """
    try:
        if photos.is_file():
            return {photos.name: photos.read_bytes()}
        return {str(path.relative_to(photos)): path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    except OSError as error:
        raise MachineError(f"{error.filename}: {error.strerror}.", "Give this user the right to read it.") from error


def work(study: Study, out: str, photos: Files | None, batch: str) -> Outcome:
    """Do a study, or what is left of it, in a worker; `batch` names the call, whose tries are counted."""
    started, store = time.monotonic(), Store(out)
    with store.log(study.name).open("a", encoding="utf-8") as log:
        log.write(f"begun for {batch}\n")
    tries = store.log(study.name).read_text(encoding="utf-8", errors="replace").count(f"begun for {batch}\n")
    with tempfile.TemporaryDirectory() as folder:
        here = replace(study, photos=unpacked(photos, Path(folder), study.photos)) if photos else study
        outcome = done(here, store)
    return replace(outcome, seconds=round(time.monotonic() - started, 1), tries=tries)


def done(study: Study, store: Store) -> Outcome:
    """Do a study in this process, as one that has done none before: pictures are judged in batches of what is new."""
    from portrayal.planning import make_plan
    from portrayal.stages.shared import shared_looks
    from portrayal.workflow import portray

    shared_looks.cache_clear()
    try:
        config = make_plan(study.recipe, list(study.settings)).config
        portray(study.photos, config, store.folder(study.name), consent=study.consent)
    except PortrayalError as error:
        return failure(study.name, error)
    return kept(study.name, store)


def unpacked(photos: Files, folder: Path, source: Path) -> Path:
    """The photos that travelled, in a folder of this machine; an archive as itself."""
    for name, content in photos.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / source.name if list(photos) == [source.name] and source.suffix.lower() == ".zip" else folder
