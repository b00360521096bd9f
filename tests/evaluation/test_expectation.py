"""What is expected of LoRAs, worked out on paper in margins.

Two LoRAs on the same folds differ by what their trainings say, drawn towards what was expected of them before: of two
ranks one margin for each doubling, with a variance of 0.5² (the line's) + 2 · 0.5² (each LoRA's own) = 0.75; of two
rates four margins, with 3² + 2 · 0.5² = 9.5. The luck of one training has the variance 2², so that of a difference has
8. What a fold does to both is in no difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portrayal.evaluation.comparisons import ModelEvidence, Training
from portrayal.evaluation.expectation import Expectation, contenders, expect, noise_variance, smallest_no_worse

MARGIN = 0.02


def lora(rank: int, means: Mapping[int, float], rate: float | None = None) -> ModelEvidence:
    """A LoRA with its likeness in margins, by fold; the held-out loss is the same number."""
    grids = {fold: np.full((1, 1), mean * MARGIN) for fold, mean in means.items()}
    trainings = tuple(Training(fold, 0, heldout_log_ratios=grid, identity=grid) for fold, grid in grids.items())
    return ModelEvidence(f"lora-{rank}" + (f"-lr{rate:g}" if rate else ""), "lora", rank, trainings, rate)


def lead(found: Expectation) -> tuple[float, float]:
    """How far the second is ahead of the first, in margins, and the variance of that."""
    (a, ab), (_, b) = found.covariance / MARGIN**2
    return float(found.mean[1] - found.mean[0]) / MARGIN, float(a + b - 2 * ab)


def drawn(measured: float, expected: float, prior: float, noise: float) -> tuple[float, float]:
    """The same on paper."""
    return expected + prior / (prior + noise) * (measured - expected), prior * noise / (prior + noise)


@pytest.mark.parametrize("measured", [-6.0, 0.0, 3.0])
def test_twice_the_rank_is_expected_to_add_a_margin_and_one_training_says_little(measured: float) -> None:
    found = expect([lora(16, {0: 50}), lora(32, {0: 50 + measured})], "identity", MARGIN)
    assert lead(found) == pytest.approx(drawn(measured, 1, 0.75, 8), abs=1e-3)


@pytest.mark.parametrize("measured", [-6.0, 0.0, 3.0])
def test_twice_the_rate_is_expected_to_add_four_and_trainings_say_more_of_it(measured: float) -> None:
    found = expect([lora(16, {0: 50}, 1e-4), lora(16, {0: 50 + measured}, 2e-4)], "identity", MARGIN)
    assert lead(found) == pytest.approx(drawn(measured, 4, 9.5, 8), abs=1e-3)


def test_the_luck_of_trainings_is_learned_from_how_far_folds_differ() -> None:
    """Leads of 5, 1 and -3 have a variance of 16: residuals of 16, beside the prior's four degrees of 4."""
    leads = (5, 1, -3)
    found = expect(
        [lora(16, dict.fromkeys(range(3), 50.0)), lora(32, {fold: 50.0 + one for fold, one in enumerate(leads)})],
        "identity",
        MARGIN,
    )
    luck = (4 * 4 + 16) / (4 + 2)
    assert lead(found) == pytest.approx(drawn(1, 1, 0.75, 2 * luck / 3), abs=1e-3)
    places, splits = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2] * 2)
    assert noise_variance(np.array([0, 0, 0, *leads], float), places, splits) == pytest.approx(luck)


def test_a_fold_on_which_all_are_more_alike_is_no_merit() -> None:
    """One went on to an easy fold: that says nothing of how the two differ."""
    other = lora(16, {0: 50})
    once, again = expect([other, lora(32, {0: 47})], "identity", MARGIN), lora(32, {0: 47, 1: 70})
    assert lead(expect([other, again], "identity", MARGIN)) == pytest.approx(lead(once), abs=0.01)
    assert contenders([other, again], "identity", MARGIN) == [other, again]


def test_less_loss_is_better() -> None:
    better, worse, bad = lora(16, {0: -3}), lora(32, {0: 3}), lora(64, {0: 9})
    found = expect([better, worse, bad], "heldout_loss", MARGIN)
    assert found.names == (better.name, worse.name)
    assert lead(found) == pytest.approx(drawn(-6, 1, 0.75, 8), abs=1e-3)
    assert expect([better, worse], "identity", MARGIN).ranking == [worse.name, better.name]


@pytest.mark.parametrize(("behind", "kept"), [(8.4, 2), (8.6, 1)])
def test_what_is_clearly_behind_says_nothing(behind: float, kept: int) -> None:
    """Three deviations of a difference of two trainings: 3 · √2 · 2 = 8.49 margins."""
    models = [lora(16, {0: 50 - behind}), lora(32, {0: 50})]
    assert contenders(models, "identity", MARGIN) == models[-kept:]
    assert expect(models, "identity", MARGIN).names == tuple(one.name for one in models[-kept:])


def test_the_chance_to_be_best_of_two_is_that_of_a_lead_above_nought() -> None:
    found = expect([lora(16, {0: 50}), lora(32, {0: 53})], "identity", MARGIN)
    mean, variance = drawn(3, 1, 0.75, 8)
    above = 0.5 * (1 + math.erf(mean / math.sqrt(2 * variance)))
    assert found.chances() == pytest.approx({"lora-16": 1 - above, "lora-32": above}, abs=0.02)
    assert found.best == "lora-32"
    no_worse = 0.5 * (1 + math.erf((1 - mean) / math.sqrt(2 * variance)))
    assert found.chance_of_no_worse("lora-16", "lora-32", MARGIN) == pytest.approx(no_worse, abs=1e-3)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=9), st.integers(1, 3))
def test_chances_are_those_of_all_that_are_not_behind_and_add_up(leads: list[int], folds: int) -> None:
    models = [lora(2**place, dict.fromkeys(range(folds), 50.0 + one)) for place, one in enumerate(leads)]
    found = expect(models, "identity", MARGIN)
    assert sum(found.chances().values()) == pytest.approx(1)
    assert [*found.chances()] == [*found.names] == [one.name for one in contenders(models, "identity", MARGIN)]
    assert found.ranking[0] == found.best


def known(models: list[ModelEvidence], means: list[float]) -> tuple[Expectation, dict[str, ModelEvidence]]:
    """LoRAs of which everything is known, with means in margins."""
    names = tuple(one.name for one in models)
    covariance = 1e-12 * np.eye(len(models))
    return Expectation(names, np.array(means) * MARGIN, covariance), {one.name: one for one in models}


def test_of_those_that_are_no_worse_the_smallest_is_taken_and_of_these_the_gentlest() -> None:
    ranks = [lora(rank, {0: 0}) for rank in (64, 8, 32, 16)]
    assert smallest_no_worse(*known(ranks, [2.0, 0.9, 1.5, 1.1]), MARGIN, 0.95).rank == 16
    assert smallest_no_worse(*known(ranks, [2.0, 1.1, 1.5, 1.2]), MARGIN, 0.95).rank == 8
    assert smallest_no_worse(*known(ranks, [2.0, 0.0, 0.5, 0.9]), MARGIN, 0.95).rank == 64
    rates = [lora(8, {0: 0}, rate) for rate in (4e-4, 1e-4, 2e-4)]
    assert smallest_no_worse(*known(rates, [2.0, 0.9, 1.5]), MARGIN, 0.95).learning_rate == 2e-4
    assert smallest_no_worse(*known(rates, [2.0, 1.1, 1.5]), MARGIN, 0.95).learning_rate == 1e-4


def test_what_two_loras_have_in_common_is_no_doubt_about_their_difference() -> None:
    found = Expectation(("a", "b"), np.array([0.0, 0.0]), np.array([[1.0, 0.9], [0.9, 1.0]]))
    assert found.chance_of_no_worse("a", "b", math.sqrt(0.2)) == pytest.approx(0.841345, abs=1e-5)


def test_what_has_no_rank_or_was_not_measured_is_refused() -> None:
    unmeasured = ModelEvidence("lora-8", "lora", 8, (Training(0, 0, np.zeros((1, 1))),))
    unet = ModelEvidence("unet", "unet", None, lora(8, {0: 0}).trainings)
    for models in ([], [unmeasured], [unet]):
        with pytest.raises(ValueError, match="measured in identity"):
            expect(models, "identity", MARGIN)
