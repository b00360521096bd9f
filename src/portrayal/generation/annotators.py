"""Annotators: what turns a picture into a control image."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageOps


def canny(image: Image.Image, *, low_threshold: int = 100, high_threshold: int = 200) -> Image.Image:
    """White edges on black (Canny 1986), an RGB picture of the same size.

    Args:
        image: Any picture.
        low_threshold: Gradient, 0 to 255 and more, above which an edge is continued.
        high_threshold: Gradient above which an edge is started.
    """
    grey = np.asarray(image.convert("L"))
    edges = cv2.Canny(grey, low_threshold, high_threshold)
    return Image.fromarray(edges).convert("RGB")


def fit_square(image: Image.Image, side: int) -> Image.Image:
    """The middle of a picture, cut and scaled to a square."""
    return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
