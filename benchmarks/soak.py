"""Many short studies one after another in one process: memory, open files and disk stay flat.

    python -m benchmarks.soak [--studies 200] [--hours 4]

Each is a whole run (photos to report) at settings of a few seconds, in a folder that is deleted afterwards. What the
process holds is read after each: the share of the last quarter over the second is what counts, since the first fills
caches. It ends early after `--hours`, and says how many there were.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.kills import TINY, few_photos, make_ready
from benchmarks.record import print_table, save
from portrayal.config import Config
from portrayal.settings import load_config
from portrayal.workflow import portray

SHORT = (
    "study.full_unet=false", "study.ranks=[2]", "study.folds=1", "study.readings=1", "study.final=false",
    "method.lora.max_train_steps=2", "training.num_class_images=2", "generation.num_images_per_scene=1",
    "generation.num_inference_steps=2", 'generation.scenes={street = "a photo of {subject} on the street"}',
    "control.num_images=1", 'control.kinds=["canny"]', "control.scales=[1]",
)  # fmt: skip
MEMORY_GROWTH = 1.05
"""What the last quarter may hold, as a share of the second."""


def held() -> dict[str, float]:
    """What this process holds: MiB of memory, open files, threads."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
    }


def disk(folder: Path) -> float:
    """MiB of files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def study(photos: Path, config: Config, folder: Path, seed: int) -> None:
    """One run, of its own seed; deleted afterwards."""
    out = folder / "run"
    portray(photos, config.model_copy(update={"seed": seed}), out, consent=True)
    shutil.rmtree(out)
    gc.collect()


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
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--hours", type=float, default=4.0)
    arguments = parser.parse_args()
    config, rows, begun = load_config(str(TINY), SHORT), list[dict[str, float]](), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PORTRAYAL_CACHE"] = str(folder / "cache")
        photos = few_photos(folder / "photos", 4)
        make_ready(config, 4)
        while len(rows) < arguments.studies and time.monotonic() - begun < 3600 * arguments.hours:
            study(photos, config, folder, len(rows))
            rows.append(held() | {"disk": disk(folder)})
            print(len(rows), rows[-1], flush=True)
    figures = figures_of(rows, time.monotonic() - begun)
    print_table([{"held": name, **value} for name, value in figures.items() if isinstance(value, dict)])
    print(save("soak", figures | {"flat": flat(figures)}, {"studies": arguments.studies, "settings": list(SHORT)}))


if __name__ == "__main__":
    main()
