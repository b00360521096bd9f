"""Class images are painted once, in whole batches, and each is found again under its own number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from portrayal.data.class_images import ensure_class_images

Paint = Callable[[Sequence[int]], Iterator[Image.Image]]


@pytest.fixture
def painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Which numbers were painted, call by call, in a cache of the test's own."""
    monkeypatch.setenv("PORTRAYAL_CACHE", str(tmp_path))
    return []


@pytest.fixture
def paint(painted: list[list[int]]) -> Paint:
    """Paints pictures that show their numbers."""

    def paint(numbers: Sequence[int]) -> Iterator[Image.Image]:
        painted.append(list(numbers))
        for number in numbers:
            yield Image.new("RGB", (8, 8), (10 * number, 0, 0))

    return paint


def shown(images: Sequence[Image.Image]) -> list[int]:
    return [image.getpixel((0, 0))[0] // 10 for image in images]


def test_they_are_painted_once_and_further_ones_in_whole_batches(painted: list[list[int]], paint: Paint) -> None:
    for count, expected in ((3, [[0, 1, 2, 3]]), (3, []), (4, []), (7, [[4, 5, 6, 7]])):
        painted.clear()
        assert shown(ensure_class_images("key", count, paint, batch_size=2)) == list(range(count))
        assert painted == expected


@pytest.mark.parametrize("damage", ["gone", "cut short", "empty"])
def test_what_is_missing_or_damaged_is_painted_again_under_its_own_number(
    painted: list[list[int]], paint: Paint, damage: str, tmp_path: Path
) -> None:
    ensure_class_images("key", 6, paint, batch_size=2)
    for number in (2, 5):
        (path,) = tmp_path.rglob(f"{number}.png")
        content = path.read_bytes()
        path.unlink() if damage == "gone" else path.write_bytes(content[:-20] if damage == "cut short" else b"")
    painted.clear()

    images = ensure_class_images("key", 6, paint, batch_size=2)

    assert painted == [[2, 3, 4, 5]]
    assert shown(images) == [0, 1, 2, 3, 4, 5]


def test_pictures_of_one_key_are_never_those_of_another(painted: list[list[int]], paint: Paint) -> None:
    ensure_class_images("one", 2, paint, batch_size=2)
    ensure_class_images("other", 2, paint, batch_size=2)
    assert painted == [[0, 1], [0, 1]]
