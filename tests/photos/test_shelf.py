"""Pictures on a shelf come back as they were, from memory and from the disk, to many threads."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portrayal.errors import MachineError
from portrayal.photos import shelf as shelves
from portrayal.photos.shelf import Pictures, Shelf


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(5, 7), (64, 64), (1, 1), (200, 30)] * 10
    modes = ["RGB", "L"] * 20
    return [
        Image.fromarray(rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)).convert(mode)
        for (wide, high), mode in zip(sizes, modes, strict=True)
    ]


@pytest.mark.parametrize("in_memory", [1 << 20, 1000])
def test_pictures_come_back_as_they_were(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(shelves, "IN_MEMORY", in_memory)
    shelf, images = Shelf(), pictures()
    with ThreadPoolExecutor(8) as threads:
        kept = Pictures(dict(zip(map(str, range(len(images))), threads.map(shelf.put, images), strict=True)))
        back = list(threads.map(lambda index: kept[str(index)], range(len(images))))
    assert len(kept) == len(images)
    assert [(image.mode, image.size) for image in back] == [(image.mode, image.size) for image in images]
    assert all(one.tobytes() == other.tobytes() for one, other in zip(images, back, strict=True))


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "IN_MEMORY", 10)
    full = Path("/dev/full").open("w+b", buffering=0)  # noqa: SIM115  the shelf closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: full)
    shelf = Shelf()
    with pytest.raises(MachineError, match="No space left"):
        shelf.put(Image.new("RGB", (100, 100)))
    shelf.close()
