"""A cut LoRA is offered where it is shown to be no worse, never because nothing could be shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from portrayal.evaluation.comparisons import Margins, ModelEvidence, Training
from portrayal.evaluation.cuts import Cut, cut_ranks, judge_cuts, sentence_of, smallest
from portrayal.evaluation.intervals import Interval

MARGINS = Margins()
STEADY = (-0.01, -0.002, -0.006, 0.002)
"""Of mean -0.004 and standard deviation sqrt(80e-6 / 3)."""
T_3 = 3.182446
"""Student's t at 95 % with 3 degrees of freedom."""


def lora(rank: int, identity: Sequence[float] | None, *, fold: int = 0, **gates: Sequence[float]) -> ModelEvidence:
    """A LoRA of one training: of each seed its likeness over 0.7, and what it adds to the gates."""
    count = len(identity or STEADY)
    means = {"prompt": 0.3, "drift": 0.2, "colour": 1.0}
    grids = {name: np.array([gates.get(name, (0.0,) * count)]) + mean for name, mean in means.items()}
    likeness = None if identity is None else np.array([identity]) + 0.7
    return ModelEvidence(f"lora-{rank}", "lora", rank, (Training(fold, 0, np.zeros((2, 2)), likeness, **grids),))


def judged(cut: ModelEvidence, uncut: ModelEvidence | None = None) -> Cut:
    (found,) = judge_cuts(uncut or lora(32, (0.0,) * 4), [cut], {16: 19.2}, MARGINS)
    return found


def test_a_cut_that_is_shown_to_be_no_worse_by_more_than_the_margin() -> None:
    half = T_3 * math.sqrt(80e-6 / 3 / 4)
    cut = judged(lora(16, STEADY, prompt=(0.001,) * 4))
    assert (cut.rank, cut.megabytes, cut.no_worse) == (16, 19.2, True)
    found = (cut.likeness.mean, cut.likeness.low, cut.likeness.high)
    assert found == pytest.approx((-0.004, -0.004 - half, -0.004 + half), abs=1e-6)
    assert cut.prompt == Interval(pytest.approx(0.001), pytest.approx(0.001), pytest.approx(0.001))
    assert smallest([cut]) is cut


def test_it_is_the_difference_cell_by_cell_that_counts() -> None:
    """What the seeds differ in among themselves is no reason to doubt."""
    seeds = (0.2, -0.1, 0.05, -0.3)
    uncut = lora(32, seeds)
    cut = judged(lora(16, [own + by for own, by in zip(seeds, STEADY, strict=True)]), uncut)
    assert cut.likeness.low == pytest.approx(judged(lora(16, STEADY)).likeness.low)


@pytest.mark.parametrize("by", [-0.03, -0.018])
def test_a_cut_that_is_worse_or_may_be_by_more_than_the_margin_is_not_offered(by: float) -> None:
    """The second is within the margin on average; the lower end of its interval is not."""
    cut = judged(lora(16, [by + 0.004 + one for one in STEADY]))
    assert cut.likeness.mean == pytest.approx(by)
    assert not cut.no_worse
    assert smallest([cut]) is None


def test_a_cut_that_is_much_better_is_no_worse() -> None:
    assert judged(lora(16, [0.3 + 5 * one for one in STEADY])).no_worse


@pytest.mark.parametrize("likeness", [(0.05, -0.05, 0.04, -0.04), (0.0,), (0.1,)])
def test_a_cut_that_cannot_be_told_apart_is_not_offered(likeness: tuple[float, ...]) -> None:
    """Too much varies, or a single seed says nothing of the next: nothing was shown."""
    cut = judged(lora(16, likeness), lora(32, (0.0,) * len(likeness)))
    assert not cut.no_worse
    assert smallest([cut]) is None


def test_the_end_of_the_interval_is_above_the_margin_not_on_it() -> None:
    assert not judge_cuts(lora(2, (0.0,) * 2), [lora(1, (-0.5,) * 2)], {1: 1.0}, replace(MARGINS, identity=0.5))[
        0
    ].no_worse
    assert judge_cuts(lora(2, (0.0,) * 2), [lora(1, (-0.5,) * 2)], {1: 1.0}, replace(MARGINS, identity=0.51))[
        0
    ].no_worse


@pytest.mark.parametrize(("gate", "by"), [("prompt", -0.01), ("drift", 0.1), ("colour", 4.0)])
def test_a_cut_that_surely_loses_a_gate_is_not_offered(gate: str, by: float) -> None:
    assert not judged(lora(16, STEADY, **{gate: (by,) * 4})).no_worse
    assert judged(lora(16, STEADY, **{gate: (by / 4,) * 4})).no_worse, "within the margin"
    assert judged(lora(16, STEADY, **{gate: (-by,) * 4})).no_worse, "better"
    assert judged(lora(16, STEADY, **{gate: (9 * by, -7 * by, by, by)})).no_worse, "not surely"


def test_nothing_is_offered_where_likeness_was_not_measured() -> None:
    for uncut, cut in ((None, None), ((0.0,) * 4, None), (None, STEADY)):
        assert judge_cuts(lora(32, uncut), [lora(16, cut)], {16: 1.0}, MARGINS) == ()
    assert smallest(()) is None


def test_a_gate_that_was_not_measured_is_not_judged() -> None:
    (training,) = lora(16, STEADY).trainings
    without = replace(lora(16, STEADY), trainings=(replace(training, prompt=None, drift=None, colour=None),))
    cut = judged(without)
    assert (cut.prompt, cut.no_worse) == (None, True)
    assert cut.as_json()["prompt"] is None


def test_cuts_are_compared_with_the_training_they_were_cut_from() -> None:
    with pytest.raises(ValueError, match="share no training"):
        judged(lora(16, STEADY, fold=1))


def test_all_trainings_count() -> None:
    """One fold of three is worse: with two degrees of freedom nothing is shown."""

    def whole(rank: int, *means: float) -> ModelEvidence:
        parts = [lora(rank, (mean,) * 4, fold=fold) for fold, mean in enumerate(means)]
        return replace(parts[0], trainings=tuple(one.trainings[0] for one in parts))

    uncut = whole(32, 0, 0, 0)
    assert judged(whole(16, 0, 0.001, -0.001), uncut).no_worse
    cut = judged(whole(16, 0, 0, -0.03), uncut)
    assert (cut.likeness.mean, cut.no_worse) == (pytest.approx(-0.01), False)


def row(rank: int, no_worse: bool) -> Cut:
    return Cut(rank, rank / 2, Interval(0.0, -0.01, 0.01), None, no_worse)


@pytest.mark.parametrize(
    ("shown", "offered"),
    [
        ((True, True, True), 4),
        ((True, True, False), 8),
        ((True, False, True), 16),
        ((False, True, True), None),
        ((False, False, False), None),
    ],
)
def test_a_larger_cut_that_fails_stops_it(shown: tuple[bool, ...], offered: int | None) -> None:
    cuts = [row(rank, one) for rank, one in zip((16, 8, 4), shown, strict=True)]
    for ordered in (cuts, cuts[::-1]):
        found = smallest(ordered)
        assert (found and found.rank) == offered


@pytest.mark.parametrize(
    ("rank", "cuts"), [(128, (64, 32, 16)), (8, (4, 2, 1)), (6, (3, 1)), (4, (2, 1)), (2, (1,)), (3, (1,)), (1, ())]
)
def test_the_ranks_of_cuts(rank: int, cuts: tuple[int, ...]) -> None:
    assert cut_ranks(rank) == cuts


def test_what_json_holds() -> None:
    assert Cut(16, 19.2, Interval(-0.004, -0.012, 0.003), Interval(0.0, None, None), True).as_json() == {
        "rank": 16,
        "megabytes": 19.2,
        "likeness": {"mean": -0.004, "low": -0.012, "high": 0.003},
        "prompt": {"mean": 0.0, "low": None, "high": None},
        "no_worse": True,
    }


def test_what_is_offered_is_said_with_its_size_what_it_costs_and_the_command() -> None:
    half = Cut(32, 75.4, Interval(-0.001, -0.004, 0.002), None, True)
    quarter = Cut(16, 19.24, Interval(-0.0041, -0.0123, 0.0031), None, True)
    worse = Cut(8, 9.6, Interval(-0.05, -0.06, -0.04), None, False)
    assert sentence_of([half, quarter, worse], 150.2) == (
        "The smallest file that is shown to be no worse: rank 16, 19.2 MB instead of 150; likeness −0.004 (−0.012 to "
        "+0.003). To write it: portrayal export RUN --to kohya --rank 16"
    )
    assert sentence_of([worse], 150.2) == "No smaller cut is shown to be no worse."
    small = sentence_of([Cut(1, 0.053, half.likeness, None, True)], 0.456)
    assert "rank 1, 0.053 MB instead of 0.46;" in small
