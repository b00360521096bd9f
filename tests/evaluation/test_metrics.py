from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from portrayal.evaluation import intervals, metrics
from portrayal.evaluation.colour import lightness_map

finite = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))
embeddings = arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=finite).filter(
    lambda rows: bool((np.abs(rows).max(axis=1) > 0).all())
)
edge_maps = arrays(np.bool_, (12, 9))


@given(embeddings, embeddings, st.floats(1e-6, 1e6))
def test_cosines_stay_in_range_and_ignore_scale(a: np.ndarray, b: np.ndarray, scale: float) -> None:
    cosines = metrics.cosine_matrix(a, b)
    assert cosines.shape == (len(a), len(b))
    assert np.abs(cosines).max() <= 1
    assert np.allclose(cosines, metrics.cosine_matrix(scale * a, b))
    assert np.allclose(cosines, metrics.cosine_matrix(b, a).T)
    assert np.allclose(np.diag(metrics.cosine_matrix(a, a)), 1)


def test_cosine_survives_embeddings_whose_squares_vanish_or_overflow() -> None:
    cosines = metrics.cosine_matrix([[1e-300, 1e-300], [1e300, 0]], [[1.0, 0.0]])
    assert cosines[:, 0] == pytest.approx([0.5**0.5, 1])


def test_fidelities_are_means_per_picture() -> None:
    references = [[1.0, 0.0], [0.0, 2.0]]
    assert metrics.subject_fidelity([[3.0, 0.0], [-1.0, 0.0]], references) == pytest.approx([0.5, -0.5])
    assert metrics.real_fidelity(references, [[1.0, 0.0]]) == pytest.approx([1, 0])
    assert metrics.prompt_fidelity([[1.0, 0.0], [0.0, 1.0]], [[5.0, 0.0], [1.0, 0.0]]) == pytest.approx([1, 0])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 3)), np.ones((2, 4))),
        (np.empty((0, 3)), np.ones((2, 3))),
        (np.full((1, 3), np.nan), np.ones((1, 3))),
        (np.ones(3), np.ones((1, 3))),
    ],
)
def test_embeddings_without_a_direction_are_refused(a: np.ndarray, b: np.ndarray) -> None:
    for score in (metrics.cosine_matrix, metrics.subject_fidelity, metrics.prompt_fidelity):
        with pytest.raises(ValueError, match=r"embedding|one text per picture"):
            score(a, b)


def test_an_image_that_shows_nothing_has_a_cosine_of_zero() -> None:
    images, photos = [[0.0, 0.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]
    assert metrics.cosine_matrix(images, photos) == pytest.approx(np.array([[0, 0], [0.6, 0.8]]))
    assert metrics.subject_fidelity(images, photos) == pytest.approx([0, 0.7])
    assert metrics.prompt_fidelity(images, photos) == pytest.approx([0, 0.8])


def test_prompt_fidelity_wants_a_text_for_every_picture() -> None:
    with pytest.raises(ValueError, match="one text per picture"):
        metrics.prompt_fidelity(np.ones((2, 3)), np.ones((1, 3)))


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_normalised_is_zero_at_a_stranger_and_one_at_the_person(stranger: float, real: float) -> None:
    if real <= stranger:
        assert metrics.normalised(0.5, stranger, real) is None
    else:
        assert metrics.normalised(stranger, stranger, real) == 0
        assert metrics.normalised(real, stranger, real) == 1


def test_normalised_of_what_cannot_be_placed() -> None:
    assert metrics.normalised(0.71, 0.30, 0.85) == pytest.approx(0.745, abs=1e-3)
    assert metrics.normalised(math.nan, 0.30, 0.85) is None
    assert metrics.normalised(0.5, math.nan, 0.85) is None


@pytest.mark.parametrize(
    ("rgb", "lightness", "saturation", "clipped"),
    [
        ((255, 255, 255), 100.0, 0.0, 1.0),
        ((0, 0, 0), 0.0, 0.0, 1.0),
        ((119, 119, 119), 50.03, 0.0, 0.0),
        ((255, 0, 0), 53.24, 1.0, 0.0),  # a channel at 255, and nothing burnt out
    ],
)
def test_colour_of_plain_pictures(rgb: tuple[int, ...], lightness: float, saturation: float, clipped: float) -> None:
    colour = metrics.colour_statistics(np.full((8, 6, 3), rgb, dtype=np.uint8))
    assert colour.lightness == pytest.approx(lightness, abs=0.05)
    assert colour.saturation == pytest.approx(saturation, abs=1e-6)
    assert colour.contrast == pytest.approx(0, abs=1e-4)
    assert colour.clipped == clipped
    assert colour.as_json()["lightness"] == colour.lightness


def test_lightness_of_every_grey_rises_from_black_to_white() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    lightness = lightness_map(greys)[0]
    assert (np.diff(lightness) > 0).all()
    assert (lightness[0], lightness[-1]) == (pytest.approx(0, abs=1e-9), pytest.approx(100))


def test_contrast_of_half_black_half_white() -> None:
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[:2] = 255
    assert metrics.colour_statistics(picture).contrast == pytest.approx(50, abs=0.01)


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_colour_refuses_what_is_not_a_picture(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 RGB picture"):
        metrics.colour_statistics(picture)


@given(edge_maps, edge_maps)
def test_edge_f1_is_symmetric_and_in_range(a: np.ndarray, b: np.ndarray) -> None:
    assert 0 <= metrics.edge_f1(a, b) <= 1
    assert metrics.edge_f1(a, b) == pytest.approx(metrics.edge_f1(b, a))
    assert metrics.edge_f1(a, a) == 1


def test_edge_f1_against_an_empty_map() -> None:
    empty, drawn = np.zeros((9, 9), np.uint8), np.eye(9, dtype=np.uint8) * 255
    assert metrics.edge_f1(empty, empty) == 1
    assert metrics.edge_f1(empty, drawn) == metrics.edge_f1(drawn, empty) == 0


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_edges_agree_within_two_pixels(shift: int, expected: float) -> None:
    line = np.zeros((32, 32), np.uint8)
    line[:, 10] = 255
    assert metrics.edge_f1(np.roll(line, shift, axis=1), line) == expected


def test_half_of_the_control_drawn_is_full_precision_and_half_recall() -> None:
    control = np.zeros((40, 40), np.uint8)
    control[:, [5, 30]] = 1
    result = control.copy()
    result[:, 30] = 0
    assert metrics.edge_f1(result, control) == pytest.approx(2 / 3)


def test_edge_f1_of_real_canny_edges_survives_a_small_blur() -> None:
    picture = np.zeros((64, 64), np.uint8)
    cv2.circle(picture, (32, 32), 20, 255, -1)
    sharp, soft = (cv2.Canny(p, 50, 150) for p in (picture, cv2.GaussianBlur(picture, (5, 5), 0)))
    assert metrics.edge_f1(soft, sharp) > 0.95


def test_edge_f1_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match="equal maps"):
        metrics.edge_f1(np.ones((3, 3)), np.ones((3, 4)))


def test_log_ratio_averages_the_noise_before_the_logarithm() -> None:
    base = np.full((2, 3, 2), 0.2)
    model = base * np.array([0.5, 1.3])
    assert metrics.log_ratio(model, base) == pytest.approx(np.full((2, 3), math.log(0.9)))
    for bad in (np.zeros((2, 3, 2)), np.full((2, 3, 2), np.inf), np.ones((2, 3))):
        with pytest.raises(ValueError, match=r"loss|shapes"):
            metrics.log_ratio(bad, base)


def test_heldout_gain_is_the_share_of_the_loss_that_went() -> None:
    gain = metrics.heldout_gain(metrics.Interval(-0.015, -0.03, 0.01))
    assert gain.mean == pytest.approx(1 - math.exp(-0.015))
    assert (gain.low, gain.high) == (pytest.approx(1 - math.exp(0.01)), pytest.approx(1 - math.exp(-0.03)))
    assert metrics.heldout_gain(metrics.Interval(0.0, None, None)).low is None


def test_copying_is_none_where_training_and_unseen_photos_are_alike() -> None:
    rng = np.random.default_rng(0)
    training, heldout = rng.normal(size=(12, 64)), rng.normal(size=(5, 64))
    honest = metrics.copying(rng.normal(size=(300, 64)), training, heldout)
    assert abs(honest.mean()) < 3 * honest.std() / 300**0.5, "more training photos alone make no copy"
    assert (metrics.copying(training, training, heldout) > 0.1).all()
    assert metrics.copying(heldout, training, heldout).mean() < -0.3


def test_diversity_is_nought_for_equal_pictures_and_nothing_for_one() -> None:
    assert metrics.diversity([[1.0, 2.0], [2.0, 4.0]]) == pytest.approx(0)
    assert metrics.diversity(np.eye(3)) == pytest.approx(1)
    assert metrics.diversity([[1.0, 0.0]]) is None


def test_two_way_errors_hold_what_rows_and_columns_share() -> None:
    rng = np.random.default_rng(1)
    rows, columns = rng.normal(0, 1, (400, 6, 1)), rng.normal(0, 1, (400, 1, 8))
    grids = rows + columns + rng.normal(0, 0.3, (400, 6, 8))
    found = [intervals.two_way_estimate(grid) for grid in grids]
    truth = np.std([one.mean for one in found])
    assert np.sqrt(np.mean([one.standard_error**2 for one in found])) == pytest.approx(truth, rel=0.15)
    assert {one.degrees for one in found} == {5}
    assert intervals.two_way_estimate([[1.0, 2.0]]).degrees == 0


# Two-sided 95 % quantiles as printed in any table of Student's t.
@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)]
)
def test_student_t(degrees: int, t: float) -> None:
    assert intervals.student_t_quantile(0.95, degrees) == pytest.approx(t, abs=6e-4)
    assert intervals.student_t_central(t, degrees) == pytest.approx(0.95, abs=1e-4)


def test_student_t_refuses_what_has_no_quantile() -> None:
    for confidence, degrees in ((0.0, 3), (1.0, 3), (0.95, 0)):
        with pytest.raises(ValueError, match="no quantile"):
            intervals.student_t_quantile(confidence, degrees)


@pytest.mark.parametrize("units", [3, 5, 12])
def test_intervals_cover_the_truth_even_with_three_units(units: int) -> None:
    # A percentile bootstrap fails this at three units: it covers about 75 %.
    rng = np.random.default_rng(units)
    found = [metrics.mean_estimate(rng.normal(1, 2, units)).interval() for _ in range(500)]
    missed = sum(
        interval.low is None or interval.high is None or not interval.low <= 1 <= interval.high for interval in found
    )
    assert missed / len(found) <= 0.08


def test_the_error_is_that_of_resampling_whole_units() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=6)
    drawn = rng.choice(values, (20_000, 6)).mean(axis=1).std() * math.sqrt(6 / 5)
    assert metrics.mean_estimate(values).standard_error == pytest.approx(drawn, rel=0.02)


def test_more_confidence_is_wider() -> None:
    estimate = metrics.mean_estimate([0.1, 0.5, 0.3, 0.9])
    first, wide = estimate.interval(), estimate.interval(0.99)
    assert first.low is not None
    assert wide.low is not None
    assert wide.low < first.low


def test_two_way_is_no_shorter_than_the_rows_alone() -> None:
    rng = np.random.default_rng(0)
    grid = rng.normal(size=(5, 1)) + rng.normal(size=(1, 5)) + 0.1 * rng.normal(size=(5, 5))
    both, rows = metrics.two_way_estimate(grid), metrics.mean_estimate(grid.mean(axis=1))
    assert both.mean == pytest.approx(grid.mean())
    assert both.standard_error > rows.standard_error


def test_a_single_unit_has_no_interval_and_proves_nothing() -> None:
    for estimate in (metrics.mean_estimate([0.7]), metrics.two_way_estimate([[0.6, 0.8]])):
        single = estimate.interval()
        assert single.as_json() == {"mean": pytest.approx(0.7), "low": None, "high": None}
        assert not single.excludes_zero
        assert not single.within(1)
        assert single.negated().low is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert metrics.mean_estimate([0.1] * 3).interval().excludes_zero
    assert metrics.two_way_estimate(np.full((3, 3), 0.1)).interval().within(0.1001)
    assert not metrics.mean_estimate([0.0] * 3).interval().excludes_zero


def test_difference_of_independent_means_is_welch() -> None:
    first, second = intervals.Estimate(3.0, 0.3, 4), intervals.Estimate(1.0, 0.4, 9)
    difference = first.minus(second)
    assert (difference.mean, difference.standard_error) == (2.0, pytest.approx(0.5))
    assert difference.degrees == int(0.25**2 / (0.09**2 / 4 + 0.16**2 / 9))
    assert first.minus(intervals.Estimate(1.0, 0.0, 0)).interval().low is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0]]])
def test_intervals_refuse_what_is_not_a_list_of_numbers(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected|finite"):
        metrics.mean_estimate(values)


def test_pck_counts_joints_within_a_tenth_of_the_figure() -> None:
    wanted = np.array([[0, 0, 1], [0, 1, 1], [0.5, 0.5, 1], [9, 9, 0]], float)
    assert metrics.pck(wanted, wanted) == 1
    assert metrics.pck(wanted + np.array([0.09, 0, 0]), wanted) == 1
    assert metrics.pck(wanted + np.array([0.11, 0, 0]), wanted) == 0
    hidden = wanted * [1, 1, 0]
    hidden[0, 2] = 1
    assert metrics.pck(hidden, wanted) == pytest.approx(1 / 3)


def test_pck_without_a_joint_to_look_for_is_refused() -> None:
    with pytest.raises(ValueError, match="a joint to look for"):
        metrics.pck(np.ones((17, 3)), np.zeros((17, 3)))
    with pytest.raises(ValueError, match="equal shapes"):
        metrics.pck(np.ones((16, 3)), np.ones((17, 3)))
