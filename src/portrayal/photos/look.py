"""What can be measured of one photo before anything is trained: sharpness, light, size, borders, faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from portrayal.photos.crop import head_of
from portrayal.photos.faces import Face

Grey = npt.NDArray[np.float32]

SIDE: Final = 256
"""Short side of the copy that is measured: blur that is gone at this size does not matter for training."""

REBLUR: Final = 9
"""Pixels of the blur that a picture is compared with itself after."""

LEAST_CUT: Final = 64
"""Pixels of the copy below which a face is too small to tell blur by; the middle of the photo is taken then."""

BORDER_SPREAD, LEAST_BORDER = 3.0, 0.03
"""A border is even (grey levels), and on two opposite sides, each this share of the picture at least."""


@dataclass(frozen=True)
class Look:
    """Measures of one photo."""

    short_side: int
    """Of the upright original, in pixels."""

    blur: float
    """0 for a picture that a blur changes utterly, 1 for one it changes not at all."""

    lightness: float
    """Mean CIE L*, 0 to 100."""

    highlights: float
    """L* that all but the lightest twentieth stay under."""

    burnt: float
    """Share of pixels that are white in all channels."""

    border: float
    """Share of the height or width taken by even bars on opposite sides."""

    faces: int
    """Faces found."""

    face_share: float | None
    """Height of the largest face in those of the photo, or nothing where none was found."""


def look_at(image: Image.Image, faces: Sequence[Face], size: tuple[int, int]) -> Look:
    """Measure a photo.

    Args:
        image: The upright photo, or a smaller copy.
        faces: The faces found in `image`, the largest first.
        size: Width and height of the original.
    """
    scale = SIDE / min(image.size)
    small = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC,
        reducing_gap=3.0,
    )
    pixels = np.asarray(small.convert("RGB"))
    lightness = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[..., 0]
    return Look(
        short_side=min(size),
        blur=blur(_subject(np.asarray(small.convert("L"), np.float32), faces, scale)),
        lightness=float(lightness.mean()),
        highlights=float(np.percentile(lightness, 95)),
        burnt=float((pixels.min(axis=2) >= 254).mean()),
        border=border(np.asarray(small.convert("L"), np.float32)),
        faces=len(faces),
        face_share=faces[0].box.height / image.height if faces else None,
    )


def blur(grey: Grey) -> float:
    """How little a further blur takes away: 0 sharp, 1 blurred (Crete et al. 2007, doi:10.1117/12.702790).

    Contrast does not matter, for it stands on both sides of the ratio.
    """
    worst = 0.0
    for axis, kernel in ((0, (1, REBLUR)), (1, (REBLUR, 1))):
        change = np.abs(np.diff(grey, axis=axis))
        left = np.abs(np.diff(cv2.blur(grey, kernel), axis=axis))
        total = float(change.sum())
        lost = float(np.maximum(0, change - left).sum())
        worst = max(worst, 1 - lost / total if total > 0 else 1.0)
    return worst


def border(grey: Grey) -> float:
    """Share of the picture taken by bars of one grey on two opposite sides, as letterboxes and screenshots have."""
    return max(_bars(grey), _bars(grey.T))


def _bars(grey: Grey) -> float:
    """The same of the bars above and below."""
    level = float(grey[0].mean())
    even = (np.abs(grey - level) <= BORDER_SPREAD).all(axis=1)
    if even.all() or not (even[0] and even[-1]):
        return 0.0
    above, below = int(np.argmin(even)), int(np.argmin(even[::-1]))
    return (above + below) / len(grey) if min(above, below) >= LEAST_BORDER * len(grey) else 0.0


def _subject(grey: Grey, faces: Sequence[Face], scale: float) -> Grey:
    """The head, or the middle half of the picture."""
    height, width = grey.shape
    if faces:
        head = head_of(faces[0].box.scaled(scale), (width, height))
        if min(head.width, head.height) >= LEAST_CUT:
            return grey[head.top : head.top + head.height, head.left : head.left + head.width]
    return grey[height // 8 : -(height // 8) or None, width // 8 : -(width // 8) or None]
