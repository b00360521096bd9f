"""Personalisation on drawn people whom neither `pocket` nor its recipe ever saw.

    python -m benchmarks.pocket_people [--people 5] [--jobs 1] [--out DIR] [--set section.key=value]

Each has eighteen photos and gets the demo's recipe. Identity is judged by `pocket`'s encoder, from 0 (strangers) to 1
(other photos of the person); scene and clothes by a classifier that is no part of the base. With and without prior
preservation: how much the class turns into the person. The same command goes on in DIR. With ``--jobs`` trainings
run side by side, each on two CPU cores of its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import portrayal
from benchmarks.record import machine, print_table, read, save
from portrayal.config import Config
from portrayal.settings import set_value, validate
from pretraining.judge import load_judge, read_pictures
from pretraining.world import CLOTHES_COLOURS, Person, draw, sample_person, sample_shot
from pretraining.world.shots import Framing

PEOPLE_SEED = 3_000_003
PHOTO_SIZE = 512
FRAMINGS: tuple[Framing, ...] = ("head",) * 8 + ("half",) * 7 + ("whole",) * 3
OUTFITS = {
    "street": ("red", "a photo of {subject} in a red jacket on the street"),
    "football": ("yellow", "a photo of {subject} in a yellow t-shirt on a football field"),
    "kitchen": ("blue", "a photo of {subject} in a blue shirt in the kitchen"),
    "office": ("white", "a photo of {subject} in a white shirt in the office"),
    "forest": ("green", "a photo of {subject} in a green hoodie in the forest"),
}
CLASS_PICTURES = 24
CORES = 2
Call = tuple[Callable[..., Any], Any, Any, Any]
"""A function of this module, a person's number, the folder, the changes."""
JUDGE = Path(__file__).parents[1] / "pretraining" / "weights" / "judge"


def main() -> None:
    """Run all people, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--no-prior", action="store_true", help="leave out the comparison without prior preservation")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        figures = measure(out, arguments.people, arguments.settings, prior=not arguments.no_prior, jobs=arguments.jobs)
    settings = {"recipe": "pocket-demo", "changed": arguments.settings, "photos": len(FRAMINGS), "outfits": OUTFITS}
    print(save("pocket_people", figures, settings))


def measure(out: Path, people: int, changes: Sequence[str], *, prior: bool, jobs: int = 1) -> dict[str, Any]:
    """Train and judge the models of some people; prints the tables.

    Args:
        out: Where the runs lie; what is there is not done again.
        people: How many.
        changes: ``section.key=value`` on top of the recipe.
        prior: Also train each UNet without prior preservation, and compare.
        jobs: How many trainings run side by side, on two cores each.
    """
    for number in range(people):
        draw_photos(number, out / f"photos-{number}")
    calls: list[Call] = [(study, number, out, changes) for number in range(people)]
    calls += [(train_without_prior, number, out, changes) for number in range(people) if prior]
    studies = spread(calls, jobs)[:people]
    rows = [row(name, studies) for name in studies[0]["models"]]
    print_table(rows)
    figures: dict[str, Any] = {"models": rows, "people": studies, "machine": machine()}
    figures["machine"]["cpus"] = CORES if jobs > 1 else figures["machine"]["cpus"]  # of each person's process
    if prior:
        likenesses = spread([(preservation, number, out, changes) for number in range(people)], jobs)
        figures["class_likeness"] = {key: mean([one[key] for one in likenesses]) for key in likenesses[0]}
        print_table([figures["class_likeness"]])
    return figures


def spread(calls: Sequence[Call], jobs: int) -> list[Any]:
    """Results of calls, in their order: one after another, or in processes with two cores each."""
    if jobs == 1:
        return [function(*arguments) for function, *arguments in calls]
    context, cores = get_context("spawn"), sorted(os.sched_getaffinity(0))
    if len(cores) < CORES * jobs:
        raise SystemExit(f"--jobs {jobs} needs {CORES * jobs} CPU cores, and this machine lends {len(cores)}.")
    shares: Any = context.Queue()
    for job in range(jobs):
        shares.put(cores[CORES * job : CORES * (job + 1)])
    with ProcessPoolExecutor(jobs, context, take_cores, (shares,)) as processes:
        futures = [processes.submit(function, *arguments) for function, *arguments in calls]
        return [future.result() for future in futures]


def take_cores(shares: Any) -> None:
    """Keep this process to its share of the cores."""
    import torch

    os.sched_setaffinity(0, shares.get())
    torch.set_num_threads(CORES)


def subject(number: int) -> Person:
    """One of the people: every second a woman."""
    rng = np.random.default_rng([PEOPLE_SEED, number])
    while True:
        person = sample_person(rng)
        if person.gender == ("woman", "man")[number % 2]:
            return person


def draw_photos(number: int, folder: Path) -> Person:
    """Eighteen photos of a person in random scenes and clothes."""
    person, rng = subject(number), np.random.default_rng([PEOPLE_SEED, number, 1])
    folder.mkdir(parents=True, exist_ok=True)
    for index, framing in enumerate(FRAMINGS):
        shot = sample_shot(rng, framing=framing, gender=person.gender)
        Image.fromarray(draw(person, shot, PHOTO_SIZE)).save(folder / f"{index:02d}.jpg", quality=92)
    return person


def config_of(person: Person, changes: Sequence[str]) -> Config:
    """The demo's recipe with prompts that name clothes, one fold, and no ControlNets, which are judged elsewhere."""
    settings = [f"subject.class_noun={person.gender}", "study.folds=1", "study.final=false", *changes]
    plan = portrayal.make_plan("pocket-demo", settings)
    values: dict[str, Any] = plan.config.model_dump(mode="json", exclude_none=True)
    values["generation"]["scenes"] = {scene: prompt for scene, (_, prompt) in OUTFITS.items()}
    set_value(values, "control.enabled=false")
    return validate(values)


def study(number: int, out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Train and judge one person's models."""
    config = config_of(subject(number), changes)
    run = portrayal.portray(out / f"photos-{number}", config, out / f"person-{number}", consent=True)
    scores = read(run.folder / "scores.json")
    seconds = {path.stem: read(path)["seconds"] for path in (run.folder / "stages").glob("train.*.json")}
    models = {
        model["name"]: {
            "identity": model.get("identity_normalised"),
            "prompt": model["prompt"]["mean"],
            "heldout_loss": model["heldout_loss"]["mean"],
            "train_seconds": seconds.get(f"train.{model['name']}"),
            **obedience(run, model["name"]),
        }
        for model in scores["models"]
    }
    return {"person": number, "models": models, "verdict": scores["verdict"]["sentence"]}


def obedience(run: portrayal.Run, model: str) -> dict[str, float]:
    """Share of a model's pictures in which the judge sees the scene and the colour of the clothes that were asked."""
    judge, count = load_judge(JUDGE), run.config.generation.num_images_per_scene
    right: dict[str, list[bool]] = {"scene": [], "clothes colour": []}
    for scene, (colour, _) in OUTFITS.items():
        pictures = [Image.open(run.image_path(model, scene, index)).convert("RGB") for index in range(count)]
        seen = read_pictures(judge, pictures)
        right["scene"] += [name == scene for name in seen["scene"]]
        right["clothes colour"] += [name == colour for name in seen["clothes colour"]]
    return {kind: float(np.mean(values)) for kind, values in right.items()}


def train_without_prior(number: int, out: Path, changes: Sequence[str]) -> None:
    """Train a person's UNet once more without prior preservation."""
    config = bare_config(subject(number), changes)
    free = portrayal.prepare(out / f"photos-{number}", config, folder_without_prior(number, out), consent=True)
    portrayal.train(free)


def folder_without_prior(number: int, out: Path) -> Path:
    """Where a person's UNet without prior preservation lies."""
    return out / f"person-{number}-no-prior"


def bare_config(person: Person, changes: Sequence[str]) -> Config:
    """The full UNet alone, its prior not preserved."""
    return config_of(person, [*changes, "study.ranks=[]", "training.prior_loss_weight=0"])


def preservation(number: int, out: Path, changes: Sequence[str]) -> dict[str, float]:
    """Likeness of class pictures to the person: painted by the base, and by the UNet tuned with and without a prior."""
    person = subject(number)
    tuned = portrayal.Run(out / f"person-{number}", config_of(person, changes))
    free = portrayal.Run(folder_without_prior(number, out), bare_config(person, changes))
    return {
        "base": likeness(tuned, "base"),
        "with prior preservation": likeness(tuned, "unet"),
        "without": likeness(free, "unet"),
    }


def likeness(run: portrayal.Run, model: str) -> float:
    """Mean cosine of class pictures to the person's photos."""
    from portrayal.models.encoders import load_encoders
    from portrayal.stages.shared import base_of, dataset_of

    prompt = run.config.subject.filled_class_prompt
    paths = portrayal.paint(run, [prompt], [model], count=CLASS_PICTURES)
    base, dataset = base_of(run), dataset_of(run)
    identity = load_encoders(base.source, base.device).identity
    assert identity is not None
    photos = identity.images([Image.open(dataset.image_path(photo)).convert("RGB") for photo in dataset.training(0)])
    painted = identity.images([Image.open(path).convert("RGB") for path in paths])
    return float((painted @ photos.mean(axis=0) / np.linalg.norm(photos.mean(axis=0))).mean())


def row(name: str, studies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means of one model over the people."""
    models = [one["models"][name] for one in studies]
    found: dict[str, Any] = {"model": name}
    for key in ("identity", "scene", "clothes colour", "prompt", "heldout_loss", "train_seconds"):
        values = [model[key] for model in models]
        found[key] = None if None in values else round(mean(values), 4)
    found["identity, lowest person"] = round(min(model["identity"] for model in models), 4)
    return found


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return float(np.mean(values))


if __name__ == "__main__":
    assert all(colour in CLOTHES_COLOURS for colour, _ in OUTFITS.values())
    main()
