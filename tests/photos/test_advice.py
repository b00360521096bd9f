"""What measures mean: a verdict for each photo, strangers, the set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portrayal.photos.advice import advise, advise_set, findings_of, mark_finding, strangers
from portrayal.photos.look import Look
from portrayal.photos.read import Finding
from portrayal.photos.watermark import Mark

GOOD = Look(short_side=1024, blur=0.3, lightness=55, highlights=85, burnt=0.01, border=0, faces=1, face_share=0.3)


def kinds(look: Look, people: int | None = 1) -> list[str]:
    return [finding.kind for finding in findings_of("a.jpg", look, 512, people)]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"blur": 0.8}, "blurred"),
        ({"lightness": 10}, "dark"),
        ({"lightness": 25, "highlights": 20}, "dark"),
        ({"burnt": 0.6}, "burnt"),
        ({"border": 0.2}, "border"),
        ({"face_share": 0.03}, "small_face"),
        ({"short_side": 200, "blur": 0.9}, "tiny"),
    ],
)
def test_each_fault_has_its_finding_with_a_number(change: dict[str, float], kind: str) -> None:
    assert kinds(GOOD) == []
    found = findings_of("a.jpg", replace(GOOD, **change), 512, 1)
    assert [finding.kind for finding in found] == [kind]
    assert found[0].value == pytest.approx(next(iter(change.values())))
    assert ";" in found[0].message  # what is the matter; what to do


def test_several_people() -> None:
    assert kinds(GOOD, 3) == ["several_people"]
    assert kinds(GOOD, None) == []


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.integers(8, 30), st.integers(0, 2), st.floats(0.2, 1.0), st.integers(0, 10_000))
def test_strangers_are_found_in_sets_of_any_size_and_quality(
    people: int, others: int, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    one = rng.normal(size=512)
    rows = np.concatenate([one + rng.normal(size=(people, 512)) * spread, rng.normal(size=(others, 512))])
    likeness = unit(rows) @ unit(rows).T
    assert strangers(likeness, [True] * len(rows)) == list(range(people, people + others))


def test_blurred_photos_are_not_asked_and_few_say_nothing() -> None:
    likeness = np.full((6, 6), 0.9)
    likeness[5] = likeness[:, 5] = 0.0
    assert strangers(likeness, [True] * 6) == [5]
    assert strangers(likeness, [True] * 5 + [False]) == []
    assert strangers(likeness, [False, False, True, True, True, True]) == []


def test_the_hardest_finding_decides() -> None:
    findings = [
        Finding("a.jpg", "border", "bars; cut them off", "kept", 0.1),
        Finding("a.jpg", "dark", "dark; brighten it", "kept", 5),
        Finding("b.jpg", "small", "small; a larger one", "kept"),
        Finding("c.jpg", "unreadable", "cut short", "skipped"),
    ]
    advice = advise({"1": "a.jpg", "2": "b.jpg", "3": "d.jpg"}, findings)
    assert [one.verdict for one in advice] == ["drop", "fix", "keep"]
    assert len(advice[0].findings) == 2


def test_few_many_and_alike() -> None:
    few = advise({str(n): f"{n}.jpg" for n in range(4)}, [])
    assert "are few" in advise_set(few, [GOOD] * 4).remarks[0]
    names = {str(n): f"{n}.jpg" for n in range(12)}
    sizes = [replace(GOOD, face_share=0.1 + 0.05 * n) for n in range(12)]
    assert advise_set(advise(names, []), sizes).remarks == ()
    alike = [Finding(f"{n}.jpg", "near_duplicate", "the same", "kept") for n in range(6)]
    assert any("look like others" in remark for remark in advise_set(advise(names, alike), sizes).remarks)
    assert any("one size" in remark for remark in advise_set(advise(names, []), [GOOD] * 12).remarks)
    assert "more than it takes" in advise_set(advise({str(n): f"{n}.jpg" for n in range(40)}, []), sizes).remarks[0]


def test_one_colour_of_clothes_or_one_place_in_most_photos_is_said() -> None:
    advice = advise({str(n): f"{n}.jpg" for n in range(12)}, [])
    looks = [replace(GOOD, face_share=0.1 + 0.05 * n) for n in range(12)]
    varied = ["red", "blue", "green", "white"] * 3
    assert advise_set(advice, looks, varied, varied).remarks == ()
    most = ["red"] * 7 + ["blue"] * 5
    (clothes,) = advise_set(advice, looks, most, varied).remarks
    assert clothes.startswith("7 of 12 photos show red clothes")
    (place,) = advise_set(advice, looks, varied, ["in the park"] * 12).remarks
    assert place.startswith("12 of 12 photos were taken in the park")
    assert advise_set(advice, looks, ["red"] * 5, []).remarks == ()


def test_a_mark_is_to_be_fixed() -> None:
    finding = mark_finding("a.jpg", Mark(tuple(range(7)), (0.7, 0.9, 0.98, 0.97)))
    assert advise({"1": "a.jpg"}, [finding])[0].verdict == "fix"
    assert "7 photos have the same mark (lower right corner)" in finding.message
