"""How good each LoRA of a study is expected to be, and the chance that it is the best.

Each LoRA is trained a few times, and two trainings of one LoRA differ by more than one rank differs from the next. So
what is expected of a LoRA is not its own mean alone. It is a Gaussian regression (Rasmussen and Williams 2006, Sec.
2.7): likeness is a line over the logarithm of the rank, a line and a bend over the logarithm of the learning rate, and
what is the LoRA's own; all LoRAs of one fold and seed share what that fold does to them. What all trainings say of
ranks and rates thereby counts for each LoRA, and the luck of one training counts for little: shrinkage, as of Efron and
Morris 1975. A LoRA that is clearly behind says nothing of the others, for a line and a bend do not reach that far.

The priors are in margins, which say what matters on an axis: they hold for every encoder.
Shapes: M models, T trainings of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from portrayal.evaluation.comparisons import LESS_IS_BETTER, Axis, ModelEvidence
from portrayal.evaluation.intervals import Floats

RANK_MEAN, RANK_SLOPE = 1.0, 0.5
"""Prior mean and deviation of what twice the rank adds, in margins. With one scale for all ranks a larger rank learns
as fast and has more room: on the people of `benchmarks.alpha_trials` it adds a margin for each doubling; *LoRA Without
Regret* (Schulman et al. 2025) finds it never worse."""
RATE_MEAN, RATE_SLOPE = 4.0, 3.0
"""The same of twice the learning rate, among rates that do not leave a LoRA clearly behind: what it added to the same
people."""
RATE_BEND, OWN = 3.0, 0.5
"""Prior deviations in margins: of the bend of that, of what is a LoRA's own."""
NOISE, NOISE_DEGREES = 2.0, 4
"""Luck of one training in margins, and how many degrees of freedom that counts as."""
SHARED = 100.0
"""What a fold and seed do to all LoRAs, in margins: anything."""
BEHIND = 3 * math.sqrt(2) * NOISE
"""Margins from which on a LoRA is clearly behind the best one: three deviations of a difference of two trainings."""
DRAWS = 4000
"""From which chances are counted."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What is known of several LoRAs on one axis, more being better.

    Attributes:
        names: Of the LoRAs, `M` of them.
        mean: Expected values, `(M,)`, but for a constant that all share.
        covariance: Of what is not known of them, `(M, M)`.
    """

    names: tuple[str, ...]
    mean: Floats
    covariance: Floats

    @property
    def best(self) -> str:
        """The LoRA with the highest expectation."""
        return self.names[int(self.mean.argmax())]

    @property
    def ranking(self) -> list[str]:
        """All LoRAs, the highest expectation first."""
        return [self.names[place] for place in np.argsort(-self.mean, kind="stable")]

    def chances(self) -> dict[str, float]:
        """The chance of each to be the best of them; they add up to 1."""
        values = np.random.default_rng(0).multivariate_normal(self.mean, self.covariance, DRAWS, method="eigh")
        counts = np.bincount(values.argmax(axis=1), minlength=len(self.names))
        return {name: float(count) / DRAWS for name, count in zip(self.names, counts, strict=True)}

    def chance_of_no_worse(self, name: str, than: str, margin: float) -> float:
        """The chance that one is worse than another by no more than a margin."""
        first, second = self.names.index(name), self.names.index(than)
        variance = self.covariance[first, first] + self.covariance[second, second] - 2 * self.covariance[first, second]
        return normal_below((self.mean[first] - self.mean[second] + margin) / math.sqrt(max(variance, 1e-30)))


def normal_below(value: float) -> float:
    """The standard normal distribution's share below a value."""
    return 0.5 * (1 + math.erf(float(value) / math.sqrt(2)))


def contenders(models: Sequence[ModelEvidence], axis: Axis, margin: float) -> list[ModelEvidence]:
    """The LoRAs that are not clearly behind the best one, on the folds and seeds that all of them have in common."""
    units = [model.units(axis) or {} for model in models]
    common = set.intersection(*map(set, units)) if units else set()
    sign = -1.0 if axis in LESS_IS_BETTER else 1.0
    means = [sign * float(np.mean([one[split].mean() for split in common or one])) for one in units]
    return [model for model, mean in zip(models, means, strict=True) if mean >= max(means) - BEHIND * margin]


def expect(models: Sequence[ModelEvidence], axis: Axis, margin: float) -> Expectation:
    """What is expected of LoRAs after all their trainings.

    Args:
        models: LoRAs that were measured on the axis, trained on the same folds and seeds or on some of them; those that
            are clearly behind are left out, see :func:`contenders`.
        axis: Such as identity.
        margin: The difference on it that matters, above 0.

    Raises:
        ValueError: If a model is not a LoRA or was not measured, or none is given.
    """
    if not models or any(model.rank is None or not model.measured(axis) for model in models):
        raise ValueError(f"expected LoRAs that were measured in {axis}")
    models = contenders(models, axis, margin)
    value_T, place_T, split_T = _table(models, axis)
    value_T = value_T / margin
    prior_mean, prior = prior_of(models)
    noise = noise_variance(value_T, place_T, split_T)
    shared = SHARED**2 * (split_T[:, None] == split_T)
    covariance = prior[np.ix_(place_T, place_T)] + shared + SHARED**2 + noise * np.eye(len(value_T))
    residual_T = value_T - value_T.mean() - prior_mean[place_T]
    solved = np.linalg.solve(covariance, np.column_stack([residual_T, prior[place_T]]))
    mean = prior_mean + prior[:, place_T] @ solved[:, 0]
    left = prior - prior[:, place_T] @ solved[:, 1:]
    return Expectation(tuple(model.name for model in models), mean * margin, (left + left.T) / 2 * margin**2)


def _table(models: Sequence[ModelEvidence], axis: Axis) -> tuple[Floats, Floats, Floats]:
    """Mean of each training, which LoRA it is of, and which fold and seed: `(T,)` each."""
    sign = -1.0 if axis in LESS_IS_BETTER else 1.0
    rows = [
        (place, split, sign * float(units.mean()))
        for place, model in enumerate(models)
        for split, units in sorted((model.units(axis) or {}).items())
    ]
    number_of = {split: number for number, split in enumerate(dict.fromkeys(split for _, split, _ in rows))}
    values = np.array([value for *_, value in rows])
    return values, np.array([place for place, *_ in rows]), np.array([number_of[split] for _, split, _ in rows])


def prior_of(models: Sequence[ModelEvidence]) -> tuple[Floats, Floats]:
    """What is expected of LoRAs before anything is measured, in margins: mean `(M,)` and covariance `(M, M)`."""
    rank = np.log2([model.rank or 1 for model in models])
    rate = np.log2([model.learning_rate or 1.0 for model in models])
    rank, rate = rank - rank.mean(), rate - rate.mean()
    bend = rate**2 - np.mean(rate**2)
    features = np.column_stack([RANK_SLOPE * rank, RATE_SLOPE * rate, RATE_BEND * bend])
    return RANK_MEAN * rank + RATE_MEAN * rate, features @ features.T + OWN**2 * np.eye(len(models))


def noise_variance(value_T: Floats, place_T: Floats, split_T: Floats) -> float:
    """Variance of the luck of a training, in margins: the prior's and that of the two-way table's residuals, pooled."""
    design = np.column_stack([place_T[:, None] == np.unique(place_T), split_T[:, None] == np.unique(split_T)])
    fitted, _, rank, _ = np.linalg.lstsq(design.astype(float), value_T, rcond=None)
    residuals = value_T - design @ fitted
    degrees = len(value_T) - int(rank)
    return float((NOISE_DEGREES * NOISE**2 + residuals @ residuals) / (NOISE_DEGREES + degrees))


def smallest_no_worse(
    expectation: Expectation, models: Mapping[str, ModelEvidence], margin: float, sure: float
) -> ModelEvidence:
    """The smallest LoRA, and of that rank the gentlest, that is surely no worse than the best by more than a margin.

    The best itself, where that is shown of none: what could not be shown is no reason to take a smaller one.
    """
    best = models[expectation.best]
    named = [models[name] for name in expectation.names]
    for model in sorted(named, key=lambda model: (model.rank or 0, model.learning_rate or 0.0)):
        if model is best or expectation.chance_of_no_worse(model.name, best.name, margin) >= sure:
            return model
    raise AssertionError("the best is among the models")
