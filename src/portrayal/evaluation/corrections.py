"""Several tests at once: the level of each, so that a false rejection among all of them stays as rare as one alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


def at_most_true(pairs: int, all_of: int = 0) -> list[int]:
    """How many of the pairs can still be without a difference once 0, 1, 2 … of them were shown to have one.

    Shaffer 1986, doi:10.1080/01621459.1986.10478341, Table 1, where these are all pairs of `all_of` models: if
    one of three differs from another, only one pair can be equal. Otherwise as many as are left.
    """
    if all_of * (all_of - 1) // 2 != pairs:
        return list(range(pairs, 0, -1))
    possible = _equal_pairs(all_of)
    return [max(count for count in possible if count <= pairs - shown) or 1 for shown in range(pairs)]


@lru_cache(maxsize=64)
def _equal_pairs(models: int) -> frozenset[int]:
    """Numbers of pairs of so many models that can be equal: those of every way to part them into equal groups."""
    if models < 2:
        return frozenset({0})
    sizes = range(1, models + 1)
    return frozenset(size * (size - 1) // 2 + rest for size in sizes for rest in _equal_pairs(models - size))


def step_down_levels(p_values: Sequence[float], at_most: Sequence[int], alpha: float) -> list[float]:
    """Significance level at which each test is made by step-down, so that an interval can be drawn at it.

    The smallest p is tested at ``alpha`` over how many can be true, and so on; from the first that fails on, the level
    stays. An interval at ``1 - level`` excludes 0 exactly when the test rejects.

    Args:
        p_values: Of each test.
        at_most: How many can be true once 0, 1, 2 … were rejected; Holm's are ``m, m - 1 … 1``.
        alpha: Chance of any false rejection.
    """
    levels = [alpha] * len(p_values)
    level, rejecting = alpha, True
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if rejecting:
            level = alpha / at_most[step]
            rejecting = p_values[index] < level
        levels[index] = level
    return levels
