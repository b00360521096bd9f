"""Marks that several photos share are found, and what drawn people, faces and places have in common is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from portrayal.photos.watermark import Mark, find_marks

pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)
from pretraining.world import draw, sample_person, sample_shot

SIDE = 256
PHOTOS = 14
SETS = range(24)
KINDS = ("text", "logo", "date")
FRAMINGS = ("head", "half", "whole")


@pytest.fixture(scope="module")
def sets() -> dict[int, list[Image.Image]]:
    """Drawn sets of one person each, in random places and clothes."""
    return {number: drawn(number) for number in SETS}


def drawn(number: int, **same: object) -> list[Image.Image]:
    rng = np.random.default_rng([41, number])
    person = sample_person(rng)
    shots = [sample_shot(rng, framing=FRAMINGS[place % 3], gender=person.gender) for place in range(PHOTOS)]
    return [Image.fromarray(draw(person, replace(shot, **same), SIDE)) for shot in shots]


def marked(photos: list[Image.Image], kind: str, number: int, places: list[int]) -> list[Image.Image]:
    """The same mark at the same place of some of the photos: half transparent logos, texts and dates."""
    rng = np.random.default_rng([43, number])
    layer = Image.new("RGBA", (SIDE, SIDE))
    pen = ImageDraw.Draw(layer)
    if kind == "logo":
        side, colour = int(rng.integers(36, 64)), ((255, 255, 255, 140), (200, 20, 40, 150))[number % 2]
        x, y = ((8, 8), (SIDE - side - 8, 8), (SIDE - side - 8, SIDE - side - 8))[number % 3]
        pen.ellipse((x, y, x + side, y + side), outline=colour, width=4)
        middle, arm = (x + side // 2, y + side // 2), side // 4
        pen.polygon([(middle[0], middle[1] - arm), (middle[0] + arm, middle[1] + arm), (x + arm, middle[1])], colour)
    else:
        words, colour = {
            "text": (("www.photos-of-ann.com", "STUDIO MERIDIAN")[number % 2], (255, 255, 255, 190)),
            "date": (f"2021 0{number % 9 + 1} 14", (255, 140, 30, 255)),
        }[kind]
        font = ImageFont.load_default(int(rng.integers(11, 17)))
        left = 10 if number % 4 == 1 else SIDE - 10 - pen.textlength(words, font=font)
        pen.text((left, SIDE - 26), words, colour, font)
    return [
        Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB") if place in places else photo
        for place, photo in enumerate(photos)
    ]


def test_clean_sets_have_none(sets: dict[int, list[Image.Image]]) -> None:
    assert {number: find_marks(photos) for number, photos in sets.items() if find_marks(photos)} == {}


def test_marks_are_found_where_half_of_the_photos_or_all_have_them(sets: dict[int, list[Image.Image]]) -> None:
    found, right, wrong = 0, 0, 0
    for number, photos in sets.items():
        have = list(range(PHOTOS)) if number % 2 else list(range(0, PHOTOS, 2))
        marks = find_marks(marked(photos, KINDS[number % 3], number, have))
        found += len(marks) == 1
        right += sum(len(set(mark.photos) & set(have)) for mark in marks) / len(have)
        wrong += sum(len(set(mark.photos) - set(have)) for mark in marks)
    assert found >= 0.95 * len(sets)
    assert right >= 0.9 * len(sets)
    assert wrong <= 2


def test_one_place_and_faces_at_one_spot_are_no_marks() -> None:
    for number in range(4):
        assert find_marks(drawn(number, scene="kitchen", scene_seed=7)) == []
        same = {"framing": "head", "pose": "standing", "x": 0.5, "y": 0.5, "head_height": 0.5, "tilt": 0.0, "turn": 0.1}
        assert find_marks(drawn(number, **same)) == []


def test_look_alikes_do_not_prove_a_mark(sets: dict[int, list[Image.Image]]) -> None:
    photos = marked(sets[3], "text", 3, [0, 1, 2, 3, 4, 5])
    (mark,) = find_marks(photos)
    assert mark.photos == (0, 1, 2, 3, 4, 5)
    assert mark.where == "lower right corner"
    assert find_marks(photos, alike=[4, 5]) == []


def test_photos_of_other_shapes_are_compared_among_themselves(sets: dict[int, list[Image.Image]]) -> None:
    tall = [photo.crop((40, 0, 216, 256)) for photo in sets[1][7:]]
    photos = [*marked(sets[0][:7], "date", 2, list(range(7))), *tall, Image.new("RGB", (600, 20))]
    (mark,) = find_marks(photos)
    assert set(mark.photos) <= set(range(7))
    assert find_marks([]) == []


@pytest.mark.parametrize(
    ("box", "where"),
    [
        ((0.7, 0.9, 0.95, 0.98), "lower right corner"),
        ((0.2, 0.0, 0.8, 0.1), "upper edge"),
        ((0, 0.4, 0.1, 0.6), "left edge"),
        ((0.3, 0.4, 0.7, 0.6), "middle"),
    ],
)
def test_where_a_mark_is_is_said_in_words(box: tuple[float, float, float, float], where: str) -> None:
    assert Mark((0, 1), box).where == where
