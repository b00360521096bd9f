"""The whole experiment as a person would run it: one command, from photos to the report.

    python -m benchmarks.experiment_speed [--repeats 3] [--base FOLDER] [--set section.key=value]

On one H100, Stable Diffusion 1.5's shapes with random weights, 512 px, bf16: `portrayal run` in a process of its own
trains the full UNet and LoRAs of ranks 32, 64 and 128 (the LoRAs in one batch), 800 steps of one photo each; paints
five scenes, four pictures each, with the base and the four models, and four pictures of the class with each, which
tell drift; paints twenty pictures held to an outline by a ControlNet with the full UNet, the best LoRA and also the
base, which the product paints to compare with; judges it all and writes the report. SETTINGS says what differs from
the recipe: each model is trained once and read at its end, nothing is trained on all photos afterwards, and no
checkpoints are kept on the way.

Seconds are those of the command, imports and loading included. Counted first on a machine whose caches (kernels, what
runs share) are empty, `cold`, then `--repeats` times more; the median of those is given. The stand-in weights are
written before. Judges of real photos (DINOv2, CLIP) are stand-ins too, so that judging costs what it costs; what they
say means nothing. Without a GPU `pocket` passes through every stage in a few steps, and nothing is kept.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import print_table, read, save
from benchmarks.standins import base_here, write_scorers
from benchmarks.timing import PHOTOS, on_gpu
from portrayal.estimate.afterwards import whole_stages

WANTED = (150.0, 90.0)
"""Seconds of the whole: at most, and aimed at."""
SETTINGS = (
    "base.resolution=512",
    "study.ranks=[32, 64, 128]",
    "study.folds=1",
    "study.readings=1",
    "study.final=false",
    "method.unet.max_train_steps=800",
    "method.lora.max_train_steps=800",
    'method.lora.target_modules=["to_q", "to_k", "to_v", "to_out.0"]',
    "training.train_batch_size=1",
    "training.prior_loss_weight=0",
    "training.checkpointing_steps=0",
    "generation.num_images_per_scene=4",
    "generation.num_inference_steps=25",
    "generation.batch_size=8",
    'control.kinds=["canny"]',
    "control.scales=[1.0]",
    "control.num_images=20",
)
TRIAL = (
    "base.resolution=128",
    "study.ranks=[4, 8]",
    "method.unet.max_train_steps=2",
    "method.lora.max_train_steps=2",
    "generation.num_images_per_scene=1",
    "generation.num_inference_steps=2",
    "control.num_images=2",
    "evaluation.num_timesteps=2",
)
"""Enough for `pocket` to pass through every stage."""


def command_of(base: str, out: Path, changes: Sequence[str]) -> list[str]:
    """What a person would type."""
    controlnet = "auto" if base == "pocket" else str(Path(base) / "controlnet_canny")
    settings = [*SETTINGS, *([] if on_gpu() else TRIAL), f'control.controlnet="{controlnet}"', *changes]
    recipe = "sd15-80gb" if on_gpu() else "pocket-demo"
    words = ["run", str(PHOTOS), "--class", "woman", "--consent", "--base", base, "--recipe", recipe, "--out", str(out)]
    return [sys.executable, "-m", "portrayal", *words, *(word for one in settings for word in ("--set", one))]


def once(base: str, out: Path, environment: dict[str, str], changes: Sequence[str]) -> dict[str, Any]:
    """Run the command; its seconds, by stage, and what came out."""
    log, started = out.with_suffix(".log"), time.perf_counter()
    with log.open("w", encoding="utf-8") as said:
        done = subprocess.run(
            command_of(base, out, changes), stdout=said, stderr=subprocess.STDOUT, env=environment, check=False
        )
    seconds = time.perf_counter() - started
    if done.returncode or not (out / "report.html").is_file():
        raise SystemExit("portrayal run failed:\n" + log.read_text(encoding="utf-8")[-4000:])
    found = {"seconds": round(seconds, 1), "stages": by_stage(out, seconds), "made": made(out)}
    shutil.rmtree(out)
    return found


def by_stage(run: Path, whole: float) -> dict[str, float]:
    """Seconds of each kind of stage, and of all that lies between and around them: imports, loading, encoding."""
    stages = {"prepare": float(read(run / "stages" / "prepare.json")["seconds"])} | whole_stages(run / "events.jsonl")
    rest = whole - sum(stages.values())
    return {name: round(seconds, 2) for name, seconds in (stages | {"between and around": rest}).items()}


def made(run: Path) -> dict[str, Any]:
    """Models and pictures that came out."""
    images, models = run / "images", read(run / "scores.json")["models"]
    held = sorted(path.name for path in images.glob("control/canny/*") if path.is_dir())
    steps = {path.parent.name: read(path)["step"] for path in sorted(run.glob("models/*/method.json"))}
    return {
        "steps": steps,
        "scene and class pictures": sum(
            1 for name in ("class", *(one["name"] for one in models)) for _ in (images / name).rglob("*.png")
        ),
        "held to an outline": {name: len([*(images / "control" / "canny" / name).rglob("*.png")]) for name in held},
    }


def main() -> None:
    """Run the experiment cold and warm, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs after the cold one")
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with base_here(arguments.base) as base, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        caches = {"PORTRAYAL_CACHE": "cache", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
        environment = os.environ | {name: str(folder / place) for name, place in caches.items()}
        if on_gpu():
            environment |= {"HF_HOME": str(write_scorers(folder / "hub")), "HF_HUB_OFFLINE": "1"}
        for number in range(arguments.repeats + 1):
            runs.append(once(base, folder / f"run-{number}", environment, arguments.settings))
            figures = figures_of(runs)
            if on_gpu():  # after each: the machine may be lent for less time than all of them take
                path = save("experiment_speed", figures, {"settings": SETTINGS, "changed": arguments.settings})
    print_table(
        [
            {"stage": stage, "cold": runs[0]["stages"].get(stage, 0.0), "seconds": seconds}
            for stage, seconds in figures["stages"].items()
        ]
    )
    print(f"cold {figures['cold']} s; then {figures['seconds']} s ({figures['each']}); wanted {WANTED[0]}, {WANTED[1]}")
    print(runs[0]["made"])
    if on_gpu():
        print(path)


def figures_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of the runs after the first, where there are any, with its stages."""
    warm = runs[1:] or runs
    stages = {
        name: round(statistics.median(run["stages"].get(name, 0.0) for run in warm), 2) for name in warm[0]["stages"]
    }
    return {
        "cold": runs[0]["seconds"],
        "seconds": round(statistics.median(run["seconds"] for run in warm), 1),
        "each": [run["seconds"] for run in runs[1:]],
        "at most": WANTED[0],
        "aim": WANTED[1],
        "stages": stages,
        "stages, cold": runs[0]["stages"],
        "made": runs[0]["made"],
    }


if __name__ == "__main__":
    main()
