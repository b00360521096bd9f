"""Statements that make scores a measurement: checked at every evaluation, and kept in `scores.json`.

No model is judged by what it was trained on, models are compared in the same cells, and no random number serves twice.
Pure functions of what was trained and judged; :mod:`portrayal.stages.validity` reads that off a run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True)
class TrainingFacts:
    """One training of the study, as it was.

    Attributes:
        name: Such as `lora-64.fold-2`.
        model: Such as `lora-64`.
        split: Fold that was held out, and which of the study's seeds.
        photos: Ids of the photos it was trained on.
        seed: Of its order, latents and noise.
        loss_photos: Ids of the photos its held-out loss was measured on.
        reading_photos: Ids of the photos that its readings, by which the best step was chosen, were measured on.
    """

    name: str
    model: str
    split: tuple[int, int]
    photos: frozenset[str]
    seed: int
    loss_photos: frozenset[str]
    reading_photos: frozenset[str]


@dataclass(frozen=True)
class Facts:
    """What went into the scores of a run.

    Attributes:
        trainings: All that are judged.
        heldout: Ids of the photos of each fold that likeness is measured against.
        training: Ids of the photos of each fold that the trainings were meant to see.
        image_seeds: Seeds by purpose: `choosing` (images at readings), `judging` (scenes), `class` (images of the class
            that drift is read from), `class images` (those that are trained on, or stand for strangers).
        cells: For each training, and each split of the base, the cells it is judged in: scene, number and seed.
    """

    trainings: Sequence[TrainingFacts]
    heldout: Sequence[frozenset[str]]
    training: Sequence[frozenset[str]]
    image_seeds: Mapping[str, Sequence[int]]
    cells: Mapping[str, Sequence[Hashable]]


@dataclass(frozen=True)
class Check:
    """A statement, and whether it holds.

    Attributes:
        statement: What must hold.
        cases: On how many cases it was checked.
        violations: The cases in which it does not hold, in words.
    """

    statement: str
    cases: int
    violations: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it holds in every case."""
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """As in `scores.json`."""
        return asdict(self) | {"holds": self.holds, "violations": list(self.violations)}


def check(facts: Facts) -> list[Check]:
    """Check every statement."""
    return [
        _never_saw("No training saw a photo that its likeness is measured against.", facts.trainings, facts.heldout),
        _never_saw(
            "No training saw a photo that its held-out loss is measured on.",
            facts.trainings,
            [one.loss_photos for one in facts.trainings],
            by_fold=False,
        ),
        _never_saw(
            "No best step was chosen by a photo that the training saw.",
            facts.trainings,
            [one.reading_photos for one in facts.trainings],
            by_fold=False,
        ),
        _saw_all_others(facts),
        _judged_on_its_fold(facts),
        _own_seeds(facts.trainings),
        _no_photo_against_itself(facts),
        _disjoint_image_seeds(facts.image_seeds),
        _same_cells(facts.cells),
    ]


def _never_saw(
    statement: str, trainings: Sequence[TrainingFacts], judged: Sequence[frozenset[str]], *, by_fold: bool = True
) -> Check:
    violations = []
    for number, training in enumerate(trainings):
        photos = judged[training.split[0] if by_fold else number]
        seen = training.photos & photos
        if seen or not photos:
            violations.append(f"{training.name}: {listed(seen) if seen else 'judged by no photo'}")
    return Check(statement, len(trainings), tuple(violations))


def _saw_all_others(facts: Facts) -> Check:
    violations = tuple(
        f"{one.name}: {listed(one.photos ^ facts.training[one.split[0]])}"
        for one in facts.trainings
        if one.photos != facts.training[one.split[0]]
    )
    return Check("Each training saw all photos but those of its fold.", len(facts.trainings), violations)


def _judged_on_its_fold(facts: Facts) -> Check:
    violations = []
    for one in facts.trainings:
        heldout = facts.heldout[one.split[0]]
        if not one.loss_photos == one.reading_photos == heldout:
            wrong = (one.loss_photos ^ heldout) | (one.reading_photos ^ heldout)
            violations.append(f"{one.name}: {listed(wrong)}")
    return Check("Each training is judged by the photos of its own fold.", len(facts.trainings), tuple(violations))


def _own_seeds(trainings: Sequence[TrainingFacts]) -> Check:
    """Models share the seed of a split, so that they meet the same noise; splits do not."""
    violations = []
    seeds = dict[tuple[int, int], set[int]]()
    for one in trainings:
        seeds.setdefault(one.split, set()).add(one.seed)
    for (fold, number), found in seeds.items():
        if len(found) > 1:
            violations.append(f"fold {fold + 1}, seed {number + 1}: {len(found)} different seeds")
    for a, b in combinations(seeds, 2):
        if seeds[a] & seeds[b]:
            violations.append(f"fold {a[0] + 1}, seed {a[1] + 1} and fold {b[0] + 1}, seed {b[1] + 1}: the same seed")
    statement = "Trainings of different folds or repeats have different seeds, and models of the same the same."
    return Check(statement, len(seeds), tuple(violations))


def _no_photo_against_itself(facts: Facts) -> Check:
    violations = tuple(
        f"fold {fold + 1}: {listed(ours & others)}"
        for fold, (ours, others) in enumerate(zip(facts.heldout, facts.training, strict=True))
        if ours & others
    )
    return Check("The level of real photos compares no photo with itself.", len(facts.heldout), violations)


def _disjoint_image_seeds(seeds: Mapping[str, Sequence[int]]) -> Check:
    violations = []
    for purpose, row in seeds.items():
        if (repeated := len(row) - len(set(row))) > by_accident(len(row), len(row)):
            violations.append(f"{purpose}: {repeated} seeds serve twice")
    for a, b in combinations(seeds, 2):
        shared = len(set(seeds[a]) & set(seeds[b]))
        if shared > by_accident(len(seeds[a]), len(seeds[b])) or shared == len(set(seeds[a])) > 0:
            violations.append(f"{a} and {b} share {shared} seeds")
    statement = "Images to choose by, to judge by and of the class have seeds of their own."
    return Check(statement, sum(map(len, seeds.values())), tuple(violations))


def by_accident(count: int, other: int) -> int:
    """How many seeds of 32 bits two sets of these sizes may share without anything being wrong."""
    return 1 + round(4 * count * other / 2**32)


def _same_cells(cells: Mapping[str, Sequence[Hashable]]) -> Check:
    first = next(iter(cells.values()), ())
    violations = tuple(f"{name}: other scenes or seeds" for name, row in cells.items() if list(row) != list(first))
    return Check("All models are judged at the same scenes and seeds.", len(cells), violations)


def listed(names: Iterable[str]) -> str:
    """A few names in order, and how many more there are."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(ordered[:3]) + rest
