"""Faces are found where they are, at any size, in any thread; pets and patterns have none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

from portrayal.errors import WeightsError
from portrayal.photos import faces
from portrayal.photos.faces import Box, Face, find_faces

ASTRONAUT = Image.fromarray(data.astronaut())
MIDDLE = (222, 120)  # of the face, by eye


def near(face: Face, x: float, y: float, tolerance: float) -> bool:
    box = face.box
    return abs(box.left + box.width / 2 - x) < tolerance and abs(box.top + box.height / 2 - y) < tolerance


@pytest.mark.parametrize("side", [96, 160, 300, 512, 1024, 3000])
def test_the_astronauts_face_is_found_at_every_size(side: int) -> None:
    (face,) = find_faces(ASTRONAUT.resize((side, side)))

    assert near(face, MIDDLE[0] * side / 512, MIDDLE[1] * side / 512, 30 * side / 512)
    assert 0.5 < face.score < 1


def test_the_largest_face_comes_first() -> None:
    picture = Image.new("RGB", (900, 520), "grey")
    picture.paste(ASTRONAUT.resize((300, 300)), (20, 100))
    picture.paste(ASTRONAUT, (350, 0))

    first, second = find_faces(picture)

    assert near(first, 350 + MIDDLE[0], MIDDLE[1], 30)
    assert near(second, 20 + MIDDLE[0] * 300 / 512, 100 + MIDDLE[1] * 300 / 512, 20)


def test_a_box_lies_inside_its_picture() -> None:
    picture = ASTRONAUT.crop((170, 60, 280, 180)).resize((600, 655))

    for found in find_faces(picture):
        assert found.box.left >= 0
        assert found.box.left + found.box.width <= 600
        assert found.box.top + found.box.height <= 655


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_cups_cats_and_rockets_have_no_face(name: str) -> None:
    assert find_faces(Image.fromarray(getattr(data, name)())) == []


@pytest.mark.parametrize("size", [(400, 300), (8, 8), (1, 1), (3000, 8)])
def test_an_empty_picture_has_none(size: tuple[int, int]) -> None:
    assert find_faces(Image.new("RGB", size, "grey")) == []


def test_threads_find_what_one_finds_alone() -> None:
    pictures = [ASTRONAUT, ImageOps.mirror(ASTRONAUT), ASTRONAUT.resize((300, 300))] * 4
    alone = [find_faces(picture) for picture in pictures]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(find_faces, pictures)) == alone


def test_without_cascades_nothing_is_found_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "_cascade", lambda name: None)

    assert find_faces(ASTRONAUT) == []


def test_a_profiles_box_found_in_the_mirror_is_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(grey: faces.Grey, name: str, neighbours: int):
        bright = np.argwhere(grey > 200)
        if name == faces.PROFILE and bright[:, 1].mean() > grey.shape[1] / 2:
            (top, left), (bottom, right) = bright.min(0), bright.max(0)
            yield (left, top, right - left, bottom - top), 0.9

    monkeypatch.setattr(faces, "_by_cascade", found)
    picture = Image.new("RGB", (600, 400))
    picture.paste("white", (60, 40, 160, 140))

    (face,) = find_faces(picture)

    assert all(abs(value - wanted) <= 4 for value, wanted in zip(face.box, (60, 40, 100, 100), strict=True))


def test_a_file_that_is_not_yunet_is_refused(tmp_path: Path) -> None:
    (tmp_path / faces.YUNET_FILE).write_bytes(b"no model")

    with pytest.raises(WeightsError, match="damaged"):
        find_faces(ASTRONAUT, tmp_path / faces.YUNET_FILE)


def test_a_box_scales() -> None:
    assert Box(1, 2, 3, 4).scaled(2.0) == Box(2, 4, 6, 8)
