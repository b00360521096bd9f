"""How good each LoRA of a study is expected to be, and the chance that it is the best.

Each LoRA was trained a few times, and one training differs from the next by more than one rank from another. So a LoRA's
expectation is not its own mean alone. It is a Gaussian regression (Rasmussen and Williams 2006, Sec. 2.7): likeness is a
line over the logarithm of the rank, a line and a bend over the logarithm of the learning rate, and what is the LoRA's
own; all LoRAs of one fold and seed share what that fold does to them. What all trainings say of ranks and rates thereby
counts for each, and the luck of one training counts for little: shrinkage, as of Efron and Morris 1975.

The priors are in margins, which say what matters on an axis: they hold for every encoder.
Shapes: M models, T trainings of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from portrayal.evaluation.comparisons import LESS_IS_BETTER, Axis, ModelEvidence
from portrayal.evaluation.intervals import Floats

RANK_SLOPE, RATE_SLOPE, RATE_BEND, OWN = 1.5, 5.0, 3.0, 0.5
"""Prior standard deviations, in margins: for twice the rank, for twice the rate, for the bend of that, for the rest."""
NOISE, NOISE_DEGREES = 2.0, 4
"""Luck of one training, in margins, and how many degrees of freedom that counts as."""
SHARED = 100.0
"""What a fold and seed do to all LoRAs, in margins: anything."""
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

    def chances(self) -> dict[str, float]:
        """The chance of each to be the best of them; they add up to 1."""
        values = np.random.default_rng(0).multivariate_normal(self.mean, self.covariance, DRAWS, method="eigh")
        counts = np.bincount(values.argmax(axis=1), minlength=len(self.names))
        return {name: float(count) / DRAWS for name, count in zip(self.names, counts, strict=True)}

    def chance_of_no_worse(self, name: str, than: str, margin: float) -> float:
        """The chance that one is worse than another by no more than a margin."""
        first, second = self.names.index(name), self.names.index(than)
        variance = self.covariance[first, first] + self.covariance[second, second] - 2 * self.covariance[first, second]
        return normal_below((self.mean[first] - self.mean[second] + margin) / np.sqrt(max(variance, 1e-30)))


def normal_below(value: float) -> float:
    """The standard normal distribution's share below a value."""
    from math import erf, sqrt

    return 0.5 * (1 + erf(float(value) / sqrt(2)))


def expect(models: Sequence[ModelEvidence], axis: Axis, margin: float) -> Expectation:
    """What is expected of LoRAs after all their trainings.

    Args:
        models: LoRAs that were measured on the axis; trained on the same folds and seeds or on some of them.
        axis: Such as identity.
        margin: The difference on it that matters, above 0.

    Raises:
        ValueError: If a model is not a LoRA or was not measured, or none is given.
    """
    if not models or any(model.rank is None or not model.measured(axis) for model in models):
        raise ValueError(f"expected LoRAs that were measured in {axis}")
    sign = -1.0 if axis in LESS_IS_BETTER else 1.0
    places, splits, values = [], [], []
    for place, model in enumerate(models):
        for split, units in sorted((model.units(axis) or {}).items()):
            places.append(place)
            splits.append(split)
            values.append(sign * float(units.mean()) / margin)
    number_of = {split: number for number, split in enumerate(dict.fromkeys(splits))}
    place_T, split_T = np.array(places), np.array([number_of[split] for split in splits])
    value_T = np.array(values) - np.mean(values)

    prior = prior_covariance(models)
    noise = noise_variance(value_T, place_T, split_T)
    shared = SHARED**2 * (split_T[:, None] == split_T)
    covariance = prior[np.ix_(place_T, place_T)] + shared + SHARED**2 + noise * np.eye(len(value_T))
    solved = np.linalg.solve(covariance, np.column_stack([value_T, prior[place_T]]))
    mean = prior[:, place_T] @ solved[:, 0]
    left = prior - prior[:, place_T] @ solved[:, 1:]
    return Expectation(tuple(model.name for model in models), mean * margin, (left + left.T) / 2 * margin**2)


def prior_covariance(models: Sequence[ModelEvidence]) -> Floats:
    """How LoRAs go together before anything is measured, in margins, `(M, M)`."""
    rank = np.log2([model.rank or 1 for model in models])
    rate = np.log2([model.rate for model in models])
    rank, rate = rank - rank.mean(), rate - rate.mean()
    bend = rate**2 - np.mean(rate**2)
    features = np.column_stack([RANK_SLOPE * rank, RATE_SLOPE * rate, RATE_BEND * bend])
    covariance: Floats = features @ features.T + OWN**2 * np.eye(len(models))
    return covariance


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
    smaller = sorted(models.values(), key=lambda model: (model.rank or 0, model.rate))
    for model in smaller:
        if model is best or expectation.chance_of_no_worse(model.name, best.name, margin) >= sure:
            return model
    raise AssertionError("the best is among the models")
