"""A place for finished pictures outside of memory, so that five hundred photos need no more of it than twenty."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image

from portrayal.errors import MachineError

IN_MEMORY: Final = 64 << 20
"""Bytes of pictures that stay in memory; those of a usual set do."""


class Shelf:
    """Pictures put away as raw pixels: in memory at first, in a temporary file of its own from `IN_MEMORY` on."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  it lives as long as the shelf
        self._lock = threading.Lock()

    def put(self, image: Image.Image) -> Kept:
        """Put a picture away; any thread may.

        Raises:
            MachineError: If the disk is full.
        """
        pixels = image.tobytes()
        try:
            with self._lock:
                place = self._file.seek(0, 2)
                self._file.write(pixels)
        except OSError as error:
            raise MachineError(
                f"Pictures cannot be put into {tempfile.gettempdir()}: {error.strerror or error}.",
                "Free some space there, or set TMPDIR to a folder that has it.",
            ) from error
        return Kept(self, place, len(pixels), image.mode, image.size)

    def close(self) -> None:
        """Give the memory and the disk back at once; it happens by itself when nothing holds the shelf any more."""
        self._file.close()

    __del__ = close

    def read(self, place: int, length: int) -> bytes:
        """The bytes at a place."""
        with self._lock:
            self._file.seek(place)
            return self._file.read(length)


@dataclass(frozen=True)
class Kept:
    """Where a picture is on its shelf."""

    shelf: Shelf
    place: int
    length: int
    mode: str
    size: tuple[int, int]

    def load(self) -> Image.Image:
        """The picture."""
        return Image.frombytes(self.mode, self.size, self.shelf.read(self.place, self.length))


class Pictures(Mapping[str, Image.Image]):
    """Pictures by id, each read when it is asked for."""

    def __init__(self, kept: Mapping[str, Kept]) -> None:
        self._kept = kept

    def __getitem__(self, key: str) -> Image.Image:
        return self._kept[key].load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
