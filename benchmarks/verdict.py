"""Does the verdict hold? False winners, planted differences and planted overfitting, and the rules it replaces.

    python -m benchmarks.verdict [--verdicts 200] [--margins 3]

Draws on the trainings that `benchmarks.verdict_runs` recorded, and on a planted model of their noise. A minute.

- A/A: one method is entered as three "ranks" that were trained from different seeds. Any rank called worse, or set
  aside, is a false winner.
- Planted: one of the three is given more identity by so many margins. Found means that it alone is named.
- Overfitting: curves that fall and then rise from a known step, in the noise of photos; and the recorded courses.
- Rules: which rank the smallest loss of the last step names, and the smallest mean of the last 100 steps, in one
  training of each rank; how often that is one of the ranks that the thorough verdict leaves, how often it would be by
  drawing lots, and how often the rule names the same rank for another training of the same study.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, print_table, read, save
from portrayal.evaluation.comparisons import Margins, ModelEvidence, Training
from portrayal.evaluation.curves import draw_curve
from portrayal.evaluation.verdict import Levels, Verdict, decide

RANKS = (8, 16, 32)
STUDIES = {"default": (3, 1), "thorough": (5, 3)}
"""Folds and seeds."""
GRIDS = ("heldout_log_ratios", "identity", "prompt", "drift", "colour")
PHOTOS, SCENES, SEEDS, STRATA = 4, 5, 4, 10
NOISE = {"identity": 0.03, "prompt": 0.02, "drift": 0.1, "colour": 0.6, "heldout_log_ratios": 0.012}
"""Luck of a training in the planted model; benchmarks/results/verdict_runs.json has measured ones."""
SPREAD = {"identity": 0.12, "prompt": 0.08, "drift": 0.1, "colour": 2.0, "heldout_log_ratios": 0.02}
"""Noise of a picture there, or of a photo."""
RULES = {"last_loss": "smallest loss of the last step", "mean_last_100": "smallest mean of the last 100 steps"}
Rng = np.random.Generator
Person = Mapping[str, Any]
Draw = Callable[[Rng], list[ModelEvidence]]
Source = Callable[[Rng, tuple[int, int]], list[ModelEvidence]]


def main() -> None:
    """Simulate, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=200)
    parser.add_argument("--margins", type=float, default=3.0, help="planted difference of identity, in margins")
    arguments = parser.parse_args()
    people = read(RESULTS / "verdict_runs.json")["figures"]["people"]
    same = [person for person in people if person["study"] == "same"]
    ranked = [person for person in people if person["study"] == "ranks"]
    gain = arguments.margins * Margins().identity
    sources: dict[str, Source] = {
        "real trainings": lambda rng, size: resampled(same, rng, size),
        "planted noise": planted,
    }
    studies = [
        study_row(noise, name, with_size(source, size), gain, arguments.verdicts)
        for noise, source in sources.items()
        for name, size in STUDIES.items()
    ]
    print_table(studies)
    curves = [curve_row(photos, arguments.verdicts) for photos in (4, 18)]
    print_table(curves)
    courses = [
        course_row(person["person"], name, curve) for person in ranked for name, curve in person["curves"].items()
    ]
    print_table(courses)
    rules = rule_rows(ranked)
    print_table(rules)
    figures = {
        "studies": studies,
        "overfitting": curves,
        "courses": courses,
        "rules": rules,
        "verdicts": [told(one) for one in ranked],
    }
    print(save("verdict", figures, {"verdicts": arguments.verdicts, "planted identity": gain, "noise": NOISE}))


def with_size(source: Source, size: tuple[int, int]) -> Draw:
    """A source of studies of one size."""
    return lambda rng: source(rng, size)


def study_row(noise: str, name: str, draw: Draw, gain: float, count: int) -> dict[str, Any]:
    """Share of false winners without a difference, and of found ones with one."""
    rng = np.random.default_rng(7)
    studies = [draw(rng) for _ in range(count)]
    false = [len(verdict_of(study).tied) < len(RANKS) for study in studies]
    best = f"lora-{RANKS[-1]}"
    found = [verdict_of(better(study, RANKS[-1], gain)) for study in studies]
    doubled = [verdict_of(better(study, RANKS[-1], 2 * gain)) for study in studies]
    folds, seeds = STUDIES[name]
    return {
        "noise": noise,
        "study": name,
        "folds": folds,
        "seeds": seeds,
        "verdicts": count,
        "false winners": float(np.mean(false)),
        "planted found": float(np.mean([one.best_lora == best and not one.tied for one in found])),
        "twice that found": float(np.mean([one.best_lora == best and not one.tied for one in doubled])),
        "planted called worse": float(np.mean([best not in (one.tied or (one.best_lora,)) for one in found])),
    }


def verdict_of(models: Sequence[ModelEvidence]) -> Verdict:
    """The verdict on a study."""
    return decide(models, Margins(), levels=Levels())


def training_of(one: Mapping[str, Any], fold: int, seed: int) -> Training:
    """A recorded training under other numbers."""
    return Training(fold, seed, *(np.array(one[name]) for name in GRIDS))


def model_of(rank: int, trainings: Sequence[Training]) -> ModelEvidence:
    """A LoRA with its trainings."""
    return ModelEvidence(f"lora-{rank}", "lora", rank, tuple(trainings))


def resampled(people: Sequence[Person], rng: Rng, size: tuple[int, int]) -> list[ModelEvidence]:
    """Three "ranks" of one method: folds of one person, and for each rank and fold seeds that no other has there."""
    folds, seeds = size
    person = people[int(rng.integers(len(people)))]
    by_place = {(one["fold"], one["seed"]): one for one in person["trainings"] if one["model"] != "base"}
    all_folds, all_seeds = (sorted({key[place] for key in by_place}) for place in (0, 1))
    trainings: dict[int, list[Training]] = {rank: [] for rank in RANKS}
    for number, fold in enumerate(rng.permutation(all_folds)[:folds]):
        drawn = rng.permutation(all_seeds)[: seeds * len(RANKS)].reshape(len(RANKS), seeds)
        for rank, chosen in zip(RANKS, drawn, strict=True):
            trainings[rank] += [training_of(by_place[fold, seed], number, place) for place, seed in enumerate(chosen)]
    return [model_of(rank, found) for rank, found in trainings.items()]


def planted(rng: Rng, size: tuple[int, int]) -> list[ModelEvidence]:
    """Three "ranks" that differ by nothing but luck: of training, of photos, of pictures."""
    folds, seeds = size
    shapes = {"heldout_log_ratios": (PHOTOS, 1), "drift": (1, SEEDS)}
    common: dict[tuple[str, int], Any] = {}
    models = []
    for rank in RANKS:
        trainings = []
        for fold in range(folds):
            for seed in range(seeds):
                grids = []
                for name in GRIDS:
                    shape = shapes.get(name, (SCENES, SEEDS))
                    shared = common.setdefault((name, fold), rng.normal(0, SPREAD[name], shape))
                    grids.append(shared + rng.normal(0, NOISE[name]) + rng.normal(0, SPREAD[name] / 2, shape))
                trainings.append(Training(fold, seed, *grids))
        models.append(model_of(rank, trainings))
    return models


def better(models: Sequence[ModelEvidence], rank: int, gain: float) -> list[ModelEvidence]:
    """The same study with more identity for one rank."""
    return [
        replace(
            model,
            trainings=tuple(
                replace(one, identity=one.identity + gain) if one.identity is not None else one
                for one in model.trainings
            ),
        )
        if model.rank == rank
        else model
        for model in models
    ]


def curve_row(photos: int, count: int) -> dict[str, Any]:
    """Curves that fall to a known step and then rise by 3 % a reading, photo by photo in noise of 1 %."""
    rng, steps = np.random.default_rng(11), (100, 200, 300, 400, 500, 600)
    course = np.array([-0.02, -0.03, 0.0, 0.03, 0.06, 0.09])
    curves = []
    for _ in range(count):
        ratios = course + rng.normal(0, 0.03, (photos, 1)) * np.linspace(0.2, 1, 6) + rng.normal(0, 0.01, (photos, 6))
        curves.append(draw_curve(steps, ratios, None, loss_margin=0.001, identity_margin=0.02))
    flat = [
        draw_curve(steps, rng.normal(-0.02, 0.01, (photos, 6)), None, loss_margin=0.001, identity_margin=0.02)
        for _ in range(count)
    ]
    flagged = [curve.overfitting_from is not None for curve in curves]
    before = [curve.best_step < curve.overfitting_from for curve in curves if curve.overfitting_from is not None]
    return {
        "held-out photos": photos,
        "curves": count,
        "flagged": float(np.mean(flagged)),
        "best step before the onset": float(np.mean(before)),
        "flat ones flagged": float(np.mean([curve.overfitting_from is not None for curve in flat])),
    }


def course_row(person: int, model: str, curve: Mapping[str, Any]) -> dict[str, Any]:
    """When a recorded training's held-out loss was lowest, surely rose again, and when its pictures were best."""
    return {
        "person": person,
        "model": model,
        "last step": curve["steps"][-1],
        "lowest held-out loss": curve["lowest_loss_step"],
        "overfitting from": curve["overfitting_from"],
        "best step by likeness": curve["best_step"],
    }


def rule_rows(people: Sequence[Person]) -> list[dict[str, Any]]:
    """How often a rule read off the training loss names a rank that the thorough verdict leaves."""
    rows = []
    for rule, title in RULES.items():
        for way, picks_of in {"ranks trained apart": picked_apart, "ranks on the same noise": picked_together}.items():
            right, again, chance = [], [], []
            for person in people:
                verdict = verdict_of(study_of(person))
                left = set(verdict.tied or (verdict.best_lora,))
                picks = picks_of(person, rule)
                right += [pick in left for pick in picks]
                again += [a == b for a, b in combinations(picks, 2)]
                chance.append(len(left) / len(RANKS))
            rows.append(
                {
                    "rule": title,
                    "trained": way,
                    "choices": len(right),
                    "names a rank the verdict leaves": float(np.mean(right)),
                    "drawing lots would": float(np.mean(chance)),
                    "names the same rank again": float(np.mean(again)),
                }
            )
    return rows


def picked_together(person: Person, rule: str) -> list[str]:
    """The rank that a rule names for each fold and seed, where all ranks met the same photos, timesteps and noise."""
    tuned = [one for one in person["trainings"] if one["model"] != "base"]
    places = sorted({(one["fold"], one["seed"]) for one in tuned})
    return [
        str(min((one for one in tuned if (one["fold"], one["seed"]) == place), key=lambda one: one[rule])["model"])
        for place in places
    ]


def picked_apart(person: Person, rule: str, count: int = 200) -> list[str]:
    """The rank that a rule names where each was trained by itself, from a seed of its own, as people do."""
    rng = np.random.default_rng(13)
    by_model = {
        f"lora-{rank}": [one[rule] for one in person["trainings"] if one["model"] == f"lora-{rank}"] for rank in RANKS
    }
    return [str(min(by_model, key=lambda model: rng.choice(by_model[model]))) for _ in range(count)]


def study_of(person: Person, size: tuple[int, int] = STUDIES["thorough"]) -> list[ModelEvidence]:
    """A recorded study of ranks, or its first folds and seeds."""
    folds, seeds = size
    found = [one for one in person["trainings"] if one["fold"] < folds and one["seed"] < seeds]
    return [
        model_of(rank, [training_of(one, one["fold"], one["seed"]) for one in found if one["model"] == f"lora-{rank}"])
        for rank in RANKS
    ]


def told(person: Person) -> dict[str, Any]:
    """What the verdict says of a person's ranks, on all trainings and on a default study's."""
    return {"person": person["person"]} | {
        name: {"best": verdict.best_lora, "tied": list(verdict.tied), "conclusions": list(verdict.conclusions)}
        for name, size in STUDIES.items()
        for verdict in [verdict_of(study_of(person, size))]
    }


if __name__ == "__main__":
    main()
