"""Seconds from a command to its first step, and where they go.

    python -m benchmarks.first_step [--repeats 3] [--base FOLDER] [--peers FOLDER]

From the command `portrayal train RUN` to its first record on disk: imports, loading, encoding, two steps. The run is
prepared, and an earlier run has trained on this machine. Stable Diffusion 1.5's shapes with random weights, 512 px,
bf16, LoRA of rank 64, batch 1, no class images. One more start, which is not counted, is watched by `profile`.

`--peers` is a folder with diffusers' `train_dreambooth_lora.py`, unchanged: to the first update of its progress bar.

Without a GPU it is `pocket`'s first step, and nothing is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import portrayal
from benchmarks.record import print_table, read, save
from benchmarks.standins import base_here
from benchmarks.timing import PHOTOS, WARM_UP_STEPS, on_gpu, plain_config
from benchmarks.training_speed import SCRIPTS, run_peer
from portrayal.stages.doctor import never_compiled

WANTED = (12.0, 6.0)
"""Seconds: at most, and aimed at."""
PLAIN, WATCHED = ("portrayal",), ("benchmarks.profile",)
Rows = list[dict[str, Any]]


def first_steps(base: str, repeats: int) -> tuple[list[float], Rows]:
    """Seconds to the first record of a prepared run, again and again; one before them fills the caches.

    And where the seconds of one more go, by `benchmarks.profile`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = plain_config(base, "study.full_unet=false", "study.ranks=[64]", "study.folds=1")
        prepared = portrayal.prepare(PHOTOS, config, folder / "prepared", consent=True)
        taken = []
        for number in range(repeats + 1):
            run = shutil.copytree(prepared.folder, folder / f"run-{number}")
            taken.append(seconds_to_record(PLAIN, run, folder / "cache", records=1 if number else WARM_UP_STEPS))
        run = shutil.copytree(prepared.folder, folder / "profiled")
        seconds_to_record((*WATCHED, str(folder / "profile.json")), run, folder / "cache", records=1)
        return taken[1:], read(folder / "profile.json")


def seconds_to_record(program: Sequence[str], run: Path, cache: Path, records: int) -> float:
    """Seconds from the start of `portrayal train` to a number of records; the training is stopped there."""
    command = [sys.executable, "-m", *program, "train", str(run)]
    environment = os.environ | {"PORTRAYAL_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    log, started = run.with_suffix(".log"), time.perf_counter()
    with log.open("w", encoding="utf-8") as said, killed(command, said, environment) as process:
        while sum(file.read_bytes().count(b"\n") for file in run.glob("models/.*.training/*.jsonl")) < records:
            if process.poll() is not None:
                raise SystemExit("portrayal train ended early:\n" + log.read_text(encoding="utf-8")[-4000:])
            time.sleep(0.01)
        return time.perf_counter() - started


@contextmanager
def killed(command: Sequence[str], said: Any, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed with the block."""
    with subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def main() -> None:
    """Time ours, then diffusers' script, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    parser.add_argument("--peers", type=Path, help="folder with diffusers' script")
    arguments = parser.parse_args()
    with base_here(arguments.base) as base:
        taken, where = first_steps(base, arguments.repeats)
        timed = None
        if arguments.peers:
            timed = run_peer(arguments.peers / SCRIPTS["lora"], plain_config(base), "lora", 1, until=1)
    seconds = statistics.median(taken)
    row = {
        "first step": "LoRA 64, batch 1",
        "seconds": round(seconds, 2),
        "each": [round(one, 2) for one in taken],
        "at most": WANTED[0],
        "aim": WANTED[1],
        "diffusers": round(timed.first, 2) if timed else "",
        "times as quick": round(timed.first / seconds, 2) if timed else "",
    }
    print_table([row])
    for one in where:
        print(f"{one['seconds']:6.2f} {'  ' * one['depth']}{one['what']}")
    if on_gpu():
        compiled = never_compiled("diffusers") is None
        print(save("first_step", {"seconds": row, "where": where}, {"bytecode is kept": compiled}))


if __name__ == "__main__":
    main()
