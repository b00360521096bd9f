"""Many small trainings of `pocket` over rank and learning rate: what `benchmarks.rate_rules` tries its rules on.

    python -m benchmarks.rate_runs [--people 12] [--first 0] [--seeds 4] [--jobs 1] [--out DIR] [--set key=value]

For each drawn person, and each way to scale a LoRA (`constant`: alpha is the same at every rank; `equal`: the scale
is), all pairs of rank and rate are trained on three folds from several seeds, in packs, with the demo's recipe; one
that diverges is left out. Every training generates the same scenes, all LoRAs of a pack at once. What was measured of
each image goes to `results/rate_runs/PERSON-SCALE.json.gz`; rates that are there already are not trained again. The
last step's weights are judged: nothing is chosen by a reading. With `--jobs` people are trained side by side, in
processes that share the GPU.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import portrayal
from benchmarks.pocket_people import config_of, draw_photos, subject
from benchmarks.record import RESULTS, commit, machine, print_table
from benchmarks.verdict_runs import GRIDS, losses_of
from portrayal.config import LoraMethod, Trial
from portrayal.data.manifest import PreparedDataset
from portrayal.evaluation.evaluate import look_at_all
from portrayal.evaluation.evidence import Evidence, PaintedModel, PaintedTraining
from portrayal.evaluation.judge import Judge
from portrayal.generation.generator import Generator
from portrayal.generation.packed import generate_packed
from portrayal.generation.pictures import load_pictures
from portrayal.models.methods import LORA_FILE
from portrayal.models.saved import attach_saved_loras
from portrayal.randomness import derived_seed
from portrayal.run import Run
from portrayal.stages.data import training_data
from portrayal.stages.evaluate import strangers
from portrayal.stages.generate import class_pictures, scene_pictures
from portrayal.stages.shared import base_of, dataset_of, encoders_of, silent, with_article
from portrayal.training import trainer
from portrayal.training.task import Task

FIRST_PERSON = 400
"""Not among those of other benchmarks, nor of any recipe's trials."""
RANKS = (8, 16, 32)
FOLDS = 3
ALPHAS: dict[str, float | None] = {"constant": 32.0, "equal": None}
"""Alpha by the way to scale; none means the rank."""
MULTIPLES = (0.5, 1.0, 2.0)
"""Of the recipe's learning rate."""
FOLDER = RESULTS / "rate_runs"
PACK = 54
"""LoRAs trained at once."""
DIGITS = 4


@dataclass(frozen=True)
class Cell:
    """One training: a pair of rank and rate on a fold from a seed; no alpha means the rank."""

    rank: int
    alpha: float | None
    multiple: float
    fold: int
    seed: int

    @property
    def model(self) -> str:
        """Name of the pair."""
        return f"lora-{self.rank}-x{self.multiple:g}"

    @property
    def name(self) -> str:
        """Name of the training."""
        return f"{self.model}-fold{self.fold}-seed{self.seed}"


def main() -> None:
    """Train, generate, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--scale", action="append", choices=ALPHAS, help="only this way to scale")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        calls = [
            (FIRST_PERSON + number, scale, arguments.seeds, out, arguments.results, arguments.settings)
            for number in range(arguments.first, arguments.first + arguments.people)
            for scale in arguments.scale or ALPHAS
        ]
        rows = []
        for found in spread(calls, arguments.jobs):
            rows.append(found)
            print(json.dumps(found), flush=True)
    print_table(rows)


def spread(calls: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[dict[str, Any]]:
    """Rows as they are done: one after another, or in processes."""
    if jobs == 1:
        yield from (study(*call) for call in calls)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as processes:
        yield from processes.map(call_study, calls)


def call_study(call: tuple[Any, ...]) -> dict[str, Any]:
    """A study in a process of its own."""
    import torch

    torch.set_num_threads(2)
    return study(*call)


def study(number: int, scale: str, seeds: int, out: Path, results: Path, changes: Sequence[str]) -> dict[str, Any]:
    """All trainings of a person at one way to scale; what is printed of them."""
    path = results / f"{number}-{scale}.json.gz"
    known = json.loads(gzip.decompress(path.read_bytes())) if path.is_file() else {"diverged": [], "trainings": []}
    names = [one["model"] for one in known["trainings"]] + [name.rpartition("-fold")[0] for name in known["diverged"]]
    there = {float(name.rpartition("x")[2]) for name in names if name != "base"}
    multiples = [multiple for multiple in MULTIPLES if multiple not in there]
    if not multiples:
        return {"person": number, "scale": scale, "there already": True}
    started = time.monotonic()
    photos = out / f"photos-{number}"
    if not photos.is_dir():
        draw_photos(number, photos)
    config = config_of(subject(number), [f"study.folds={FOLDS}", "training.checkpointing_steps=0", *changes])
    run = portrayal.prepare(photos, config, out / f"person-{number}-{scale}", consent=True)
    cells = [
        Cell(rank, ALPHAS[scale], multiple, fold, seed)
        for seed in range(seeds)
        for fold in range(FOLDS)
        for rank in RANKS
        for multiple in multiples
    ]
    train(run, cells)
    trained = time.monotonic()
    trainings = judge(run, cells)
    record = {
        "person": number,
        "scale": scale,
        "commit": commit(),
        "machine": machine(),
        "rate": run.config.method.lora.learning_rate,
        "alpha": ALPHAS[scale],
        "diverged": [*known["diverged"], *(cell.name for cell in cells if run.has_diverged(cell.name))],
        "trainings": [*(one for one in known["trainings"] if one["model"] != "base"), *trainings],
    }
    path.write_bytes(gzip.compress(json.dumps(record, separators=(",", ":")).encode(), mtime=0))
    means: dict[str, list[float]] = {}
    for training in trainings:
        if training["model"] != "base":
            means.setdefault(training["model"].removeprefix("lora-"), []).append(float(np.mean(training["identity"])))
    likeness = {name: round(float(np.mean(values)), 3) for name, values in means.items()}
    seconds = {"training s": round(trained - started), "in all s": round(time.monotonic() - started)}
    return {"person": number, "scale": scale} | likeness | seconds


def train(run: Run, cells: Sequence[Cell]) -> None:
    """Train the cells in packs."""
    lora = run.config.method.lora
    data = {fold: training_data(run, fold, silent) for fold in range(FOLDS)}
    tasks = []
    for cell in cells:
        rates = {"learning_rate": lora.learning_rate * cell.multiple}
        if lora.text_encoder_learning_rate is not None:
            rates["text_encoder_learning_rate"] = lora.text_encoder_learning_rate * cell.multiple
        method: LoraMethod = lora.model_copy(update={"rank": cell.rank, "alpha": cell.alpha, **rates})
        seed = derived_seed(run.config.seed, "trial", cell.fold, cell.seed)
        tasks.append(Task(cell.name, method, data[cell.fold], run.model_folder(cell.name), seed, keeps_rate=True))
    for first in range(0, len(tasks), PACK):
        work = run.folder / "models" / f".pack-{first}"
        trainer.train(base_of(run), tasks[first : first + PACK], run.config, work, lambda *_: None, lambda _: None)


def judge(run: Run, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What the product's judge measures of each training that did not diverge, and of the base."""
    dataset, config = dataset_of(run), run.config
    cells = [cell for cell in cells if not run.has_diverged(cell.name)]
    scenes, of_class = scene_pictures(run, "any"), class_pictures(run, "any")
    wanted = [*scenes, *of_class]
    prompts, seeds = [one.prompt for one in wanted], [one.seed for one in wanted]
    generator = Generator(base_of(run), config.generation, (), config.base.resolution)
    base_images = [*generator.paint(prompts, seeds)]
    with pack_of(run, cells) as pack:
        images = generate_packed(base_of(run), pack, config.generation, prompts, seeds)
    models: dict[str, list[PaintedTraining]] = {}
    for cell, row in zip(cells, images, strict=True):
        trial = Trial(cell.name, cell.model, cell.fold, cell.seed)
        models.setdefault(cell.model, []).append(painted(dataset, trial, row, len(scenes), len(of_class)))
    splits = sorted({(cell.fold, cell.seed) for cell in cells})
    bases = [
        painted(dataset, Trial("base", "base", fold, seed), base_images, len(scenes), len(of_class))
        for fold, seed in splits
    ]
    noun = with_article(config.subject.class_noun)
    evidence = Evidence(
        config,
        [
            PaintedModel("base", "base", None, bases, None),
            *(PaintedModel(name, "lora", int(name.split("-")[1]), found, None) for name, found in models.items()),
        ],
        [prompt.replace("{subject}", noun) for prompt in config.generation.scenes.values()],
        [photos_of(dataset, fold, held=True) for fold in range(FOLDS)],
        [photos_of(dataset, fold, held=False) for fold in range(FOLDS)],
        strangers(run, [base_images[: len(scenes)]], silent),
    )
    measured = look_at_all(evidence, Judge(evidence, encoders_of(run)))
    rows = []
    for name, found in measured.items():
        for one, training in zip(found, bases if name == "base" else models[name], strict=True):
            grids = {grid: getattr(one.training, grid) for grid in GRIDS if grid != "heldout_log_ratios"}
            rounded = {
                grid: None if values is None else np.round(values, DIGITS).tolist() for grid, values in grids.items()
            }
            log = run.model_folder(training.trial.name) / "training.jsonl"
            place = {"model": name, "fold": one.training.fold, "seed": one.training.seed}
            rows.append(place | rounded | ({} if name == "base" else losses_of(log)))
    return rows


@contextmanager
def pack_of(run: Run, cells: Sequence[Cell]) -> Iterator[Any]:
    """All trained LoRAs in place on the base."""
    pack = attach_saved_loras(base_of(run), [run.model_folder(cell.name) / LORA_FILE for cell in cells])
    try:
        yield pack
    finally:
        pack.detach()


def painted(
    dataset: PreparedDataset, trial: Trial, images: Sequence[Image.Image], scenes: int, of_class: int
) -> PaintedTraining:
    """A training with its images; held-out losses are not measured here."""
    each = of_class  # images of a scene, as many as of the class
    rows = [list(images[start : start + each]) for start in range(0, scenes, each)]
    losses = {photo.id: [[1.0]] for photo in dataset.heldout(trial.fold)}
    return PaintedTraining(trial, losses, lambda: rows, lambda: list(images[scenes:]))


def photos_of(dataset: PreparedDataset, fold: int, *, held: bool) -> dict[str, Image.Image]:
    """The photos of a fold, or those its trainings see."""
    photos = dataset.heldout(fold) if held else dataset.training(fold)
    return dict(
        zip([photo.id for photo in photos], load_pictures([dataset.image_path(photo) for photo in photos]), strict=True)
    )


if __name__ == "__main__":
    main()
