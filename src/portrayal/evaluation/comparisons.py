"""Two models at a time, on common photos, scenes and seeds: what differs, and whether that can be told from chance.

Shapes: P held-out photos, T timestep strata, S scenes, K seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np

from portrayal.evaluation.intervals import Estimate, Floats, Interval, cluster_estimate

Axis = Literal["identity", "heldout_loss", "prompt"]
Kind = Literal["base", "unet", "lora"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True, eq=False)
class ModelEvidence:
    """What was measured of one model. Row by row and column by column the same cells as every other model's."""

    name: str
    kind: Kind
    rank: int | None
    """Rank of a LoRA; ``None`` for the others."""

    heldout_log_ratios: Floats
    """From ``metrics.log_ratio``, shape ``(P, T)``: log of held-out loss over the base's; the base's own are 0."""

    identity: Floats | None = None
    """Cosine of each picture to the held-out photos, shape ``(S, K)``; ``None`` when no encoder could judge."""

    prompt: Floats | None = None
    """Cosine of each picture to its prompt, shape ``(S, K)``."""

    lightness: Floats | None = None
    """Mean L* of each picture, 0 to 100, shape ``(S, K)``."""

    def __post_init__(self) -> None:
        if (self.kind == "lora") != (self.rank is not None):
            raise ValueError(f"{self.name}: a LoRA has a rank, and nothing else has one")
        for field in ("heldout_log_ratios", "identity", "prompt", "lightness"):
            values = getattr(self, field)
            if values is not None and (values.ndim != 2 or values.size == 0 or not np.isfinite(values).all()):
                raise ValueError(f"{self.name}: {field} is not a finite, non-empty grid: shape {values.shape}")

    @property
    def title(self) -> str:
        """The name a person reads: ``the untouched base``, ``full UNet``, ``LoRA 32``."""
        match self.kind:
            case "base":
                return "the untouched base"
            case "unet":
                return "full UNet"
            case "lora":
                return f"LoRA {self.rank}"

    def grid(self, axis: Axis) -> Floats | None:
        """The values of one axis, the photos or scenes in rows; ``None`` when not measured."""
        match axis:
            case "heldout_loss":
                return self.heldout_log_ratios
            case "identity":
                return self.identity
            case "prompt":
                return self.prompt


@dataclass(frozen=True)
class Margins:
    """Differences too small to matter, for each axis: a model closer than this counts as equal."""

    heldout_loss: float = 0.001
    """Log ratio of losses: 0.001 is 0.1 % of the loss."""

    identity: float = 0.02
    """Cosine."""

    prompt: float = 0.005
    """Cosine."""

    def of(self, axis: Axis) -> float:
        """The margin of one axis."""
        return float(getattr(self, axis))


@dataclass(frozen=True)
class Comparison:
    """One pair of models on one axis.

    ``difference`` is ``a - b``: cosines for identity and prompt, where more is better; the log ratio of losses for
    the held-out loss, where less is better.
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


def grid_estimate(grid: Floats, *, over: Literal["rows", "columns"], seed: int) -> Estimate:
    """Mean of a grid with rows, or columns, as the units that are resampled.

    A held-out loss ``(P, T)`` is resampled over its rows, the photos, never over timesteps. A picture score
    ``(S, K)`` is resampled over its columns, the seeds; the scenes are the fixed list that every model was asked
    for, and the claim is about these scenes.
    """
    values = grid.mean(axis=1 if over == "rows" else 0)
    return cluster_estimate(values, np.arange(len(values)), seed=seed)


def paired_estimate(a: ModelEvidence, b: ModelEvidence, axis: Axis, *, seed: int) -> Estimate:
    """Mean of ``a - b`` over cells both share, with its standard error over photos or seeds.

    Raises:
        ValueError: If either lacks the axis or the grids differ in shape.
    """
    first, second = a.grid(axis), b.grid(axis)
    if first is None or second is None or first.shape != second.shape:
        shapes = [None if grid is None else grid.shape for grid in (first, second)]
        raise ValueError(f"{a.name} and {b.name} share no grid of {axis}: {shapes[0]} and {shapes[1]}")
    return grid_estimate(first - second, over="rows" if axis == "heldout_loss" else "columns", seed=seed)


def compare_pair(
    a: ModelEvidence, b: ModelEvidence, axis: Axis, margins: Margins, *, seed: int, confidence: float = 0.95
) -> Comparison:
    """Compare two models on one axis, cell by cell.

    Args:
        a: First model.
        b: Second model, measured on the same cells.
        axis: What to compare.
        margins: What is too small to matter.
        seed: Seed of the resampling.
        confidence: Level of the interval; :func:`compare_all` raises it by the number of pairs.

    Raises:
        ValueError: If either lacks the axis or the grids differ in shape.
    """
    return _comparison(a, b, axis, margins, paired_estimate(a, b, axis, seed=seed), confidence)


def compare_all(evidence: Sequence[ModelEvidence], margins: Margins, *, seed: int) -> Comparisons:
    """Compare every pair on every axis both were measured on, with 5 % chance of any false difference per family.

    Families, each corrected by itself (Holm 1979): the tuned models among each other (which one?), and each of them
    against the base (did it learn?), axis by axis.

    Raises:
        ValueError: If the grids of an axis differ in shape.
    """
    tuned = [model for model in evidence if model.kind != "base"]
    against_base = [(model, base) for base in evidence if base.kind == "base" for model in tuned]
    rows: list[Comparison] = []
    for axis in AXES:
        for family in (list(combinations(tuned, 2)), against_base):
            pairs = [(a, b) for a, b in family if a.grid(axis) is not None and b.grid(axis) is not None]
            estimates = [paired_estimate(a, b, axis, seed=seed) for a, b in pairs]
            levels = holm_levels([estimate.p_value for estimate in estimates])
            for (a, b), estimate, level in zip(pairs, estimates, levels, strict=True):
                rows.append(_comparison(a, b, axis, margins, estimate, 1 - level))
    return Comparisons(tuple(rows))


def holm_levels(p_values: Sequence[float], alpha: float = 0.05) -> list[float]:
    """Significance level at which each test is made by Holm's step-down, so that an interval can be drawn at it.

    The smallest p is tested at ``alpha / m``, the next at ``alpha / (m - 1)`` and so on; from the first that fails
    on, the level stays. An interval at ``1 - level`` excludes 0 exactly when Holm rejects.
    """
    levels = [alpha] * len(p_values)
    level, rejecting = alpha, True
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if rejecting:
            level = alpha / (len(p_values) - step)
            rejecting = p_values[index] < level
        levels[index] = level
    return levels


def _comparison(
    a: ModelEvidence, b: ModelEvidence, axis: Axis, margins: Margins, estimate: Estimate, confidence: float
) -> Comparison:
    difference = estimate.interval(confidence)
    first_is_better = (difference.mean < 0) == (axis == "heldout_loss")
    return Comparison(
        axis=axis,
        a=a.name,
        b=b.name,
        difference=difference,
        distinguishable=difference.excludes_zero,
        better=(a if first_is_better else b).name if difference.excludes_zero else None,
        equivalent=difference.within(margins.of(axis)),
    )
