"""How a training's bad steps are counted: whom they are blamed on, when that is forgotten, and when it is enough."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portrayal.errors import TrainingDivergedError
from portrayal.training.health import (
    BLAMED,
    MOST_LOWERED,
    PATIENCE,
    PATIENCE_FP16,
    Adaptation,
    Health,
    StreakError,
)


def taken(steps: Sequence[dict[str, bool]], fp16: bool = False) -> tuple[Health, str]:
    """Health after steps, each skipped if a picture's loss was not finite; and whom the error blames, if one came."""
    health = Health()
    for number, pictures in enumerate(steps):
        try:
            health.note(number, pictures, skipped=not all(pictures.values()), fp16=fp16)
        except TrainingDivergedError as error:
            return health, error.cause
    return health, ""


FINE, BAD = {"ann": True, "bea": True}, {"ann": False, "bea": True}


@pytest.mark.parametrize(
    ("steps", "blamed"),
    [
        ([BAD, BAD, BAD], True),
        ([BAD, FINE, BAD, FINE, BAD, FINE, BAD], False),
        ([BAD, BAD, FINE, BAD, BAD, FINE, BAD, BAD], False),
        ([BAD, BAD, FINE, BAD, BAD, BAD], True),
        ([BAD, {"bea": True}, BAD, {"bea": True}, BAD], True),  # it did not occur in between
        ([BAD, {"cid": False}, {"cid": True}, BAD, {"cid": False}], False),
    ],
)
def test_a_picture_is_to_blame_when_it_was_bad_the_last_three_times_and_others_were_not(
    steps: list[dict[str, bool]], blamed: bool
) -> None:
    _, cause = taken(steps)
    assert bool(cause) is blamed
    if blamed:
        assert "ann" in cause
        assert "bea" not in cause
        assert f"the last {BLAMED} times" in cause


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_blame_is_of_the_last_times_in_a_row_and_of_nothing_before(seen: list[tuple[str, bool]]) -> None:
    """One picture a step, beside one that is always fine: whoever was bad three times running stops the training."""
    _, cause = taken([{name: fine, "fine": True} for name, fine in seen])
    streaks, guilty = dict.fromkeys("abc", 0), ""
    in_a_row = 0
    for name, fine in seen:
        streaks[name] = 0 if fine else streaks[name] + 1
        in_a_row = 0 if fine else in_a_row + 1
        if in_a_row > PATIENCE:
            guilty = guilty or "streak"
        if streaks[name] == 3:
            guilty = guilty or f"The loss of {name} "
    if not guilty:
        assert cause == ""
    else:
        assert ("in a row" in cause) if guilty == "streak" else cause.startswith(guilty)


@pytest.mark.parametrize(("fp16", "borne"), [(False, 5), (True, 20)])
def test_so_many_bad_steps_in_a_row_are_borne_and_one_more_is_not(fp16: bool, borne: int) -> None:
    assert borne == (PATIENCE_FP16 if fp16 else PATIENCE)
    everybody = {"ann": False, "bea": False}
    health, cause = taken([everybody] * borne, fp16)
    assert (cause, health.skipped, health.in_a_row) == ("", borne, borne)
    with pytest.raises(StreakError, match=f"{borne + 1} steps in a row"):
        health.note(borne, everybody, skipped=True, fp16=fp16)
    health, cause = taken([*[everybody] * borne, FINE, *[everybody] * borne], fp16)
    assert (cause, health.skipped, health.in_a_row) == ("", 2 * borne, borne)


def test_nobody_is_to_blame_where_all_are_bad() -> None:
    """Then it is the weights, or the rate."""
    _, cause = taken([{"ann": False}] * 6)
    assert "6 steps in a row" in cause
    assert "ann" not in cause


def test_a_rate_is_lowered_so_often_and_by_so_much() -> None:
    adapted = Adaptation()
    for time in range(MOST_LOWERED):
        following = adapted.slower(10 - time)
        assert following is not None
        adapted = following
    assert adapted.slower(3) is None
    assert adapted.lowered == (9, 9)  # it went back before the first
    assert [adapted.rate_at(step) for step in (8, 9)] == [1.0, 0.25**2]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"parts": 2}', '{"parts": "many", "checkpointing": 1, "lowered": []}']
)
def test_what_a_training_had_come_to_is_read_or_come_to_again(tmp_path, damage: str) -> None:
    assert Adaptation.read(tmp_path) == Adaptation()
    adapted = Adaptation(4, True, (3, 7))
    adapted.write(tmp_path)
    assert Adaptation.read(tmp_path) == adapted
    (tmp_path / "adapted.json").write_text(damage)
    assert Adaptation.read(tmp_path) == Adaptation()


def test_passes_are_halved_until_they_hold_one_picture_and_then_activations_are_dropped() -> None:
    adapted: Adaptation | None = Adaptation()
    seen = []
    while adapted is not None:
        seen.append((adapted.parts, adapted.checkpointing))
        adapted = adapted.smaller(6, checkpoints=False)
    assert seen == [(1, False), (2, False), (4, False), (6, False), (6, True)]
    assert Adaptation(6).smaller(6, checkpoints=True) is None
