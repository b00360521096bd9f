"""Which alpha, and which learning rates around it? Trials on four drawn people who are in no table.

    python -m benchmarks.alpha_trials [--out DIR] [--people 4] [--set key=value] [--name NAME]

Ranks 8 and 32 with the same alpha, at several products of alpha and learning rate: the first steps of all with one
product are as large. Two folds each, in one pack, with the demo's recipe otherwise; the text encoder's rate moves with
the UNet's. `--set training.lr_scheduler=constant_with_warmup --name constant` tries another schedule.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import portrayal
from benchmarks.pocket_people import config_of, draw_photos, subject
from benchmarks.rate_runs import FOLDS, Cell, judge, train
from benchmarks.record import RESULTS, print_table, read, save

FIRST_PERSON = 600
ALPHAS = (8.0, 16.0, 32.0, 64.0)
PRODUCTS = (8.0, 16.0, 32.0)
"""Alpha times the multiple of the recipe's learning rate."""
RANKS = (8, 32)
AXES = ("identity", "prompt", "drift", "colour")


def main() -> None:
    """Train, judge, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--name", default="recipe", help="what the settings are called in the result")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        trainings = []
        for number in range(FIRST_PERSON, FIRST_PERSON + arguments.people):
            trainings += try_person(number, out, arguments.settings)
    rows = summarize(trainings)
    print_table(rows)
    path = RESULTS / "alpha_trials.json"
    known = read(path)["figures"] if path.is_file() else {}
    figures = known | {arguments.name: {"changed": arguments.settings, "rows": rows}}
    print(save("alpha_trials", figures, {"people": arguments.people, "first": FIRST_PERSON}))


def try_person(number: int, out: Path, changes: list[str]) -> list[dict[str, Any]]:
    """What was measured of each training of a person, and of the base."""
    photos, started = out / f"photos-{number}", time.monotonic()
    if not photos.is_dir():
        draw_photos(number, photos)
    config = config_of(subject(number), [f"study.folds={FOLDS}", "training.checkpointing_steps=0", *changes])
    run = portrayal.prepare(photos, config, out / f"person-{number}-{len(list(out.iterdir()))}", consent=True)
    cells = [
        Cell(rank, alpha, product / alpha, fold, round(alpha))  # the seed tells alphas apart in the names
        for fold in range(2)
        for rank in RANKS
        for alpha in ALPHAS
        for product in PRODUCTS
    ]
    train(run, cells)
    found = judge(run, cells)
    print(json.dumps({"person": number, "seconds": round(time.monotonic() - started)}), flush=True)
    return found


def summarize(trainings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of each combination over people and folds."""
    rows = []
    for alpha in ALPHAS:
        for product in PRODUCTS:
            for rank in RANKS:
                name = f"lora-{rank}-x{product / alpha:g}"
                found = [one for one in trainings if (one["model"], one["seed"]) == (name, round(alpha))]
                rows.append({"alpha": alpha, "multiple": product / alpha, "rank": rank, **means_of(found)})
    base = [one for one in trainings if one["model"] == "base"]
    return [*rows, {"alpha": 0.0, "multiple": 0.0, "rank": 0, **means_of(base)}]


def means_of(trainings: list[dict[str, Any]]) -> dict[str, float | None]:
    """How many trainings there are, for the others diverged, and their mean on each axis."""
    means: dict[str, float | None] = {
        axis: round(float(np.mean([np.mean(one[axis]) for one in trainings])), 4) if trainings else None
        for axis in AXES
    }
    return {"n": float(len(trainings)), **means}


if __name__ == "__main__":
    main()
