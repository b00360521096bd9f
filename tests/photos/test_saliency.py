"""What stands out is found, and drawn people keep their heads."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from portrayal.photos.crop import largest_crop
from portrayal.photos.saliency import focus, saliency, weighted_middle


@pytest.mark.parametrize("place", [(150, 120), (420, 120), (250, 220)])
def test_what_is_unlike_the_rest_is_found(place: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(90, 140, (400, 600, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    patch = np.random.default_rng(1).integers(0, 2, (8, 8, 1), dtype=np.uint8).repeat(3, 2) * 255
    picture.paste(Image.fromarray(patch).resize((90, 90), Image.Resampling.NEAREST), place)

    x, y = focus(picture)

    assert abs(x - place[0] - 45) < 60
    assert abs(y - place[1] - 45) < 60


@pytest.mark.parametrize("size", [(400, 300), (1, 1), (8, 3000), (64, 64)])
def test_a_picture_in_which_nothing_stands_out_has_a_focus_inside(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "grey")

    x, y = focus(picture)

    assert np.isfinite(saliency(picture)).all()
    assert 0 <= x <= size[0]
    assert 0 <= y <= size[1]


def test_the_middle_of_weights_is_in_pixels() -> None:
    weights = np.zeros((4, 8), np.float32)
    weights[1, 6] = 2

    assert weighted_middle(weights, (80, 40)) == (65.0, 15.0)
    assert weighted_middle(np.zeros((4, 8), np.float32), (80, 40)) == (40.0, 20.0)


@pytest.mark.skipif(importlib.util.find_spec("skia") is None, reason="drawing people needs skia-python")
def test_drawn_people_without_a_face_found_keep_their_heads() -> None:
    from pretraining.world import draw_canvas, sample_person, sample_shot

    rng, kept = np.random.default_rng(11), []
    for _ in range(40):
        person = sample_person(rng)
        shot = sample_shot(rng, gender=person.gender)
        canvas, half = draw_canvas(person, shot, 240, 432), 0.52 * shot.head_height * 240
        middle = 96 + shot.y * 240
        start = int(rng.uniform(max(0, middle + half - 336), min(96, middle - half)))
        picture = Image.fromarray(canvas[start : start + 336])
        _, top, _, side = largest_crop(picture.size, None, focus(picture))
        kept.append(top <= middle - start - half and middle - start + half <= top + side)

    assert np.mean(kept) >= 0.95
