"""Subjects per hour of one card: the default study one after another, and several studies sharing the card.

    python -m benchmarks.subjects_per_hour [--subjects 8] [--shares 0 1 2 4] [--base FOLDER] [--set section.key=value]
        [--mps] [--keep FOLDER [--within SECONDS]]

Stable Diffusion 1.5's shapes with random weights, 512 px, the recipe of 80 GB with the settings of `experiment_speed`,
but three folds and the model trained once more on all photos, as by default. Every subject is the example photos in a
folder of its own. `portrayal batch` does them by Ray with so many at once: a share of one is one study at a time in one
worker that keeps the base; 0, without Ray, is one process after another. Seconds count from the start of the command to
its end. A small study goes before, which is not counted: class images are painted, kernels built, and kept. `peak GiB`
is the largest of a study's trainings. Results join those of earlier calls on the same commit and machine; on one with
several GPUs two calls may measure side by side, each with its own in `CUDA_VISIBLE_DEVICES` and its own `--keep`.

Processes that share a card take turns on it; with `--mps` they compute at once, by NVIDIA's Multi-Process Service,
which is started before and ended after.

Where a command may not take as long as a batch does, `--within` stops it, and with `--keep` the next call goes on with
its runs; its seconds are those of all its commands, starting again included.

Needs a CUDA GPU. Without one a few steps of `pocket` pass through the same on two workers, and nothing is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.experiment_speed import SETTINGS, TRIAL
from benchmarks.record import earlier, print_table, read, save
from benchmarks.standins import base_here, write_scorers
from benchmarks.timing import PHOTOS, on_gpu
from portrayal.estimate.afterwards import whole_stages

DEFAULT_STUDY = ("study.folds=3", "study.readings=6", "study.final=true", "training.prior_loss_weight=1")
SMALL_STUDY = (
    "study.folds=1",
    "study.readings=1",
    "study.final=false",
    "method.unet.max_train_steps=4",
    "method.lora.max_train_steps=4",
    "generation.num_images_per_scene=1",
    "control.num_images=1",
)


def main() -> None:
    """Measure, print, record on a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--shares", type=int, nargs="*", default=[0, 1, 2, 4], help="studies at once")
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--mps", action="store_true", help="studies share the card by NVIDIA's Multi-Process Service")
    parser.add_argument("--keep", type=Path, help="folder of the runs, for a later call to go on with")
    parser.add_argument("--within", type=float, help="seconds after which a batch is stopped")
    arguments = parser.parse_args()
    ends = time.monotonic() + arguments.within if arguments.within else None
    with base_here(arguments.base) as base, tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        subjects = copies(folder / "photos", arguments.subjects if on_gpu() else 2)
        os.environ["PORTRAYAL_CACHE"] = str(folder / "cache")
        if on_gpu():
            os.environ |= {"HF_HOME": str(write_scorers(folder / "hub")), "HF_HUB_OFFLINE": "1"}
        first = copies(folder / "before", 1)
        small = [*arguments.settings, *SMALL_STUDY]
        batch(batch_of(base, first, folder / "runs-before", 0, small), folder / "seconds-before", ends)
        for share in arguments.shares:
            way = f"{share or 'without Ray'}{', by MPS' if arguments.mps else ''}"
            command = batch_of(base, subjects, folder / f"runs-{share}", share, arguments.settings)
            with by_mps(folder) if arguments.mps else nullcontext():
                seconds = batch(command, folder / f"seconds-{share}", ends)
            found = {"studies at once": way, **row(folder / f"runs-{share}", seconds)}
            rows = (earlier("subjects_per_hour") or {"rows": []})["rows"] if on_gpu() else []
            rows = [one for one in rows if one["studies at once"] != found["studies at once"]] + [found]
            print_table([{key: value for key, value in one.items() if key != "stages"} for one in rows])
            if on_gpu():  # after each: the machine may be lent for less time than all of them take
                settings = {"settings": [*SETTINGS, *DEFAULT_STUDY], "changed": arguments.settings}
                save("subjects_per_hour", {"rows": rows}, settings)
            shutil.rmtree(folder / f"runs-{share}")
            (folder / f"seconds-{share}").unlink()


def copies(folder: Path, count: int) -> Path:
    """The example photos as several subjects."""
    for number in range(count):
        shutil.copytree(PHOTOS, folder / f"subject-{number}", dirs_exist_ok=True)
    return folder


def batch_of(base: str, subjects: Path, out: Path, share: int, changes: Sequence[str]) -> list[str]:
    """The command with so many studies at once; 0 is without Ray."""
    controlnet = "auto" if base == "pocket" else str(Path(base) / "controlnet_canny")
    settings = [*SETTINGS, *DEFAULT_STUDY, *([] if on_gpu() else TRIAL), f'control.controlnet="{controlnet}"', *changes]
    command = [sys.executable, "-m", "portrayal", "batch", str(subjects), "--out", str(out), "--consent", "--json"]
    command += ["--base", base, "--class", "woman", "--recipe", "sd15-80gb" if on_gpu() else "pocket-demo"]
    command += [word for setting in settings for word in ("--set", setting)]
    return [*command, *(["--at-once", str(share)] if share else ["--address", "none"])]


def batch(command: Sequence[str], told: Path, ends: float | None) -> float:
    """Do a batch, or go on with it; the seconds that its commands took, which a file tells the next of.

    Raises:
        SystemExit: If it fails, or is stopped since there is no more time.
    """
    before, started = float(told.read_text()) if told.is_file() else 0.0, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            code = process.wait(ends - started if ends else None)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            code = None
    seconds = before + time.monotonic() - started
    told.write_text(str(seconds))
    if code is None:
        raise SystemExit(f"Stopped after {seconds:.0f} s in all; call again with the same --keep to go on.")
    if code:
        raise SystemExit(f"portrayal batch ended with {code}.")
    return seconds


@contextmanager
def by_mps(folder: Path) -> Iterator[None]:
    """Start what lets processes compute at once on the first GPU that is visible, and see to it that they do."""
    if shutil.which("nvidia-cuda-mps-control") is None:
        raise SystemExit("There is no nvidia-cuda-mps-control: NVIDIA's driver for Linux brings it.")
    before = dict(os.environ)
    os.environ |= {f"CUDA_MPS_{name}_DIRECTORY": str(folder / "mps") for name in ("PIPE", "LOG")}
    (folder / "mps").mkdir(exist_ok=True)
    subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # it counts those it was started with
    try:
        yield
    finally:
        subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", check=False)
        os.environ.clear()
        os.environ |= before


def row(out: Path, seconds: float) -> dict[str, Any]:
    """What a batch that is done took."""
    summary = read(out / "batch" / "summary.json")
    if summary["failed"]:
        raise SystemExit(f"Of the subjects failed: {summary['failed']}")
    stages = [whole_stages(path) for path in out.glob("*/events.jsonl")]
    peaks = [read(path)["peak_memory_gib"] or 0.0 for path in out.glob("*/models/*/method.json")]
    return {
        "subjects": summary["done"],
        "seconds": round(seconds, 1),
        "subjects an hour": round(3600 * summary["done"] / seconds, 1),
        "seconds of a study": round(summary["work_seconds"] / summary["done"], 1),
        "peak GiB": max(peaks, default=0.0) or "",
        "stages": {
            part: round(sum(one.get(part, 0.0) for one in stages) / len(stages), 1)
            for part in dict.fromkeys(chain(*stages))
        },
    }


if __name__ == "__main__":
    main()
