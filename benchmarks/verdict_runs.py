"""Many small trainings of `pocket` on drawn people: what `benchmarks.verdict` draws its verdicts from.

    python -m benchmarks.verdict_runs [--people 8] [--jobs 1] [--out DIR] [--set section.key=value]

Every second person gets a study of the demo's three ranks on 5 folds with 3 seeds; the others one rank on 5 folds with
9 seeds, which can be entered as three "ranks" that do not differ. The full UNet and the ControlNets are left out.
Writes what was measured of each training. The same command goes on in DIR. With `--jobs` people are trained side by
side, each on two CPU cores (and the one GPU, if there is one).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import portrayal
from benchmarks.pocket_people import config_of, draw_photos, spread, subject
from benchmarks.record import print_table, save
from portrayal.evaluation.comparisons import Training
from portrayal.evaluation.evaluate import look_at_all
from portrayal.evaluation.judge import Judge
from portrayal.stages.evaluate import gather
from portrayal.stages.shared import encoders_of, silent

FIRST_PERSON = 100  # not among those of pocket_people
STUDIES = {
    "ranks": ["study.folds=5", "study.seeds=3", "study.readings=4"],
    "same": ["study.folds=5", "study.seeds=9", "study.readings=1", "study.ranks=[16]"],
}
GRIDS = ("heldout_log_ratios", "identity", "prompt", "drift", "colour")
DIGITS = 4


def main() -> None:
    """Train, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        for number in range(arguments.people):
            if not (out / f"photos-{number}").is_dir():
                draw_photos(FIRST_PERSON + number, out / f"photos-{number}")
        calls: list[Any] = [(study, number, out, arguments.settings) for number in range(arguments.people)]
        people = spread(calls, arguments.jobs)
    print_table([row(person, kind) for kind in STUDIES for person in people if person["study"] == kind])
    settings = {"recipe": "pocket-demo", "changed": arguments.settings, "studies": STUDIES}
    print(save("verdict_runs", {"people": people}, settings))


def study(number: int, out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Train, paint and measure one person's models."""
    kind = list(STUDIES)[number % 2]
    settings = ["study.full_unet=false", *STUDIES[kind], *changes]
    config = config_of(subject(FIRST_PERSON + number), settings)
    run = portrayal.prepare(out / f"photos-{number}", config, out / f"person-{number}", consent=True)
    portrayal.train(run)
    portrayal.generate(run)
    evidence = gather(run, lambda *_: None, silent)
    measured = look_at_all(evidence, Judge(evidence, encoders_of(run)))
    trials = {(trial.model, trial.fold, trial.seed): trial.name for trial in run.config.trials.values()}
    trainings = []
    for name, found in measured.items():
        for one in found:
            trial = trials.get((name, one.training.fold, one.training.seed))
            losses = losses_of(run.model_folder(trial) / "training.jsonl") if trial else {}
            trainings.append({"model": name} | as_json(one.training) | losses)
    curves = {model.name: model.curve.as_json() for model in evidence.models if model.curve}
    return {"person": number, "study": kind, "trainings": trainings, "curves": curves}


def as_json(training: Training) -> dict[str, Any]:
    """A training's cells; of the loss each photo's mean over timesteps, which is what is resampled."""
    grids = {name: getattr(training, name) for name in GRIDS}
    grids["heldout_log_ratios"] = training.heldout_log_ratios.mean(axis=1, keepdims=True)
    rounded = {name: None if grid is None else np.round(grid, DIGITS).tolist() for name, grid in grids.items()}
    return {"fold": training.fold, "seed": training.seed} | rounded


def losses_of(log: Path) -> dict[str, float]:
    """What is read off a training's own losses: the last step's, and the mean of the last hundred."""
    losses = [json.loads(line)["loss"] for line in log.read_text(encoding="utf-8").splitlines()]
    return {"last_loss": losses[-1], "mean_last_100": float(np.mean(losses[-100:]))}


def row(person: dict[str, Any], kind: str) -> dict[str, Any]:
    """What is printed of one person."""
    tuned = [one for one in person["trainings"] if one["model"] != "base"]
    identity = [float(np.mean(one["identity"])) for one in tuned]
    return {
        "person": person["person"],
        "study": kind,
        "trainings": len(tuned),
        "identity": float(np.mean(identity)),
        "s.d. of a training": float(np.std(identity, ddof=1)),
        "best steps": {name: curve["best_step"] for name, curve in person["curves"].items()},
        "overfits from": {name: curve["overfitting_from"] for name, curve in person["curves"].items()},
    }


if __name__ == "__main__":
    main()
