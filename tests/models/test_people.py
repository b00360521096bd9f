"""People in drawings are counted by their heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from portrayal.models.people import (
    SIDE,
    STRIDE,
    HeadFinder,
    as_pixels,
    count_people,
    embedded_head_finder,
    find_heads,
    peaks,
)


def maps(heads: list[tuple[int, int, float, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps with heads at cells (x, y), each with its height in pixels and its chance."""
    chances, heights = torch.zeros(16, 16), torch.full((16, 16), 8.0)
    for x, y, height, chance in heads:
        chances[y, x], heights[y, x] = chance, height
    return chances, heights


def test_peaks_are_heads_and_the_surest_comes_first() -> None:
    first, second = peaks(*maps([(3, 4, 20, 0.7), (12, 4, 24, 0.9)]))
    assert (first.x, first.y, first.height) == pytest.approx((12.5 * STRIDE / SIDE, 4.5 * STRIDE / SIDE, 24 / SIDE))
    assert second.score == pytest.approx(0.7)


def test_two_peaks_on_one_head_are_one_and_unsure_ones_none() -> None:
    assert len(peaks(*maps([(6, 6, 60, 0.9), (9, 6, 60, 0.8)]))) == 1
    assert len(peaks(*maps([(6, 6, 20, 0.9), (9, 6, 20, 0.8)]))) == 2
    assert peaks(*maps([(6, 6, 60, 0.4)])) == []


@pytest.mark.parametrize("size", [(256, 256), (171, 256), (256, 100), (1, 1), (2000, 3)])
def test_pictures_of_any_shape_are_looked_at(size: tuple[int, int]) -> None:
    pixels = as_pixels(Image.new("RGB", size))
    assert min(pixels.shape[2:]) == SIDE
    assert not any(side % STRIDE for side in pixels.shape[2:])
    chances, heights = HeadFinder()(pixels)
    assert chances.shape == heights.shape == (1, pixels.shape[2] // STRIDE, pixels.shape[3] // STRIDE)


def test_a_head_is_placed_in_a_wide_picture_too() -> None:
    pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)
    from pretraining.world import draw_canvas, sample_person, sample_shot

    rng = np.random.default_rng(5)
    person = sample_person(rng)
    shot = sample_shot(rng, framing="half", gender=person.gender)
    (head,) = find_heads(Image.fromarray(draw_canvas(person, shot, 480, 300)), embedded_head_finder())
    assert head.x == pytest.approx(shot.x + 0.3, abs=0.06)
    assert head.y == pytest.approx(shot.y, abs=0.06)
    assert head.height == pytest.approx(shot.head_height, rel=0.25)


def test_drawn_people_are_counted() -> None:
    """Of 100 pictures of one person none has two; of 50 pictures of two at most 3 have one. Sharp, blurred and dark."""
    pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)
    from pretraining.heads import side_by_side, together
    from pretraining.world import draw, sample_person, sample_shot

    rng = np.random.default_rng(17)
    ones = []
    for index in range(100):
        person = sample_person(rng)
        picture = Image.fromarray(draw(person, sample_shot(rng, gender=person.gender), 256))
        picture = picture.filter(ImageFilter.GaussianBlur(3)) if index % 5 == 1 else picture
        ones.append(picture.point(lambda value: value * 0.4) if index % 5 == 2 else picture)
    twos = [Image.fromarray((together, side_by_side)[index % 2](rng)[0]) for index in range(50)]
    counted = count_people(ones, embedded_head_finder())
    assert max(counted) == 1
    assert sum(counted) >= 95
    assert sum(count > 1 for count in count_people(twos, embedded_head_finder())) >= 47
