"""Measures say what was done to a picture, and nothing of what was not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from skimage import data

from portrayal.photos.advice import MOST_BLUR
from portrayal.photos.faces import find_faces
from portrayal.photos.look import Look, blur, border, look_at

ASTRONAUT = Image.fromarray(data.astronaut())


def measured(image: Image.Image) -> Look:
    return look_at(image, find_faces(image), image.size)


def test_a_good_photo() -> None:
    look = measured(ASTRONAUT)
    assert look.faces == 1
    assert look.face_share == pytest.approx(0.2, abs=0.08)
    assert look.blur < MOST_BLUR
    assert look.border == 0
    assert look.short_side == 512


def test_blur_is_seen_at_every_size_and_contrast() -> None:
    for size in (256, 512, 1500):
        photo = ASTRONAUT.resize((size, size), Image.Resampling.LANCZOS)
        blurred = photo.filter(ImageFilter.GaussianBlur(size / 80))
        assert measured(blurred).blur > MOST_BLUR > measured(photo).blur
        for factor in (0.5, 1.5):
            faint = ImageEnhance.Contrast(photo).enhance(factor)
            assert measured(faint).blur == pytest.approx(measured(photo).blur, abs=0.12)


@given(st.floats(0.5, 4), st.floats(0.5, 4))
def test_more_blur_measures_more(one: float, other: float) -> None:
    if abs(one - other) < 0.3:
        return
    less, more = (
        blur(np.asarray(ASTRONAUT.convert("L").resize((128, 128)).filter(ImageFilter.GaussianBlur(radius)), np.float32))
        for radius in sorted((one, other))
    )
    assert less <= more + 1e-3


def test_light() -> None:
    assert measured(ImageEnhance.Brightness(ASTRONAUT).enhance(0.15)).highlights < 25
    assert measured(ASTRONAUT).highlights > 60
    burnt = ASTRONAUT.point(lambda value: min(255, value * 4))
    assert measured(burnt).burnt > 0.4 > measured(ASTRONAUT).burnt


@pytest.mark.parametrize("colour", ["black", "white", "#808080"])
@pytest.mark.parametrize("sides", [(0, 60, 0, 60), (60, 0, 60, 0)])
def test_bars_are_seen(colour: str, sides: tuple[int, int, int, int]) -> None:
    assert measured(ImageOps.expand(ASTRONAUT, sides, colour)).border == pytest.approx(120 / 632, abs=0.02)


def test_an_even_wall_and_a_bar_on_one_side_are_no_border() -> None:
    assert border(np.full((64, 64), 200, np.float32)) == 0
    assert measured(ImageOps.expand(ASTRONAUT, (0, 60, 0, 0), "black")).border == 0
