"""Two models at a time, on common photos, scenes and seeds: what differs, and whether that can be told from chance.

Shapes: P held-out photos of a fold, T timestep strata, S scenes, K seeds of pictures, F folds, C seeds of any kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np

from portrayal.evaluation.corrections import at_most_true, step_down_levels
from portrayal.evaluation.intervals import Estimate, Floats, Interval, mean_estimate, two_way_estimate
from portrayal.sentences import Said, rate_text, say

Axis = Literal["identity", "heldout_loss", "prompt", "drift", "colour"]
Kind = Literal["base", "unet", "lora"]
AXES: tuple[Axis, ...] = get_args(Axis)
LESS_IS_BETTER: frozenset[Axis] = frozenset({"heldout_loss", "drift", "colour"})
GATES: tuple[Axis, ...] = ("prompt", "drift", "colour")
"""What a rank must pass to be chosen for its identity: it obeys, the class stays itself, the light is right."""

ALPHA = 0.05
"""Chance of a false decision on one question."""

GATES_SHARE = 0.2
"""The part of it that the gates have together."""


@dataclass(frozen=True, eq=False)
class Training:
    """What was measured of one training. Cell by cell the same as of every other model's on this fold."""

    fold: int
    """Which photos were held out."""

    seed: int
    """Which of the study's seeds."""

    heldout_log_ratios: Floats
    """From ``metrics.log_ratio``, shape ``(P, T)``: log of held-out loss over the base's; the base's own are 0."""

    identity: Floats | None = None
    """Cosine of each picture to the held-out photos, shape ``(S, K)``; ``None`` when no encoder could judge."""

    prompt: Floats | None = None
    """Cosine of each picture to its prompt, shape ``(S, K)``."""

    drift: Floats | None = None
    """Cosine of pictures of the class, not of the person, to the held-out photos, shape ``(1, K)``."""

    colour: Floats | None = None
    """L* by which a picture leaves the range between the photos and the base's picture, 0 within, shape ``(S, K)``."""

    lightness: Floats | None = None
    """Mean L* of each picture, 0 to 100, shape ``(S, K)``."""

    def units(self, axis: Axis | Literal["lightness"]) -> Floats | None:
        """Means of the units that are resampled: photos for the loss, ``(P,)``, seeds for pictures, ``(K,)``.

        Timesteps and noise are never resampled; the scenes are the fixed list that every model was asked for.
        """
        if axis == "heldout_loss":
            return np.asarray(self.heldout_log_ratios.mean(axis=1))
        grid = getattr(self, axis)
        return None if grid is None else np.asarray(grid.mean(axis=0))


def lora_title(rank: int, learning_rate: float | None = None) -> Said:
    """``LoRA 32``, or ``LoRA 32 at 1e-4`` where a study has several learning rates."""
    if learning_rate is None:
        return say("model.lora", rank=rank)
    return say("model.lora_at", rank=rank, rate=rate_text(learning_rate))


@dataclass(frozen=True, eq=False)
class ModelEvidence:
    """What was measured of one model, over all its trainings."""

    name: str
    kind: Kind
    rank: int | None
    """Rank of a LoRA; ``None`` for the others."""

    trainings: tuple[Training, ...]
    """The base, which is not trained, stands here once for each training of the study."""

    learning_rate: float | None = None
    """Learning rate of a LoRA; ``None`` where the study has only one."""

    diverged: bool = False
    """Whether another of its trainings diverged: it is not recommended."""

    def __post_init__(self) -> None:
        if (self.kind == "lora") != (self.rank is not None):
            raise ValueError(f"{self.name}: a LoRA has a rank, and nothing else has one")
        if len({(one.fold, one.seed) for one in self.trainings}) != len(self.trainings) or not self.trainings:
            raise ValueError(f"{self.name}: expected one training at least, and each fold and seed once")
        for training in self.trainings:
            for name in ("heldout_log_ratios", "identity", "prompt", "drift", "colour", "lightness"):
                values = getattr(training, name)
                if values is not None and (values.ndim != 2 or values.size == 0 or not np.isfinite(values).all()):
                    raise ValueError(f"{self.name}: {name} is not a finite, non-empty grid: shape {values.shape}")

    @property
    def title(self) -> str:
        """The name a person reads: ``the untouched base``, ``full UNet``, ``LoRA 32``."""
        match self.kind:
            case "base":
                return say("model.base")
            case "unet":
                return say("model.unet")
            case "lora":
                return lora_title(self.rank or 0, self.learning_rate)

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds it was trained on."""
        return tuple(sorted({training.fold for training in self.trainings}))

    def units(self, axis: Axis | Literal["lightness"]) -> dict[tuple[int, int], Floats] | None:
        """The units of each training by fold and seed; ``None`` when one was not measured."""
        found = {(one.fold, one.seed): one.units(axis) for one in self.trainings}
        return (
            None
            if any(units is None for units in found.values())
            else {k: v for k, v in found.items() if v is not None}
        )

    def measured(self, axis: Axis) -> bool:
        """Whether all trainings were measured on an axis."""
        return self.units(axis) is not None

    def mean(self, axis: Axis) -> float:
        """Mean on an axis over folds, trainings and units; not a number when not measured."""
        units = self.units(axis)
        return float("nan") if units is None else estimate_of(units).mean


@dataclass(frozen=True)
class Margins:
    """Differences too small to matter, for each axis: a model closer than this counts as equal."""

    heldout_loss: float = 0.001
    """Log ratio of losses: 0.001 is 0.1 % of the loss."""

    identity: float = 0.02
    """Cosine."""

    prompt: float = 0.005
    """Cosine."""

    drift: float = 0.05
    """Cosine."""

    colour: float = 2.0
    """L*, of which 2 is what an eye notices."""

    def of(self, axis: Axis) -> float:
        """The margin of one axis."""
        return float(getattr(self, axis))


@dataclass(frozen=True)
class Comparison:
    """One pair of models on one axis.

    ``difference`` is ``a - b``: cosines for identity and prompt, where more is better; of the rest less is better: the
    log ratio of losses for the held-out loss, cosines for the drift of the class, L* for colour.
    """

    axis: Axis
    a: str
    b: str
    difference: Interval
    distinguishable: bool
    """Whether the interval, corrected for the number of pairs, excludes 0."""

    better: str | None
    """Name of the better model when distinguishable."""

    equivalent: bool
    """Whether the corrected interval lies within the margin: a difference, if any, too small to matter."""

    def turned(self) -> Comparison:
        """The same finding as ``b - a``."""
        return Comparison(
            self.axis, self.b, self.a, self.difference.negated(), self.distinguishable, self.better, self.equivalent
        )

    def finds_worse(self, name: str) -> bool:
        """Whether ``name`` is worse, beyond chance and beyond what is too small to matter."""
        return self.distinguishable and self.better != name and not self.equivalent

    def loses_by(self, margin: float) -> bool:
        """Whether ``a`` is worse by more than the margin, the whole interval said so."""
        worse = self.difference if self.axis in LESS_IS_BETTER else self.difference.negated()
        return worse.low is not None and worse.low > margin

    def as_json(self) -> dict[str, Any]:
        """As in ``scores.json``."""
        return {
            "axis": self.axis,
            "a": self.a,
            "b": self.b,
            "difference": self.difference.as_json(),
            "distinguishable": self.distinguishable,
            "better": self.better,
            "equivalent": self.equivalent,
        }


@dataclass(frozen=True)
class Comparisons:
    """All pairs of one verdict."""

    rows: tuple[Comparison, ...]

    def find(self, axis: Axis, a: ModelEvidence, b: ModelEvidence | None) -> Comparison | None:
        """The comparison ``a - b``, whichever way round it is kept; ``None`` where there is none."""
        if b is None:
            return None
        for row in self.rows:
            if row.axis == axis and {row.a, row.b} == {a.name, b.name}:
                return row if row.a == a.name else row.turned()
        return None


def estimate_of(units: Mapping[tuple[int, int], Floats]) -> Estimate:
    """Mean over folds, with the error that other photos, trainings and seeds would make.

    With two folds or more their means are the rows of a grid and the seeds its columns, see ``two_way_estimate``: each
    fold is another training on other photos, so the luck of training is in the error. With one fold it is not: what is
    resampled are the units within, photos or seeds of pictures.
    """
    rows = fold_rows(units)
    if len(rows) == 1:
        return mean_estimate(np.mean([one for (_, _), one in sorted(units.items())], axis=0))
    return two_way_estimate(np.array(rows))


def fold_rows(units: Mapping[tuple[int, int], Floats]) -> list[Floats]:
    """For each fold its columns, ``(C,)``: each seed of training, or each seed of training with each of pictures.

    Folds may differ in their number of photos, which therefore are no columns: they are averaged.
    """
    folds = sorted({fold for fold, _ in units})
    same = len({len(one) for one in units.values()}) == 1 and len(folds) > 1
    rows = []
    for fold in folds:
        found = [one for (of, _), one in sorted(units.items()) if of == fold]
        rows.append(np.concatenate(found) if same else np.array([one.mean() for one in found]))
    return rows


def difference_of(a: ModelEvidence, b: ModelEvidence, axis: Axis) -> dict[tuple[int, int], Floats]:
    """``a - b``, unit by unit, of the folds and seeds that both were trained on.

    Raises:
        ValueError: If either lacks the axis, they share no training, or their units differ in number.
    """
    first, second = a.units(axis), b.units(axis)
    shared = sorted(set(first or ()) & set(second or ()))
    if first is None or second is None or not shared:
        raise ValueError(f"{a.name} and {b.name} share no training with {axis} measured")
    for key in shared:
        if first[key].shape != second[key].shape:
            shapes = f"{first[key].shape} and {second[key].shape}"
            raise ValueError(f"{axis} of {a.name} and {b.name} was measured on different cells: {shapes}")
    return {key: first[key] - second[key] for key in shared}


def share_trainings(a: ModelEvidence, b: ModelEvidence, axis: Axis) -> bool:
    """Whether two models were measured on an axis after training on a common fold and seed."""
    return bool(set(a.units(axis) or ()) & set(b.units(axis) or ()))


def compare_pair(
    a: ModelEvidence, b: ModelEvidence, axis: Axis, margins: Margins, *, confidence: float = 0.95
) -> Comparison:
    """Compare two models on one axis, cell by cell; :func:`compare_all` corrects for the number of pairs.

    Raises:
        ValueError: If either lacks the axis, or the cells differ.
    """
    return _comparison(a, b, axis, margins, estimate_of(difference_of(a, b, axis)), confidence)


def compare_all(evidence: Sequence[ModelEvidence], margins: Margins) -> Comparisons:
    """Compare pairs on every axis both were measured on together, with 5 % chance of any false decision per question.

    Questions, each with its own family of pairs: which rank (the LoRAs among each other), which method (each against
    the full UNet), and did it learn (every tuned model against the base; there each axis by itself). Pairs are
    corrected by Holm's step-down (1979), all pairs of the LoRAs by Shaffer's (1986), which knows that not every set of
    them can be equal. Of the 5 % the gates have a fifth: a rank is also called worse for one of them.

    Raises:
        ValueError: If the cells of an axis differ.
    """
    kinds = {kind: [model for model in evidence if model.kind == kind] for kind in get_args(Kind)}
    tuned = [*kinds["lora"], *kinds["unet"]]
    ranks = list(combinations(kinds["lora"], 2))
    methods = [(unet, lora) for unet in kinds["unet"] for lora in kinds["lora"]]
    learned = [(model, base) for base in kinds["base"] for model in tuned]
    rows: list[Comparison] = []
    for axis in AXES:
        luck = training_luck(kinds["lora"], axis)
        for family in (ranks, methods, learned):
            pairs = [(a, b) for a, b in family if share_trainings(a, b, axis)]
            estimates = [
                estimate_of(difference_of(a, b, axis)) if b.kind == "base" else with_luck(a, b, axis, luck)
                for a, b in pairs
            ]
            at_most = at_most_true(len(pairs), len(kinds["lora"]) if family is ranks else 0)
            alpha = ALPHA if family is learned else ALPHA * (1 - GATES_SHARE if axis not in GATES else GATES_SHARE / 3)
            levels = step_down_levels([estimate.p_value for estimate in estimates], at_most, alpha)
            for (a, b), estimate, level in zip(pairs, estimates, levels, strict=True):
                rows.append(_comparison(a, b, axis, margins, estimate, 1 - level))
    return Comparisons(tuple(rows))


@dataclass(frozen=True)
class Luck:
    """How much a difference of two LoRAs on one fold varies by photos, training and seeds together."""

    variance: float
    degrees: int


def training_luck(loras: Sequence[ModelEvidence], axis: Axis) -> Luck | None:
    """The luck of training, learned from all LoRAs together that were trained on the most folds; ``None`` unless two
    LoRAs share two folds.

    Three folds say little of one pair, and more together: of M models on F folds the mean variance of the pairs has
    ``(M - 1)(F - 1)`` degrees of freedom, those of the residuals of a two-way table of models and folds. It takes the
    luck of training to be alike for all ranks.
    """
    by_folds: dict[tuple[int, ...], list[ModelEvidence]] = {}
    for model in loras:
        if model.measured(axis) and len(model.folds) > 1:
            by_folds.setdefault(model.folds, []).append(model)
    shared, measured = max(by_folds.items(), key=lambda item: len(item[0]) * len(item[1]), default=((), []))
    if len(measured) < 2:
        return None
    found = [estimate_of(difference_of(a, b, axis)) for a, b in combinations(measured, 2)]
    variance = float(np.mean([one.standard_error**2 for one in found]))
    return Luck(variance * len(shared), (len(measured) - 1) * (len(shared) - 1))


def with_luck(a: ModelEvidence, b: ModelEvidence, axis: Axis, luck: Luck | None) -> Estimate:
    """The difference of two tuned models with the luck of training in its error.

    A full UNet that was trained on one fold has no luck to be seen; that of the LoRAs is taken for it.
    """
    difference = difference_of(a, b, axis)
    own, folds = estimate_of(difference), len({fold for fold, _ in difference})
    if luck is None or (folds > 1 and "unet" in (a.kind, b.kind)):
        return own
    error = math.sqrt(luck.variance / folds)
    return Estimate(own.mean, error if folds > 1 else max(error, own.standard_error), luck.degrees)


def _comparison(
    a: ModelEvidence, b: ModelEvidence, axis: Axis, margins: Margins, estimate: Estimate, confidence: float
) -> Comparison:
    difference = estimate.interval(confidence)
    first_is_better = (difference.mean < 0) == (axis in LESS_IS_BETTER)
    return Comparison(
        axis=axis,
        a=a.name,
        b=b.name,
        difference=difference,
        distinguishable=difference.excludes_zero,
        better=(a if first_is_better else b).name if difference.excludes_zero else None,
        equivalent=difference.within(margins.of(axis)),
    )
