"""Training on small GPUs: what fits into 8 and 3.5 GiB, how fast, and what the savings cost in quality.

    python -m benchmarks.small_cards [--compare] [--steps 20] [--base FOLDER]
    python -m benchmarks.small_cards --quality [--seeds 3]

On one H100 whose memory PyTorch may use up to a cap only (`set_per_process_memory_fraction`; the driver's own half
GiB is not counted, which is why a card of 4 GB is taken as 3.5): `portrayal`'s stages prepare and train in a process
of their own, loading and encoding included, Stable Diffusion 1.5's shapes with random weights, 512 px, batch 1, the
recipe `sd15-8gb` without class images. Full UNet without masters (`method.unet.master_weights=false`) under 8 GiB and
LoRA of rank 64 under 3.5; with `--compare` also as the recipe `sd15-80gb` trains them. The card computes as
fast as an H100 does: a small one is slower. Images per second are the median over steps after the first few; `peak` is
what tensors took while training, `held` what PyTorch held of the GPU from there on, the reading of the held-out photos
included; `why` names the stage that did not fit.

`--quality`: `pocket` and the demo's recipe in bf16, full UNet and text encoder, with fp32 masters and without, at the
same seeds; held-out loss and likeness after the demo's steps, of each seed and the mean difference. The demo's photos,
and its judges. It runs on a CPU too, where the same arithmetic is plain torch; `results/small_cards_quality.json`.
Without a GPU the first part is tried on `pocket` in a few steps, and not kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch

import portrayal
from benchmarks.record import print_table, read, save
from benchmarks.standins import base_here
from benchmarks.timing import ONE_PHOTO, PHOTOS, WARM_UP_STEPS, on_gpu
from portrayal.errors import PortrayalError

SMALL = (
    "training.train_batch_size=1",
    "training.prior_loss_weight=0",
    "control.enabled=false",
    "study.folds=1",
    "study.full_unet=true",
    "study.ranks=[64]",
    "method.unet.master_weights=false",
    "training.optimizer.name=adamw",
    "training.checkpointing_steps=0",
    'method.lora.target_modules=["to_q", "to_k", "to_v", "to_out.0"]',
)
"""What is asked of the recipe `sd15-8gb`: a full UNet too, and no class images."""
CAPS = {"unet": 8.0, "lora-64": 3.5}
"""GiB."""
WITHOUT_MASTERS = {"fp32 masters": "true", "no masters, 8-bit averages": "false"}


def attempt(model: str, cap: float, recipe: str, base: str, steps: int) -> dict[str, Any]:
    """Train in a process of its own, so that each starts with an empty GPU."""
    with tempfile.TemporaryDirectory() as temporary:
        asked = {"model": model, "cap": cap, "recipe": recipe, "base": base, "steps": steps, "folder": temporary}
        command = [sys.executable, "-m", "benchmarks.small_cards", "--inside", json.dumps(asked)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    row = {"model": model, "recipe": recipe, "cap, GiB": cap or "none"}
    if done.returncode:
        empty = {"images/s": "", "peak GiB": "", "held GiB": ""}
        return row | {"fits": "no", **empty, "why": f"ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return row | found


def inside(asked: dict[str, Any]) -> dict[str, Any]:
    """Prepare and train under a cap."""
    if asked["cap"]:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(asked["cap"] * 2**30 / whole)
    steps = [f"method.{kind}.max_train_steps={asked['steps'] + WARM_UP_STEPS}" for kind in ("unet", "lora")]
    changes = [*(SMALL if asked["recipe"] == "sd15-8gb" else (*ONE_PHOTO, "study.ranks=[64]", "study.folds=1"))]
    changes += [f'base.name="{asked["base"]}"', "study.readings=1", *steps]
    at, why = "before training", ""
    folder = Path(asked["folder"]) / "run"

    def follow(event: portrayal.Event) -> None:
        nonlocal at
        at = event.stage

    try:
        config = portrayal.make_plan(asked["recipe"], changes).config
        portrayal.train(portrayal.prepare(PHOTOS, config, folder, consent=True), [asked["model"]], progress=follow)
    except (PortrayalError, torch.OutOfMemoryError) as error:
        traceback.print_exc()
        why = f"{at}: {error}"[:300]
    return {"fits": "no" if why else "yes", **speed_of(folder / "models" / asked["model"]), "why": why}


def speed_of(model: Path) -> dict[str, Any]:
    """Speed and memory of a training that came to its end, whatever became of what follows it."""
    if not (model / "method.json").is_file():
        return {"images/s": "", "peak GiB": "", "held GiB": ""}
    lines = (model / "training.jsonl").read_text(encoding="utf-8").splitlines()[WARM_UP_STEPS:]
    return {
        "images/s": round(statistics.median(json.loads(line)["images_per_second"] for line in lines), 2),
        "peak GiB": read(model / "method.json")["peak_memory_gib"] or "",
        "held GiB": round(torch.cuda.max_memory_reserved() / 2**30, 2) if on_gpu() else "",
    }


def fitting(base: Path | None, steps: int, *, compare: bool) -> list[dict[str, Any]]:
    """Each model under its cap, and as on a large card."""
    with base_here(base) as name:
        ways = [(model, cap if on_gpu() else 0.0, "sd15-8gb") for model, cap in CAPS.items()]
        ways += [(model, 0.0, "sd15-80gb") for model in CAPS if compare]
        return [attempt(model, cap, recipe, name, steps) for model, cap, recipe in ways]


def trained(seed: int, masters: str, folder: Path) -> dict[str, float]:
    """What the demo's full UNet scores, with masters or without."""
    changes = [
        "subject.class_noun=woman",
        "base.name=pocket",
        f"seed={seed}",
        "study.ranks=[]",
        "study.folds=1",
        "study.readings=1",
        "study.final=false",
        "control.enabled=false",
        "training.mixed_precision=bf16",
        f"method.unet.master_weights={masters}",
    ]
    config = portrayal.make_plan("pocket-demo", changes).config
    run = portrayal.portray(PHOTOS, config, folder / f"run-{seed}-{masters}", consent=True)
    (unet,) = (model for model in read(run.folder / "scores.json")["models"] if model["name"] == "unet")
    return {"held-out loss": unet["heldout_loss"]["mean"], "identity": unet["identity"]["mean"]}


def quality(seeds: int) -> list[dict[str, Any]]:
    """Scores of each seed and way, and how far apart the ways are."""
    with tempfile.TemporaryDirectory() as temporary:
        found = {
            way: [trained(seed, masters, Path(temporary)) for seed in range(seeds)]
            for way, masters in WITHOUT_MASTERS.items()
        }
    rows = [
        {"way": way, "seed": seed} | {name: round(value, 5) for name, value in scores.items()}
        for way, runs in found.items()
        for seed, scores in enumerate(runs)
    ]
    with_masters, without = found.values()
    for name, over in (("mean difference", statistics.mean), ("largest difference", lambda all_: max(all_, key=abs))):
        apart = {key: [b[key] - a[key] for a, b in zip(with_masters, without, strict=True)] for key in without[0]}
        rows.append({"way": name, "seed": ""} | {key: round(over(values), 5) for key, values in apart.items()})
    return rows


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true", help="also without caps")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(inside(json.loads(arguments.inside))))
        return
    if arguments.quality:
        rows = quality(arguments.seeds)
        print_table(rows)
        print(save("small_cards_quality", {"quality": rows}, {"recipe": "pocket-demo", "seeds": arguments.seeds}))
        return
    rows = fitting(arguments.base, arguments.steps, compare=arguments.compare)
    print_table(rows)
    if on_gpu():
        print(save("small_cards", {"fitting": rows}, {"steps": arguments.steps, "settings": SMALL}))


if __name__ == "__main__":
    main()
