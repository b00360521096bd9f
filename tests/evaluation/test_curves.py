"""Where a training is best and from where it learns by heart, worked out on paper.

Three photos leave two degrees of freedom, for which Student's t has a closed form: p = 1 - t / √(2 + t²), two-sided.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from portrayal.evaluation.curves import Curve, draw_curve

STEPS = (100, 200, 300, 400)


def curve(
    ratios: Any, identity: Any = None, *, alpha: float = 0.05, loss: float = 0.001, likeness: float = 0.02
) -> Curve:
    found = None if identity is None else np.array(identity)
    return draw_curve(STEPS, np.array(ratios), found, loss_margin=loss, identity_margin=likeness, alpha=alpha)


def photos(means: tuple[float, float, float, float], spread: float) -> np.ndarray:
    """Three photos around given means; in the last reading they differ by `spread`, before that not at all."""
    return np.array(means) + np.outer([-1, 0, 1], [0, 0, 0, spread])


def test_the_curve_begins_at_the_untouched_base() -> None:
    found = curve([[-0.02, -0.06, -0.04, -0.01], [-0.04, -0.04, -0.02, -0.03]])
    assert found.steps == (0, *STEPS)
    assert [one.mean for one in found.loss] == pytest.approx([0, -0.03, -0.05, -0.03, -0.02])
    assert (found.loss[0].low, found.loss[0].high) == (0, 0)
    assert found.loss[1].high == pytest.approx(-0.03 + 12.7062 * 0.01, rel=1e-4)
    assert found.lowest_loss_step == found.best_step == 200


@pytest.mark.parametrize(("loss", "lowest"), [((0.01, 0.02, 0.03, 0.04), 0), ((-0.01, -0.02, -0.03, -0.04), 400)])
def test_the_lowest_may_be_the_base_or_the_last(loss: tuple[float, ...], lowest: int) -> None:
    found = curve([loss, loss])
    assert found.lowest_loss_step == lowest
    assert found.best_step == (100 if lowest == 0 else 400)  # a model that is used has been trained


def test_the_best_step_is_the_last_unless_an_earlier_one_is_surely_better() -> None:
    rising = [[0.30, 0.47, 0.485, 0.50], [0.30, 0.47, 0.485, 0.50]]
    found = curve(np.zeros((3, 4)), rising)
    assert found.best_step == 400
    assert found.identity[0] is None
    assert [one.mean for one in found.identity if one is not None] == pytest.approx([0.30, 0.47, 0.485, 0.50])
    falling = [[0.30, 0.50, 0.45, 0.20]] * 2
    assert curve(np.zeros((3, 4)), falling).best_step == 200
    assert curve(np.zeros((3, 4)), [[0.519, 0.519, 0.519, 0.50]] * 3).best_step == 400  # too little to matter
    assert curve(np.zeros((3, 4)), [[0.55, 0.50, 0.50, 0.50]]).best_step == 400  # one unit shows nothing


@pytest.mark.parametrize(("t", "step"), [(6.2, 400), (6.25, 300)])
def test_an_earlier_step_is_surely_better_on_one_side_for_all_readings(t: float, step: int) -> None:
    """As below: at 5 % over 4 readings, t has to be above 6.2 for three units."""
    spread = 0.1 * math.sqrt(3) / t
    lead = [[0.3, 0.3, 0.6 + off * spread, 0.5] for off in (-1, 0, 1)]
    assert curve(np.zeros((3, 4)), lead).best_step == step


@pytest.mark.parametrize(("t", "onset"), [(3.0, None), (6.2, None), (6.25, 400), (8.0, 400)])
def test_learning_by_heart_is_a_rise_that_is_sure_on_one_side_for_all_readings(t: float, onset: int | None) -> None:
    """On one side p is (1 - t / √(2 + t²)) / 2: 0.01255 at 6.2 and 0.01237 at 6.25, and 0.05 / 4 readings lies between.

    For one reading alone 2.92 would do; on both sides it would take 8.86.
    """
    assert ((1 - t / math.sqrt(2 + t**2)) / 2 < 0.05 / 4) == (onset is not None)
    found = curve(photos((0.0, -0.05, -0.05, -0.02), 0.03 * math.sqrt(3) / t))
    assert found.overfitting_from == onset
    assert found.lowest_loss_step == 200


def test_a_rise_that_is_too_small_to_matter_is_none() -> None:
    assert curve(photos((0.0, -0.05, -0.05, -0.0492), 1e-6)).overfitting_from is None
    assert curve(photos((0.0, -0.05, -0.05, -0.0488), 1e-6)).overfitting_from == 400


def test_it_begins_where_the_loss_rises_for_good() -> None:
    """It rises at 200 and comes back at 300: only what lasts to the end counts."""
    assert curve(photos((-0.05, 0.02, -0.05, 0.03), 1e-6)).overfitting_from == 400
    assert curve(photos((-0.05, 0.02, 0.01, 0.03), 1e-6)).overfitting_from == 200
    assert curve(photos((-0.01, -0.02, -0.03, -0.05), 1e-6)).overfitting_from is None


def test_a_curve_is_read_as_it_was_written() -> None:
    found = curve(photos((-0.05, 0.02, 0.01, 0.03), 0.001), [[0.3, 0.4, 0.5, 0.5], [0.3, 0.4, 0.5, 0.6]])
    again = Curve.from_json(found.as_json())
    assert again == found
    assert again.identity[0] is None


@pytest.mark.parametrize(
    ("ratios", "identity"),
    [
        (np.zeros((3, 3)), None),
        (np.full((3, 4), np.nan), None),
        (np.zeros((3, 4)), np.zeros((2, 3))),
        (np.zeros((3, 4)), np.full((2, 4), np.inf)),
    ],
)
def test_readings_that_do_not_fit_are_refused(ratios: np.ndarray, identity: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="readings"):
        curve(ratios, identity)
