import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from portrayal.photos import crop
from portrayal.photos.crop import Box, cut_square, find_face, square_crop

ASTRONAUT = Image.fromarray(data.astronaut())
FACE = Box(170, 60, 100, 130)  # of the astronaut, by eye


def contains(square: tuple[int, int, int], face: Box) -> bool:
    left, top, side = square
    across = left <= face.left and face.left + face.width <= left + side
    return across and top <= face.top and face.top + face.height <= top + side


def test_the_astronauts_face_is_found() -> None:
    face = find_face(ASTRONAUT)

    assert face is not None
    assert abs(face.left + face.width / 2 - 222) < 25
    assert abs(face.top + face.height / 2 - 120) < 30


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

    square = square_crop(picture.size, find_face(picture))

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

    left, top, side = square_crop((width, height), face)

    assert contains((left, top, side), face)
    assert side == min(width, height)
    assert 0 <= left <= width - side
    assert 0 <= top <= height - side


def test_without_a_face_upright_photos_lean_upward_and_wide_ones_are_centred() -> None:
    assert square_crop((300, 600), None) == (0, 100, 300)
    assert square_crop((600, 300), None) == (150, 0, 300)
    assert square_crop((300, 300), None) == (0, 0, 300)


def test_a_picture_without_a_face_has_none() -> None:
    assert find_face(Image.new("RGB", (400, 300), "grey")) is None
    assert find_face(Image.new("RGB", (1, 1))) is None


def test_without_a_cascade_nothing_is_found_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop, "_cascade", lambda: None)

    assert find_face(ASTRONAUT) is None


def test_the_cut_is_the_square_at_the_resolution() -> None:
    picture = Image.new("RGB", (300, 100), "red")
    picture.paste("blue", (100, 0, 200, 100))

    cut = cut_square(picture, (100, 0, 100), 64)

    assert cut.size == (64, 64)
    # Lanczos reaches a pixel or two past the edge, and no further.
    assert cut.crop((3, 0, 61, 64)).getcolors() == [(58 * 64, (0, 0, 255))]
