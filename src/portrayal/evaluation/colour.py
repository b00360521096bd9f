"""Colour of pictures as numbers, so that "too bright" is a difference and not an opinion."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CLIPPED_DARK = 5
CLIPPED_BRIGHT = 250

_CODES = np.arange(256) / 255
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class Colour:
    """Colour statistics of one picture."""

    lightness: float
    """Mean CIE L* (sRGB, D65), 0 black to 100 white. A step of about 2 is what an eye notices."""

    saturation: float
    """Mean S of HSV, 0 grey to 1 pure colour."""

    contrast: float
    """Standard deviation of L* over the pixels, in L* (0 to 50)."""

    clipped: float
    """Fraction of pixels without detail left, 0 to 1; see :func:`colour_statistics`."""

    def as_json(self) -> dict[str, float]:
        """The four numbers by name."""
        return asdict(self)


def colour_statistics(image: NDArray[np.uint8]) -> Colour:
    """Measure lightness, saturation, contrast and clipping of a picture.

    A pixel counts as clipped when its luma (Rec. 601, 0 to 255) is at least 250 or at most 5: burnt out or drowned.
    Luma, and not any one channel, because a red scarf at R=255 is a strong colour with its folds still visible,
    while only near-white and near-black have lost them.

    Args:
        image: RGB, 8 bits, shape ``(H, W, 3)``.

    Raises:
        ValueError: If the picture is empty, not ``(H, W, 3)``, or not ``uint8``.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype != np.uint8:
        raise ValueError(f"expected a uint8 RGB picture (H, W, 3), got {image.dtype} {image.shape}")
    lightness = lightness_map(image)
    largest = image.max(axis=2).astype(np.float64)
    spread = largest - image.min(axis=2)
    saturation = np.divide(spread, largest, out=np.zeros_like(largest), where=largest > 0)
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return Colour(
        lightness=float(lightness.mean()),
        saturation=float(saturation.mean()),
        contrast=float(lightness.std()),
        clipped=float(((luma >= CLIPPED_BRIGHT) | (luma <= CLIPPED_DARK)).mean()),
    )


def lightness_map(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE L* of each pixel, 0 to 100, shape ``(H, W)``, of an sRGB picture ``(H, W, 3)``.

    IEC 61966-2-1 for the sRGB curve, CIE 15:2004, Sec. 8.2.1 for L*. Exact, where OpenCV's float conversion
    interpolates a table (49.85 in place of 50.03 for the grey 119).
    """
    luminance = np.clip(_LINEAR[image] @ _LUMINANCE, 0.0, 1.0)
    cube_root = np.where(luminance > (6 / 29) ** 3, np.cbrt(luminance), luminance * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.asarray(116 * cube_root - 16, dtype=np.float64)
