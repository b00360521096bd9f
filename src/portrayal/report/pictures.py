"""Pictures made small for a page: WebP bytes with a name, each made once for both reports."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from portrayal.evaluation.colour import lightness_map
from portrayal.formats.png import DIGITAL_SOURCE_TYPE, read_settings
from portrayal.parallel import in_threads
from portrayal.report.scores import Json
from portrayal.report.wording import slug

LARGE, SMALL = 448, 240
_QUALITY = 85
_LOSSLESS_UP_TO = 128


@dataclass(frozen=True)
class Picture:
    """A picture on a page: WebP bytes, its size, what it shows, and its file beside the Markdown."""

    content: bytes
    width: int
    height: int
    alt: str
    file: str

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return "data:image/webp;base64," + base64.b64encode(self.content).decode("ascii")


@dataclass(frozen=True)
class Copy:
    """A picture made small: WebP bytes, and its size."""

    content: bytes
    width: int
    height: int


@dataclass
class Pictures:
    """Makes the pictures of one report and keeps the bytes of those that the Markdown needs.

    ``files`` maps a name in ``report/`` to content.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    _copies: dict[tuple[Path, int], Copy | None] = field(default_factory=dict)

    def shrink(self, paths: Iterable[Path], side: int = SMALL) -> None:
        """Make the copies of many pictures at once, which takes most of a report's time; ``add`` finds them."""
        wanted = list(dict.fromkeys(paths))
        copies = in_threads(lambda path: small_copy(path, side), wanted)
        self._copies |= {(path, side): copy for path, copy in zip(wanted, copies, strict=True)}

    def add(self, path: Path | None, name: str, alt: str, side: int = SMALL) -> Picture | None:
        """Shrink a picture to at most ``side`` pixels; nothing if it is missing or damaged."""
        if path is None:
            return None
        if (path, side) not in self._copies:
            self._copies[path, side] = small_copy(path, side)
        copy = self._copies[path, side]
        if copy is None:
            return None
        return Picture(copy.content, copy.width, copy.height, alt, f"report/{self._keep(slug(name), copy.content)}")

    def _keep(self, stem: str, content: bytes) -> str:
        file, count = f"{stem}.webp", 1
        while self.files.get(file, content) != content:
            count += 1
            file = f"{stem}-{count}.webp"
        self.files[file] = content
        return file


def small_copy(path: Path, side: int) -> Copy | None:
    """A picture of at most ``side`` pixels; nothing if it is missing or damaged."""
    image = read_image(path)
    if image is None:
        return None
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    lossless = max(image.size) <= _LOSSLESS_UP_TO
    image.save(buffer, "WEBP", lossless=lossless, quality=_QUALITY, method=4, xmp=_mark(image))
    return Copy(buffer.getvalue(), image.width, image.height)


def read_image(path: Path | None) -> Image.Image | None:
    """Open a picture as RGB; nothing if it is missing or damaged."""
    if path is None or not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError):  # Pillow raises SyntaxError for a PNG that breaks off
        return None


def settings_of(path: Path | None) -> Json:
    """The settings that a picture was painted with; empty if it is missing or does not say."""
    return {} if path is None or not path.is_file() else read_settings(path) or {}


def lightnesses(paths: Iterable[Path]) -> list[float]:
    """Mean CIE L* of each picture, 0 black to 100 white; those that cannot be read are left out."""

    def mean(path: Path) -> float | None:
        image = read_image(path)
        return None if image is None else float(lightness_map(np.asarray(image)).mean())

    return [found for found in in_threads(mean, paths) if found is not None]


def _mark(image: Image.Image) -> bytes:
    """The mark of a generated picture, which stays with its small copies; no other metadata does."""
    xmp = image.info.get("xmp", b"")
    return xmp if isinstance(xmp, bytes) and DIGITAL_SOURCE_TYPE.encode() in xmp else b""
