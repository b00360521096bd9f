"""Which rule recommends the right LoRA of a grid of ranks and rates? Regret in likeness of each, on recorded trainings.

    python -m benchmarks.rate_rules

Draws on the trainings that `benchmarks.rate_runs` recorded. A study is three folds of one seed of every pair. The truth
is the mean likeness of a pair over the other seeds, which no rule saw, among the pairs that pass the gates there: not
worse than the best pair by more than the margin in prompt, drift or light. Regret is the likeness of the best such
pair less that of the pair a rule names; a pair that does not pass has the regret of the worst that does. "Again" is how
often a study of the same person from another seed names a pair whose likeness is within 0.02 of the first's.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rate_runs import FOLDER, MULTIPLES, RANKS
from benchmarks.record import print_table, save
from portrayal.evaluation.comparisons import LESS_IS_BETTER, Axis, Margins, ModelEvidence, Training
from portrayal.evaluation.verdict import Levels, decide

PAIRS = [(rank, multiple) for rank in RANKS for multiple in MULTIPLES]
GATES: tuple[Axis, ...] = ("prompt", "drift", "colour")
MARGINS = Margins()
CLOSE = 0.02
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
        trainings: All trainings of the person at one way to scale.
    """

    person: int
    seed: int
    trainings: Sequence[Mapping[str, Any]]

    def of(self, pair: Pair, *, seen: bool) -> list[Mapping[str, Any]]:
        """A pair's trainings that the rules see, or the others."""
        name = name_of(pair)
        return [one for one in self.trainings if one["model"] == name and (one["seed"] == self.seed) is seen]

    def mean(self, pair: Pair, axis: str, *, seen: bool) -> float:
        """Mean of a pair on an axis."""
        return float(np.mean([np.mean(one[axis]) for one in self.of(pair, seen=seen)]))

    def passing(self, *, seen: bool) -> list[Pair]:
        """The pairs that are worse than the best in no gate by more than the margin; all of them, if none is."""
        passed = []
        for pair in PAIRS:
            lost = []
            for gate in GATES:
                sign = -1 if gate in LESS_IS_BETTER else 1
                best = max(sign * self.mean(other, gate, seen=seen) for other in PAIRS)
                lost.append(best - sign * self.mean(pair, gate, seen=seen) > MARGINS.of(gate))
            if not any(lost):
                passed.append(pair)
        return passed or PAIRS

    @cached_property
    def truth(self) -> dict[Pair, float]:
        """Likeness of each pair over the trainings that no rule saw."""
        return {pair: self.mean(pair, "identity", seen=False) for pair in PAIRS}

    @cached_property
    def passes(self) -> list[Pair]:
        """The pairs that pass the gates there."""
        return self.passing(seen=False)

    def regret(self, pair: Pair) -> float:
        """How much likeness a choice gives away."""
        likeness = [self.truth[other] for other in self.passes]
        return max(likeness) - (self.truth[pair] if pair in self.passes else min(likeness))


def verdict_of_today(study: Study) -> Pair:
    """The product's rule: the leader, or the smallest rank that cannot be told from it."""
    models = []
    for pair in PAIRS:
        trainings = [
            Training(
                one["fold"], one["seed"], np.zeros((1, 1)), *(np.array(one[axis]) for axis in ("identity", *GATES))
            )
            for one in study.of(pair, seen=True)
        ]
        models.append(ModelEvidence(name_of(pair), "lora", pair[0], tuple(trainings)))
    best = decide(models, MARGINS, levels=Levels()).best_lora
    return next(pair for pair in PAIRS if name_of(pair) == best)


def highest(study: Study, pairs: Sequence[Pair] = PAIRS) -> Pair:
    """The pair with the highest mean likeness."""
    return max(pairs, key=lambda pair: study.mean(pair, "identity", seen=True))


def smallest_near(study: Study) -> Pair:
    """The smallest rank, and of it the gentlest rate, within 0.02 of the highest mean."""
    means = {pair: study.mean(pair, "identity", seen=True) for pair in PAIRS}
    return min(pair for pair in PAIRS if means[pair] >= max(means.values()) - CLOSE)


def lowest_loss(which: str) -> Callable[[Study], Pair]:
    """The pair with the lowest loss in its training on the first fold, as people read it off."""
    return lambda study: min(PAIRS, key=lambda pair: float(study.of(pair, seen=True)[0][which]))


RULES: dict[str, Callable[[Study], Pair]] = {
    "today's verdict: the smallest that cannot be told from the leader": verdict_of_today,
    "highest mean likeness": highest,
    "highest mean likeness among those that pass the gates by their means": lambda study: highest(
        study, study.passing(seen=True)
    ),
    "smallest within 0.02 of the highest": smallest_near,
    "highest mean likeness at the recipe's rate": lambda study: highest(study, [(rank, 1.0) for rank in RANKS]),
    "always the smallest rank at the recipe's rate": lambda _: (min(RANKS), 1.0),
    "always the largest rank at the recipe's rate": lambda _: (max(RANKS), 1.0),
    "always the largest rank at the highest rate": lambda _: (max(RANKS), max(MULTIPLES)),
    "lowest loss of the last step": lowest_loss("last_loss"),
    "lowest mean loss of the last 100 steps": lowest_loss("mean_last_100"),
}


def main() -> None:
    """Try the rules, print, record."""
    figures = {}
    for scale in ("constant", "equal"):
        people = [read_gzip(path) for path in sorted(FOLDER.glob(f"*-{scale}.json.gz"))]
        seeds = sorted({one["seed"] for one in people[0]["trainings"]})
        studies = [Study(person["person"], seed, person["trainings"]) for person in people for seed in seeds]
        grid = [
            {"rank": rank}
            | {
                f"{multiple:g} x": float(
                    np.mean([study.mean((rank, multiple), "identity", seen=True) for study in studies])
                )
                for multiple in MULTIPLES
            }
            for rank in RANKS
        ]
        rows = [row(rule, choose, studies) for rule, choose in RULES.items()]
        print(f"\nScale {scale}, {len(people)} people, {len(studies)} studies: mean likeness by rank and rate")
        print_table(grid)
        print_table(rows)
        figures[scale] = {"people": len(people), "studies": len(studies), "likeness": grid, "rules": rows}
    print(save("rate_rules", figures, {"ranks": RANKS, "multiples of the recipe's rate": MULTIPLES}))


def row(rule: str, choose: Callable[[Study], Pair], studies: Sequence[Study]) -> dict[str, Any]:
    """How a rule does over all studies."""
    picks = [(study, choose(study)) for study in studies]
    regrets = np.array([study.regret(pair) for study, pair in picks])
    again = [
        abs(first.truth[pair] - first.truth[other]) <= CLOSE
        for (first, pair), (second, other) in combinations(picks, 2)
        if first.person == second.person
    ]
    return {
        "rule": rule,
        "mean regret": float(regrets.mean()),
        "regret over 0.05": f"{np.mean(regrets > 0.05):.0%}",
        "does not pass a gate": f"{np.mean([pair not in study.passes for study, pair in picks]):.0%}",
        "likeness again": f"{np.mean(again):.0%}",
    }


def read_gzip(path: Path) -> Any:
    """Read compressed JSON."""
    return json.loads(gzip.decompress(path.read_bytes()))


if __name__ == "__main__":
    main()
