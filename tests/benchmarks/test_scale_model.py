"""The simulation against what can be reckoned by hand."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale_model import DAY, Assumed, Measured, arrival_times, at_scale, makespan, simulate

MEASURED = Measured(138.4, 180, 1719.0, 89.3, 4.3)


def by_hand(seconds: Sequence[float], workers: int) -> float:
    """Each study is begun where it can be begun first."""
    free = [0.0] * workers
    for length in seconds:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20), st.integers(1, 4))
def test_a_batch_takes_what_it_takes_by_hand(seconds: list[float], workers: int) -> None:
    assert makespan(seconds, workers) == pytest.approx(by_hand(seconds, workers))


def test_subjects_come_mostly_at_noon() -> None:
    times = arrival_times(20_000, 2.0, random.Random(0))
    assert times == sorted(times)
    at_noon = sum(abs(at - DAY / 2) < DAY / 24 for at in times) / len(times)
    assert at_noon == pytest.approx(2 / 12, rel=0.05)
    assert sum(at < DAY / 24 for at in times) / len(times) < 0.01


def test_enough_cards_never_keep_anybody_waiting_and_too_few_do() -> None:
    quiet = Assumed(busiest=1.0, days_between_failures=1e9)
    assert simulate(500, 500, MEASURED, quiet, 0)["waits"] == [0, 0]
    busy = simulate(2000, 2, MEASURED, quiet, 0)["waits"]
    late = 2000 * MEASURED.seconds / 2 - DAY  # the last of them waits for what could not be done within the day
    assert busy[1] == pytest.approx(0.95 * late, rel=0.1)


def test_a_queue_is_as_long_as_erlang_says() -> None:
    """M/D/c for one card, Pollaczek and Khinchine: the mean wait is load / (2 (1 - load)) of a study."""
    plain = Assumed(busiest=1.0, spread=1e-9, days_between_failures=1e9)
    load = 0.5
    subjects = int(load * DAY / MEASURED.seconds)
    waits = [simulate(subjects, 1, MEASURED, plain, seed)["waits"][1] for seed in range(40)]
    assert 0.5 * MEASURED.seconds < sum(waits) / len(waits) < 2.5 * MEASURED.seconds


def test_machines_that_fail_begin_studies_again() -> None:
    failing = Assumed(days_between_failures=0.01)
    assert simulate(500, 10, MEASURED, failing, 0)["again"] > 50
    assert simulate(500, 10, MEASURED, Assumed(days_between_failures=1e9), 0)["again"] == 0


def test_a_row_adds_up() -> None:
    row = at_scale(1000, MEASURED, Assumed(), 1)
    assert row["cards"] >= row["cards if never idle"] == math.ceil(1000 * 138.4 / DAY)
    assert row["wait, 19 of 20 (s)"] <= Assumed().patience
    assert row["cost of a subject ($)"] == pytest.approx(row["cards"] * 24 * 2.5 / 1000)
    assert row["kept, with UNet (TB a day)"] == pytest.approx(1000 * (89.3 + 180 * 0.45 + 4.3 + 1719) / 1e6, abs=1e-3)
