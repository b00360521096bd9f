import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from portrayal.photos.crop import Crop, cut, head_of, largest_crop, nearest_bucket, subject_crops
from portrayal.photos.faces import Box, find_faces

ASTRONAUT = Image.fromarray(data.astronaut())
FACE = Box(170, 60, 100, 130)  # of the astronaut, by eye


def contains(crop: Crop, face: Box) -> bool:
    left, top, width, height = crop
    across = left <= face.left and face.left + face.width <= left + width
    return across and top <= face.top and face.top + face.height <= top + height


@pytest.mark.parametrize(
    ("canvas", "place"),
    [
        ((512, 1400), (0, 0)),
        ((512, 1400), (0, 450)),
        ((512, 1400), (0, 888)),
        ((1400, 512), (0, 0)),
        ((1400, 512), (450, 0)),
        ((1400, 512), (888, 0)),
        ((512, 512), (0, 0)),
    ],
)
def test_the_astronauts_face_stays_in_the_square(canvas: tuple[int, int], place: tuple[int, int]) -> None:
    picture = Image.new("RGB", canvas, "grey")
    picture.paste(ASTRONAUT, place)
    face = FACE._replace(left=FACE.left + place[0], top=FACE.top + place[1])

    square = largest_crop(picture.size, find_faces(picture)[0].box)

    assert contains(square, face)
    assert square[2] == 512
    if place[1] == 450:  # room on both sides: the face lies in the upper middle
        assert 0.3 < (face.top + face.height / 2 - square[1]) / 512 < 0.5


@settings(deadline=None)
@given(st.integers(20, 4000), st.integers(20, 4000), st.data())
def test_no_face_is_ever_cut_and_no_square_leaves_the_picture(width: int, height: int, data: st.DataObject) -> None:
    largest = min(width, height)
    wide, high = data.draw(st.integers(1, largest)), data.draw(st.integers(1, largest))
    face = Box(data.draw(st.integers(0, width - wide)), data.draw(st.integers(0, height - high)), wide, high)

    left, top, side, high = crop = largest_crop((width, height), face)

    assert contains(crop, face)
    assert side == high == min(width, height)
    assert 0 <= left <= width - side
    assert 0 <= top <= height - side


@settings(deadline=None)
@given(*[st.integers(20, 4000)] * 2, st.sampled_from([64, 128, 512]), st.data())
def test_a_bucket_is_cut_as_a_square_is(width: int, height: int, resolution: int, data: st.DataObject) -> None:
    shape = nearest_bucket((width, height), resolution)
    wide, high = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    face = Box(data.draw(st.integers(0, width - wide)), data.draw(st.integers(0, height - high)), wide, high)

    left, top, across, down = crop = largest_crop((width, height), face, None, shape)

    assert 0 <= left <= width - across
    assert 0 <= top <= height - down
    assert across == width or down == height
    assert abs(across - down * shape[0] / shape[1]) <= max(1, shape[0] / shape[1])
    if wide <= across and high <= down:
        assert contains(crop, face)
    head = head_of(face, (width, height))
    if head.width <= across and head.height <= down:
        assert contains(crop, head)


@given(*[st.integers(1, 9000)] * 2, st.sampled_from([64, 128, 512, 768]))
def test_buckets_hold_no_more_than_the_square_and_are_the_nearest(width: int, height: int, resolution: int) -> None:
    step, found = resolution // 8, nearest_bucket((width, height), resolution)

    def far(shape: tuple[int, int]) -> float:
        return abs(np.log(shape[0] / shape[1]) - np.log(width / height))

    sides = range(4 * step, 16 * step + 1, step)
    allowed = [(wide, high) for wide in sides for high in sides if wide * high <= resolution**2]
    largest = [shape for shape in allowed if not any((shape[0], high) in allowed for high in sides if high > shape[1])]
    assert found in largest
    assert far(found) == pytest.approx(min(map(far, largest)))


def test_buckets_of_usual_photos() -> None:
    assert nearest_bucket((3024, 3024), 512) == (512, 512)
    assert nearest_bucket((3024, 4032), 512) == (448, 576)
    assert nearest_bucket((4032, 3024), 512) == (576, 448)
    assert nearest_bucket((1080, 1920), 512) == (384, 640)
    assert nearest_bucket((10, 9000), 512) == (256, 1024)


def test_without_a_face_upright_photos_lean_upward_and_wide_ones_are_centred() -> None:
    assert largest_crop((300, 600), None) == (0, 100, 300, 300)
    assert largest_crop((600, 300), None) == (150, 0, 300, 300)
    assert largest_crop((300, 300), None) == (0, 0, 300, 300)


@given(*[st.integers(20, 4000)] * 2, st.floats(-10, 5000), st.floats(-10, 5000))
def test_a_square_around_a_focus_stays_in_the_picture_and_holds_it_if_it_can(
    width: int, height: int, x: float, y: float
) -> None:
    left, top, side, high = largest_crop((width, height), None, (x, y))

    assert side == high == min(width, height)
    assert 0 <= left <= width - side
    assert 0 <= top <= height - side
    if 0 <= x <= width and 0 <= y <= height:
        assert left - 1 <= x <= left + side + 1
        assert top - 1 <= y <= top + side + 1


@settings(deadline=None)
@given(*[st.integers(64, 4000)] * 2, st.integers(32, 512), st.data())
def test_nearer_squares_hold_the_head_and_are_never_enlarged(
    width: int, height: int, resolution: int, data: st.DataObject
) -> None:
    side = data.draw(st.integers(8, min(width, height)))
    face = Box(data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side)), side, side)

    squares = subject_crops((width, height), face, None, resolution)

    head = head_of(face, (width, height))
    assert next(iter(squares)) == "whole"
    sides = [square[2] for square in squares.values()]
    assert sides == sorted(sides, reverse=True)
    for framing, square in squares.items():
        left, top, side, high = square
        assert side == high
        assert 0 <= left <= width - side
        assert 0 <= top <= height - side
        assert contains(square, face)
        assert framing == "whole" or side >= resolution
        if max(head.width, head.height) <= side:
            assert contains(square, head)


def test_a_large_photo_gives_three_squares_and_a_small_one_gives_one() -> None:
    face = Box(900, 500, 300, 300)

    assert subject_crops((2400, 3600), face, None, 512) == {
        "whole": (0, 0, 2400, 2400),
        "close": (570, 247, 960, 960),
    }
    assert list(subject_crops((3000, 4000), face, None, 512)) == ["whole", "half", "close"]
    assert list(subject_crops((600, 800), Box(225, 125, 75, 75), None, 512)) == ["whole"]
    assert list(subject_crops((3000, 4000), None, (10.0, 10.0), 512)) == ["whole"]


def test_the_cut_is_the_square_at_the_resolution() -> None:
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))

    part = cut(picture, (100, 0, 100, 100), (64, 64))

    assert part.size == (64, 64)
    # Lanczos reaches a pixel or two past the edge, and no further.
    assert part.crop((3, 0, 61, 64)).getcolors() == [(58 * 64, (0, 0, 255))]


def test_a_cut_from_a_reduced_picture_shows_the_same_square() -> None:
    large = ASTRONAUT.resize((1024, 1024))

    crop, shape = (100, 301, 640, 640), (96, 96)
    whole, reduced = cut(large, crop, shape), cut(ASTRONAUT, crop, shape, 2.0)

    assert np.abs(np.asarray(whole, np.int16) - np.asarray(reduced, np.int16)).mean() < 3
