"""Many short studies one after another: memory, open files, threads and disk stay flat.

    python -m benchmarks.soak [--studies 200] [--hours 4]      in one process
    python -m benchmarks.soak --queue [--studies 50]           through the studio's queue

Each is a whole run (photos to report) at settings of a few seconds, in a folder that is deleted afterwards. What the
process holds is read after each: the last quarter against the second is what counts, since the first fills caches. It
ends early after `--hours`, and says how many there were.

Through the queue each is a project of its own, made, handed four photos and submitted while the one before is worked
on, so that one worker does all; it is the worker that is read, and the folder of all projects.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.kills import TINY, few_photos, make_ready
from benchmarks.record import print_table, save
from portrayal.config import Config
from portrayal.settings import load_config
from portrayal.studio.jobs import ENDED, Job, Queue
from portrayal.studio.projects import Projects
from portrayal.studio.uploads import accept_photos
from portrayal.studio.worker import STARTED, ensure_worker
from portrayal.workflow import portray

SHORT = (
    "study.full_unet=false", "study.ranks=[2]", "study.folds=1", "study.readings=1", "study.final=false",
    "method.lora.max_train_steps=2", "training.num_class_images=2", "generation.num_images_per_scene=1",
    "generation.num_inference_steps=2", 'generation.scenes={street = "a photo of {subject} on the street"}',
    "control.num_images=1", 'control.kinds=["canny"]', "control.scales=[1]",
)  # fmt: skip
MEMORY_GROWTH = 1.05
"""What the last quarter may hold, as a share of the second."""


def held(process: int | str = "self") -> dict[str, float]:
    """What a process holds: MiB of memory, open files, threads."""
    folder = Path("/proc") / str(process)
    pages = int((folder / "statm").read_text(encoding="utf-8").split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(list((folder / "fd").iterdir())),
        "threads": len(list((folder / "task").iterdir())),
    }


def disk(folder: Path) -> float:
    """MiB of files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def in_one_process(config: Config, photos: Path, folder: Path) -> Iterator[dict[str, float]]:
    """What this process holds after each run, of a seed of its own, that is deleted."""
    make_ready(config, 4)
    for seed in count():
        out = folder / "run"
        portray(photos, config.model_copy(update={"seed": seed}), out, consent=True)
        shutil.rmtree(out)
        gc.collect()
        yield held() | {"disk": disk(folder)}


def through_the_queue(config: Config, photos: Path, folder: Path) -> Iterator[dict[str, float]]:
    """What the studio's worker holds after each project, which is deleted."""
    recipe = folder / "short.toml"
    recipe.write_text(config.to_toml(), encoding="utf-8")
    projects = Projects(folder / "studio", str(recipe))
    queue = Queue(projects.root, projects.recipe)
    ahead, worker = submitted(projects, queue, photos, 0), None
    for number in count(1):
        job, ahead = ahead, submitted(projects, queue, photos, number)
        ensure_worker(projects.root, projects.recipe)
        worker = worker or STARTED[-1]
        while queue.job(job.id).state not in ENDED:
            time.sleep(0.1)
        if (done := queue.job(job.id)).state != "done" or worker.poll() is not None:
            raise SystemExit(f"a study did not come to its end: {done}")
        projects.delete(job.project)
        yield held(worker.pid) | {"disk": disk(projects.root)}


def submitted(projects: Projects, queue: Queue, photos: Path, number: int) -> Job:
    """A new project with photos, in the queue."""
    project = projects.create(f"person {number}")
    accept_photos(project, [(path, path.name) for path in sorted(photos.iterdir())])
    project.choose(quality="quick", base="pocket", class_noun="woman", consent=True, settled=True)
    return queue.submit(project, "run")


def quarter(values: Sequence[float], number: int) -> float:
    """The median of a quarter of a series."""
    size = max(1, len(values) // 4)
    return statistics.median(values[number * size : (number + 1) * size])


def figures_of(rows: Sequence[dict[str, float]], seconds: float) -> dict[str, Any]:
    """Second and last quarter of what was held."""
    found: dict[str, Any] = {"studies": len(rows), "seconds_each": round(seconds / len(rows), 1)}
    for name in rows[0]:
        values = [row[name] for row in rows]
        second, last = quarter(values, 1), statistics.median(values[-max(1, len(values) // 4) :])
        told = {"second_quarter": second, "last_quarter": last, "most": max(values)}
        found[name] = {key: round(value, 1) for key, value in told.items()}
    return found


def flat(figures: dict[str, Any]) -> bool:
    """Whether nothing grew."""
    memory = figures["memory"]
    grown = memory["last_quarter"] > MEMORY_GROWTH * memory["second_quarter"]
    others = [figures[name] for name in ("files", "threads", "disk")]
    return not grown and all(one["last_quarter"] <= one["second_quarter"] for one in others)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queue", action="store_true", help="through the studio's queue")
    parser.add_argument("--studies", type=int)
    parser.add_argument("--hours", type=float, default=4.0)
    arguments = parser.parse_args()
    studies = arguments.studies or (50 if arguments.queue else 200)
    way = through_the_queue if arguments.queue else in_one_process
    config, rows, begun = load_config(str(TINY), SHORT), list[dict[str, float]](), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PORTRAYAL_CACHE"] = str(folder / "cache")
        for row in way(config, few_photos(folder / "photos", 4), folder):
            rows.append(row)
            print(len(rows), row, flush=True)
            if len(rows) == studies or time.monotonic() - begun > 3600 * arguments.hours:
                break
        for worker in STARTED:
            worker.kill()
    figures = figures_of(rows, time.monotonic() - begun)
    print_table([{"held": name, **value} for name, value in figures.items() if isinstance(value, dict)])
    name = "soak_queue" if arguments.queue else "soak"
    print(save(name, figures | {"flat": flat(figures)}, {"studies": studies, "settings": list(SHORT)}))


if __name__ == "__main__":
    main()
