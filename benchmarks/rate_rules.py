"""Which rule recommends the right LoRA of a grid of ranks and rates? Regret in likeness of each, on recorded trainings.

    python -m benchmarks.rate_rules

Draws on the trainings that `benchmarks.rate_runs` recorded. Our rule sees what a default study trains: every pair on
the first fold, then the best on the others, from one seed (`portrayal.stages.rounds`). The other rules see that seed
too, and all three folds of every pair. The truth is the mean likeness of a pair over the other seeds, nine trainings
that no rule saw, among the pairs that pass the gates there by their means. Regret is the likeness of the best such pair
less that of the pair a rule names; a pair that does not pass has the regret of the worst that does. "Again" is how
often two studies of a person from different seeds name pairs whose likeness is within 0.02.

Two tables more: of how often the stated chance to be the best is right, and of nine entries that differ only by luck
(A/A), whose trainings are a common mean and the recorded departures of trainings from the mean of their pair.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rate_runs import FOLDER, FOLDS, MULTIPLES, RANKS
from benchmarks.record import print_table, save
from portrayal.config import Trial
from portrayal.evaluation.comparisons import GATES, LESS_IS_BETTER, ModelEvidence, Training, compare_all
from portrayal.evaluation.evaluate import margins_of
from portrayal.evaluation.selection import MOST_ALLOWED, choose
from portrayal.evaluation.verdict import Levels, Verdict, decide
from portrayal.settings import load_config
from portrayal.stages.rounds import next_trainings

RECIPE = load_config("pocket-demo")
MARGINS = margins_of(RECIPE)
PAIRS = [(rank, multiple) for rank in RANKS for multiple in MULTIPLES]
MEASURED = ("identity", *GATES)
CLOSE = 0.02
SURE_BINS = (0.0, 0.4, 0.6, 0.8, 1.0)
ENTRIES, DRAWS_OF_A_PERSON = 9, 20
Pair = tuple[int, float]


def name_of(pair: Pair) -> str:
    """A pair as the records name it."""
    return f"lora-{pair[0]}-x{pair[1]:g}"


@dataclass(frozen=True)
class Study:
    """Every pair trained on each fold from one seed, and what the other seeds tell of the pairs.

    Attributes:
        person: Whose photos.
        seed: Which seed the rules see.
        trainings: All trainings of the person at one way to scale; those that diverged are not there.
    """

    person: int
    seed: int
    trainings: Sequence[Mapping[str, Any]]

    def of(self, pair: Pair, *, seen: bool) -> list[Mapping[str, Any]]:
        """A pair's trainings that the rules see, or the others."""
        name = name_of(pair)
        return [one for one in self.trainings if one["model"] == name and (one["seed"] == self.seed) is seen]

    def mean(self, pair: Pair, axis: str, *, seen: bool) -> float:
        """Mean of a pair on an axis; not a number where one of its trainings diverged."""
        found = self.of(pair, seen=seen)
        wanted = FOLDS * (1 if seen else len({one["seed"] for one in self.trainings}) - 1)
        return float(np.mean([np.mean(one[axis]) for one in found])) if len(found) == wanted else float("nan")

    def sound(self, *, seen: bool) -> list[Pair]:
        """The pairs of which no training diverged."""
        return [pair for pair in PAIRS if np.isfinite(self.mean(pair, "identity", seen=seen))]

    def passing(self, *, seen: bool) -> list[Pair]:
        """The pairs that are worse than no other in a gate by more than is allowed, by their means; or all of them."""
        pairs = self.sound(seen=seen)
        passed = [one for one in pairs if not any(self.sets_aside(other, one, seen=seen) for other in pairs)]
        return passed or pairs

    def sets_aside(self, better: Pair, worse: Pair, *, seen: bool) -> bool:
        """Whether a pair is worse than another in a gate by more than its lead in likeness makes up for."""
        lead = self.mean(worse, "identity", seen=seen) - self.mean(better, "identity", seen=seen)
        allowed = 1 + min(max(lead / MARGINS.identity, 0.0), MOST_ALLOWED)
        for gate in GATES:
            sign = -1 if gate in LESS_IS_BETTER else 1
            loss = sign * (self.mean(better, gate, seen=seen) - self.mean(worse, gate, seen=seen))
            if loss > allowed * MARGINS.of(gate):
                return True
        return False

    @cached_property
    def truth(self) -> dict[Pair, float]:
        """Likeness of each pair over the trainings that no rule saw."""
        return {pair: self.mean(pair, "identity", seen=False) for pair in PAIRS}

    @cached_property
    def passes(self) -> list[Pair]:
        """The pairs that pass the gates there."""
        return self.passing(seen=False)

    @cached_property
    def best(self) -> Pair:
        """The pair that is truly the best."""
        return max(self.passes, key=lambda pair: self.truth[pair])

    def regret(self, pair: Pair) -> float:
        """How much likeness a choice gives away."""
        likeness = [self.truth[other] for other in self.passes]
        return max(likeness) - (self.truth[pair] if pair in self.passes else min(likeness))

    def evidence(self, names: Sequence[str]) -> list[ModelEvidence]:
        """What the verdict sees of trainings that did not diverge, by names such as `lora-8-x1.2`."""
        models = []
        for pair in PAIRS:
            found = [one for one in self.of(pair, seen=True) if training_name(pair, one["fold"]) in names]
            wanted = sum(name.startswith(name_of(pair) + ".") for name in names)
            if found:
                grids = tuple(training_of(one) for one in found)
                lost = len(found) < wanted
                models.append(ModelEvidence(name_of(pair), "lora", pair[0], grids, pair[1], lost))
        return models

    @cached_property
    def verdict(self) -> Verdict:
        """The product's, after its rounds."""
        possible = [Trial(training_name(pair, fold), name_of(pair), fold, 0) for fold in range(FOLDS) for pair in PAIRS]
        planned = {one.name: one for one in possible if one.fold == 0}
        while True:
            models = self.evidence([*planned])
            chances = choose(models, compare_all(models, MARGINS), MARGINS).chances
            left = RECIPE.study.most_trainings - sum(len(model.trainings) for model in models)
            names = next_trainings(sorted(chances, key=lambda one: -chances[one]), chances, left, possible, planned)
            if not names:
                return decide(models, MARGINS, levels=Levels())
            planned |= {one.name: one for one in possible if one.name in names}


def training_name(pair: Pair, fold: int) -> str:
    """A pair's training on a fold."""
    return f"{name_of(pair)}.{fold}"


def training_of(record: Mapping[str, Any]) -> Training:
    """A recorded training; its held-out losses were not measured."""
    grids = (np.array(record[axis]) for axis in MEASURED)
    return Training(record["fold"], record["seed"], np.zeros((1, 1)), *grids)


def pair_of(name: str | None) -> Pair:
    """The pair of a name."""
    return next(pair for pair in PAIRS if name_of(pair) == name)


def our_rule(study: Study) -> Pair:
    """What the product recommends."""
    return pair_of(study.verdict.best_lora)


def smallest_untold(study: Study) -> Pair:
    """The smallest that cannot be told from the leader, as the product chose before."""
    models = study.evidence([training_name(pair, fold) for pair in PAIRS for fold in range(FOLDS)])
    comparisons = compare_all(models, MARGINS)
    choice = choose(models, comparisons, MARGINS)
    passing = [model for model in choice.loras if model not in choice.set_aside]
    leader = max(passing, key=lambda model: model.mean("identity"))
    worse = {
        one.name for one in passing if (c := comparisons.find("identity", one, leader)) and c.finds_worse(one.name)
    }
    return pair_of(next(model.name for model in passing if model.name not in worse))


def highest(study: Study, pairs: Sequence[Pair] | None = None) -> Pair:
    """The pair with the highest mean likeness."""
    return max(pairs or study.sound(seen=True), key=lambda pair: study.mean(pair, "identity", seen=True))


def highest_of_one_fold(study: Study) -> Pair:
    """The pair with the highest likeness on the first fold, which is all that a study of one fold knows."""
    found = {pair: np.mean(one["identity"]) for pair in PAIRS for one in study.of(pair, seen=True) if one["fold"] == 0}
    return max(found, key=lambda pair: found[pair])


def smallest_near(study: Study) -> Pair:
    """The smallest rank, and of it the gentlest rate, within 0.02 of the highest mean."""
    means = {pair: study.mean(pair, "identity", seen=True) for pair in study.sound(seen=True)}
    return min(pair for pair in means if means[pair] >= max(means.values()) - CLOSE)


def lowest_loss(which: str) -> Callable[[Study], Pair]:
    """The pair with the lowest loss in its training on the first fold, as people read it off."""

    def rule(study: Study) -> Pair:
        found = {pair: one[which] for pair in PAIRS for one in study.of(pair, seen=True) if one["fold"] == 0}
        return min(found, key=lambda pair: float(found[pair]))

    return rule


RULES: dict[str, Callable[[Study], Pair]] = {
    "Portrayal's verdict": our_rule,
    "the smallest that cannot be told from the leader (Portrayal before)": smallest_untold,
    "highest mean likeness of 27 trainings": highest,
    "highest likeness of one training each": highest_of_one_fold,
    "smallest within 0.02 of the highest mean": smallest_near,
    "highest mean likeness at the recipe's rate": lambda study: highest(study, [(rank, 1.0) for rank in RANKS]),
    "always the smallest rank at the recipe's rate": lambda _: (min(RANKS), 1.0),
    "always the largest rank at the recipe's rate": lambda _: (max(RANKS), 1.0),
    "always the largest rank at half the rate": lambda _: (max(RANKS), min(MULTIPLES)),
    "lowest loss of the last step": lowest_loss("last_loss"),
    "lowest mean loss of the last 100 steps": lowest_loss("mean_last_100"),
}


def main() -> None:
    """Try the rules, print, record."""
    figures: dict[str, Any] = {}
    for scale in ("constant", "equal"):
        people = [read_gzip(path) for path in sorted(FOLDER.glob(f"*-{scale}.json.gz"))]
        studies = [Study(one["person"], seed, one["trainings"]) for one in people for seed in seeds_of(one)]
        grid = [grid_row(rank, studies) for rank in RANKS]
        rows = [row(rule, rule_of, studies) for rule, rule_of in RULES.items()]
        print(f"\nScale {scale}, {len(people)} people, {len(studies)} studies: mean likeness by rank and rate")
        print_table(grid)
        print_table(rows)
        figures[scale] = {"people": len(people), "studies": len(studies), "likeness": grid, "rules": rows}
        if scale == "constant":
            figures["chances"], figures["a_a"] = reliability(studies), a_a(people)
            print("\nHow often the stated chance to be the best is right")
            print_table(figures["chances"])
            print("\nNine entries that differ only by luck")
            print_table([figures["a_a"]])
    print(save("rate_rules", figures, {"ranks": RANKS, "multiples of the recipe's rate": MULTIPLES}))


def seeds_of(person: Mapping[str, Any]) -> list[int]:
    """Seeds of a person's trainings."""
    return sorted({one["seed"] for one in person["trainings"] if one["model"] != "base"})


def grid_row(rank: int, studies: Sequence[Study]) -> dict[str, Any]:
    """Mean likeness of a rank at each rate, over the trainings that did not diverge, and how many these are."""
    found: dict[str, Any] = {"rank": rank}
    for multiple in MULTIPLES:
        values = [np.mean(one["identity"]) for study in studies for one in study.of((rank, multiple), seen=True)]
        diverged = 1 - len(values) / (FOLDS * len(studies))
        found[f"{multiple:g} x"] = round(float(np.mean(values)), 3) if values else None
        found[f"{multiple:g} x diverged"] = f"{diverged:.0%}"
    return found


def row(rule: str, rule_of: Callable[[Study], Pair], studies: Sequence[Study]) -> dict[str, Any]:
    """How a rule does over all studies."""
    picks = [(study, rule_of(study)) for study in studies]
    regrets = np.array([study.regret(pair) for study, pair in picks])
    again = [
        abs(likeness_of(first, pair) - likeness_of(first, other)) <= CLOSE
        for (first, pair), (second, other) in combinations(picks, 2)
        if first.person == second.person
    ]
    return {
        "rule": rule,
        "mean regret": round(float(regrets.mean()), 4),
        "regret over 0.05": f"{np.mean(regrets > 0.05):.0%}",
        "does not pass a gate": f"{np.mean([pair not in study.passes for study, pair in picks]):.0%}",
        "likeness again": f"{np.mean(again):.0%}",
    }


def likeness_of(study: Study, pair: Pair) -> float:
    """Mean likeness of a pair over all trainings of the person that did not diverge."""
    return float(np.mean([np.mean(one["identity"]) for one in study.trainings if one["model"] == name_of(pair)]))


def reliability(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """By how sure the verdict was: what it stated on average, and how often the leader was truly the best."""
    stated = np.array([study.verdict.chances[str(study.verdict.leader)] for study in studies])
    right = np.array([pair_of(study.verdict.leader) == study.best for study in studies])
    rows = []
    for low, high in pairwise(SURE_BINS):
        inside = (stated > low) & (stated <= high)
        if inside.any():
            rows.append(reliability_row(f"{low:.0%} to {high:.0%}", stated[inside], right[inside]))
    return [*rows, reliability_row("all", stated, right)]


def reliability_row(name: str, stated: Any, right: Any) -> dict[str, Any]:
    """One row of the reliability table."""
    return {
        "stated": name,
        "studies": len(stated),
        "mean stated": f"{stated.mean():.0%}",
        "truly the best": f"{right.mean():.0%}",
    }


def a_a(people: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often entries that differ only by luck are called worse than the leader."""
    rng, worse, chances = np.random.default_rng(0), [], []
    for person in people:
        departures = departures_of(person["trainings"])
        for _ in range(DRAWS_OF_A_PERSON):
            models = [entry(number, departures, rng) for number in range(ENTRIES)]
            verdict = decide(models, MARGINS, levels=Levels())
            fine = {*verdict.tied} or {str(verdict.leader)}
            worse.append(sum(model.name not in fine for model in models))
            chances.append(verdict.chances[str(verdict.leader)])
    return {
        "draws": len(worse),
        "an entry is called worse": f"{np.mean(worse) / ENTRIES:.1%}",
        "any of the nine is": f"{np.mean(np.array(worse) > 0):.1%}",
        "mean stated chance of the leader": f"{np.mean(chances):.0%}",
    }


def departures_of(trainings: Sequence[Mapping[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """By fold: what sets each training apart from the mean of its pair there, on top of the mean of all of them."""
    found: dict[int, list[dict[str, Any]]] = {fold: [] for fold in range(FOLDS)}
    for fold in range(FOLDS):
        rows = [[t for t in trainings if (t["model"], t["fold"]) == (name_of(pair), fold)] for pair in PAIRS]
        whole = [row for row in rows if len(row) > 2]
        for axis in MEASURED:
            means = [np.mean([np.array(one[axis]) for one in row], axis=0) for row in whole]
            level = np.mean(means, axis=0)
            for place, (one, mean) in enumerate(
                (one, mean) for row, mean in zip(whole, means, strict=True) for one in row
            ):
                if place == len(found[fold]):
                    found[fold].append({})
                spread = np.sqrt(len(whole[0]) / (len(whole[0]) - 1))  # its own part in the mean
                found[fold][place][axis] = level + spread * (np.array(one[axis]) - mean)
    return found


def entry(
    number: int, departures: Mapping[int, Sequence[Mapping[str, Any]]], rng: np.random.Generator
) -> ModelEvidence:
    """One of nine entries: a training on each fold, drawn from all there are; its rank and rate say nothing."""
    trainings = []
    for fold, rows in departures.items():
        drawn = rows[int(rng.integers(len(rows)))]
        trainings.append(Training(fold, 0, np.zeros((1, 1)), *(drawn[axis] for axis in MEASURED)))
    return ModelEvidence(f"lora-8-{number}", "lora", 8, tuple(trainings))


def read_gzip(path: Path) -> Any:
    """Read compressed JSON."""
    return json.loads(gzip.decompress(path.read_bytes()))


if __name__ == "__main__":
    main()
