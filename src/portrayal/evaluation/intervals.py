"""How sure a mean is: the error that other photos and seeds would make, with Student's t for the few there are.

A run has three to six held-out photos and about as many seeds. A percentile (or BCa) interval never leaves the range
of the values, so it excludes 0 whenever all units agree in sign: by chance alone in ``2 ** (1 - n)`` of cases, 25 %
at three units. So the standard error of resampling whole units, made unbiased by ``sqrt(n / (n - 1))``, is multiplied
by the quantile of Student's t with ``n - 1`` degrees of freedom: Hesterberg 2015, "What teachers should know about
the bootstrap", arXiv:1411.5279 (why small-sample percentile intervals are too short); Cameron, Gelbach & Miller
2008, doi:10.1162/rest.90.3.414 (few clusters need t with clusters - 1). What is resampled are means, and their
bootstrap error has a closed form; nothing is drawn.

Units are photos and seeds. Timesteps and noise draws are never resampled: their number is chosen at will, and an
interval over them would shrink with computing time while the photos stay as few as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its confidence interval, in the unit of the values.

    ``low`` and ``high`` are both ``None`` when there was a single unit: one photo or one seed says nothing about the
    next, so no interval can be given, and nothing may be concluded from the mean.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; never without an interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies in ``[-margin, margin]``; never without an interval."""
        return self.low is not None and self.high is not None and self.low >= -margin and self.high <= margin

    def negated(self) -> Interval:
        """The interval of the opposite difference."""
        return Interval(-self.mean, None if self.high is None else -self.high, None if self.low is None else -self.low)

    def as_json(self) -> dict[str, float | None]:
        """As in ``scores.json``: ``{"mean", "low", "high"}``, the ends ``null`` when there is no interval."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error and the degrees of freedom (0: a single unit, the error is unknown)."""

    mean: float
    standard_error: float
    degrees: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """``mean ± t · standard_error``, two-sided."""
        if self.degrees < 1:
            return Interval(self.mean, None, None)
        half = student_t_quantile(confidence, self.degrees) * self.standard_error
        return Interval(self.mean, self.mean - half, self.mean + half)

    @property
    def p_value(self) -> float:
        """Two-sided p of "the mean is 0", in [0, 1]; 1 when there was a single unit."""
        if self.degrees < 1 or self.mean == 0:
            return 1.0
        if self.standard_error == 0:
            return 0.0
        return max(0.0, 1.0 - student_t_central(abs(self.mean) / self.standard_error, self.degrees))

    def minus(self, other: Estimate) -> Estimate:
        """The difference of two independent means; Welch's degrees of freedom, rounded down."""
        mean = self.mean - other.mean
        ours, theirs = self.standard_error**2, other.standard_error**2
        if min(self.degrees, other.degrees) < 1:
            return Estimate(mean, 0.0, 0)
        spread = ours**2 / self.degrees + theirs**2 / other.degrees
        degrees = int((ours + theirs) ** 2 / spread) if spread > 0 else min(self.degrees, other.degrees)
        return Estimate(mean, math.sqrt(ours + theirs), max(1, degrees))


def mean_estimate(values: ArrayLike) -> Estimate:
    """Mean of independent values, shape ``(N,)``: one for each photo, or one for each seed.

    Raises:
        ValueError: If nothing is given or a value is not finite.
    """
    array = _finite(values, 1)
    count = len(array)
    if count < 2:
        return Estimate(float(array.mean()), 0.0, 0)
    error = _unless_constant(float(array.std(ddof=1)), array) / math.sqrt(count)
    return Estimate(float(array.mean()), error, count - 1)


def two_way_estimate(grid: ArrayLike) -> Estimate:
    """Mean of a grid ``(F, C)``, rows and columns both drawn at random: folds of photos, and seeds.

    The variance of cluster resampling by rows and by columns, less what both count (Cameron, Gelbach & Miller 2011,
    doi:10.1198/jbes.2010.07136, Eq. 2.13). What columns add is never taken to be less than nothing. Degrees of
    freedom: those of the rows.

    Raises:
        ValueError: If the grid is empty, not two-dimensional, or not finite.
    """
    array = _finite(grid, 2)
    rows, columns = array.shape
    of_rows = mean_estimate(array.mean(axis=1))
    if rows < 2 or columns < 2:
        return of_rows
    of_columns, of_cells = mean_estimate(array.mean(axis=0)), mean_estimate(array.ravel())
    more = max(0.0, of_columns.standard_error**2 - of_cells.standard_error**2)
    return Estimate(of_rows.mean, math.sqrt(of_rows.standard_error**2 + more), rows - 1)


def student_t_central(t: float, degrees: int) -> float:
    """``P(|T| <= t)`` for whole degrees of freedom: Abramowitz & Stegun 1964, Eqs. 26.7.3 and 26.7.4."""
    return _central_of_angle(math.atan(t / math.sqrt(degrees)), degrees)


@lru_cache(maxsize=256)
def student_t_quantile(confidence: float, degrees: int) -> float:
    """The ``t`` with ``P(|T| <= t) = confidence``, by bisection; 12.71, 4.30, 3.18 at 95 % for 1, 2, 3 degrees.

    Raises:
        ValueError: If ``confidence`` is not between 0 and 1, or ``degrees`` below 1.
    """
    if not 0 < confidence < 1 or degrees < 1:
        raise ValueError(f"no quantile for confidence {confidence} with {degrees} degrees of freedom")
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_of_angle(middle, degrees) < confidence else (low, middle)
    return math.tan(low) * math.sqrt(degrees)


def _central_of_angle(angle: float, degrees: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _unless_constant(spread: float, values: Floats) -> float:
    """0 for equal values, whose spread is rounding alone."""
    return 0.0 if np.ptp(values) == 0 else spread


def _finite(values: ArrayLike, dimensions: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected a non-empty array of {dimensions} dimension(s), got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite")
    return array
