"""Whole runs on Stable Diffusion 1.5's shapes, in each precision, with the text encoder trained and not.

    python -m benchmarks.whole_runs [--photos FOLDER] [--class dog] [--steps 40] [--base FOLDER]
        [--precisions bf16 fp16] [--text-encoders trained frozen]

On one GPU, random weights, 512 px: `portrayal run` passes through every stage, for bf16 and fp16, and with the text
encoder trained and frozen: class images, the full UNet and a LoRA of rank 64, a few steps each at batch 1; every scene
by the base and both; pictures held to the outline and to the soft outline, each by its ControlNet; judged by stand-ins;
the report. Then both ControlNets at once, each with its scale and its part of the steps. Every run is a process of its
own; what an earlier call on this commit and GPU ran is not run again, other rows say which they are of. `peak` is what
tensors took at the fullest, `held` what PyTorch held of the GPU; seconds count from the process's start to its end,
imports, loading and recording of steps included. Few steps: it is the stages that are shown to work, not speed, which
other benchmarks tell. Losses of the last step are there to show that fp16 stays finite.

Without a GPU `pocket` passes through the same with fewer pictures, in fp32 and bf16, and nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

import portrayal
from benchmarks.record import RESULTS, commit, machine, print_table, read, save
from benchmarks.standins import base_here, write_scorers
from benchmarks.timing import PHOTOS, on_gpu

KINDS = ("canny", "softedge")
BOTH = ("canny:0.8:0-0.6", "softedge:0.5:0.2-1")
TRIAL = (
    "base.resolution=128",
    "generation.num_inference_steps=2",
    "evaluation.num_timesteps=2",
    'control.kinds=["canny"]',
)
Json = dict[str, Any]


def changes(asked: Json) -> list[str]:
    """What differs from the recipe: a few steps, few pictures."""
    trained = str(asked["text encoder"] == "trained").lower()
    settings = [
        f'base.name="{asked["base"]}"',
        f'subject.class_noun="{asked["class"]}"',
        "study.ranks=[64]",
        "study.folds=1",
        "study.final=false",
        f"training.mixed_precision={asked['precision']}",
        "training.train_batch_size=1",
        "training.num_class_images=4",
        "training.checkpointing_steps=0",
        *(f"method.{kind}.max_train_steps={asked['steps']}" for kind in ("unet", "lora")),
        *(f"method.{kind}.train_text_encoder={trained}" for kind in ("unet", "lora")),
        "generation.num_images_per_scene=1",
        "generation.num_inference_steps=10",
        "control.num_images=2",
        "control.scales=[1.0]",
        "evaluation.num_timesteps=4",
    ]
    if not on_gpu():
        return [*settings, *TRIAL]
    networks = ", ".join(f'{kind}="{Path(asked["base"]) / f"controlnet_{kind}"}"' for kind in KINDS)
    return [*settings, f"control.kinds={json.dumps(KINDS)}", f"control.controlnet={{{networks}}}"]


def inside(asked: Json) -> Json:
    """One run and pictures held by both ControlNets, in this process."""
    folder, photos = Path(asked["folder"]) / "run", Path(asked["photos"])
    config = portrayal.make_plan("sd15-80gb" if on_gpu() else "pocket-demo", changes(asked)).config
    run = portrayal.portray(photos, config, folder, consent=True)
    reference = sorted(path for path in photos.iterdir() if path.suffix in (".jpg", ".png"))[0]
    kinds = BOTH if on_gpu() else ("canny:0.8:0-0.6", "openpose:0.5:0.2-1")
    both = portrayal.paint(
        run, ["a photo of {subject}"], ["lora-64"], count=2, controls=[reference] * 2, control_kinds=kinds
    )
    losses = {}
    for model in ("unet", "lora-64"):
        lines = (run.folder / "models" / model / "training.jsonl").read_text(encoding="utf-8").splitlines()
        losses[model] = json.loads(lines[-1])["loss"]
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise SystemExit(f"a loss is not finite: {losses}")
    told = {name: read(run.folder / "models" / name / "method.json")["peak_memory_gib"] or "" for name in losses}
    gib = 2**30
    peaks = [0.0]
    if on_gpu():  # each training counts anew
        peaks = [torch.cuda.max_memory_allocated() / gib, *map(float, told.values())]
    return {
        "peak GiB": round(max(peaks), 2) if on_gpu() else "",
        "held GiB": round(torch.cuda.max_memory_reserved() / gib, 2) if on_gpu() else "",
        "unet GiB": told["unet"],
        "lora-64 GiB": told["lora-64"],
        "last losses": ", ".join(f"{loss:.4f}" for loss in losses.values()),
        "stages": len(list((run.folder / "stages").glob("*.json"))),
        "pictures": len(list((run.folder / "images").rglob("*.png"))),
        "by both": len(both),
        "report MB": round((run.folder / "report.html").stat().st_size / 1e6, 2),
    }


def once(asked: Json, environment: dict[str, str]) -> Json:
    """A run in a process of its own; a failure ends the benchmark with what the process said."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        command = [
            sys.executable,
            "-m",
            "benchmarks.whole_runs",
            "--inside",
            json.dumps(asked | {"folder": temporary}),
        ]
        done = subprocess.run(command, capture_output=True, env=environment, check=False, text=True)
    if done.returncode:
        raise SystemExit(f"{asked} failed:\n{done.stderr[-4000:]}")
    told: Json = {name: asked[name] for name in ("precision", "text encoder")}
    found: Json = json.loads(done.stdout.splitlines()[-1])
    return told | {"seconds": round(time.perf_counter() - started, 1)} | found


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--class", dest="class_noun", default="woman")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    parser.add_argument("--precisions", nargs="*", default=["bf16", "fp16"] if on_gpu() else ["no", "bf16"])
    parser.add_argument("--text-encoders", nargs="*", default=["trained", "frozen"])
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(inside(json.loads(arguments.inside))))
        return
    kept = RESULTS / "whole_runs.json"
    rows: list[Json] = read(kept)["figures"] if on_gpu() and kept.is_file() else []
    taken = {"gpu": machine().get("gpu", ""), "commit": commit()[:7]}
    with base_here(arguments.base) as base, tempfile.TemporaryDirectory() as temporary:
        environment = os.environ | {"PORTRAYAL_CACHE": str(Path(temporary) / "cache")}
        if on_gpu():
            second = Path(base) / "controlnet_softedge"
            if not second.is_dir():
                shutil.copytree(Path(base) / "controlnet_canny", second)
            environment |= {"HF_HOME": str(write_scorers(Path(temporary) / "hub")), "HF_HUB_OFFLINE": "1"}
        common = {"base": base, "photos": str(arguments.photos), "class": arguments.class_noun}
        for precision, trained in product(arguments.precisions, arguments.text_encoders):
            which = {"precision": precision, "text encoder": trained}
            if any(which | taken == {key: row.get(key) for key in which | taken} for row in rows):
                continue
            asked = which | {"steps": arguments.steps if on_gpu() else 2}
            rows = [row for row in rows if which != {key: row[key] for key in which}]
            rows.append(once(common | asked, environment) | taken)
            if on_gpu():  # after each: the machine may be lent for less time than all of them take
                settings = {"steps": arguments.steps, "resolution": 512, "photos": arguments.photos.name}
                save("whole_runs", rows, settings | {"class": arguments.class_noun, "controls": BOTH})
    print_table(rows)


if __name__ == "__main__":
    main()
