"""Annotators: what turns a picture into a control image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps

from portrayal.errors import UsageError
from portrayal.generation.skeleton import draw_skeleton, read_skeleton

if TYPE_CHECKING:
    from portrayal.models.pose import PoseReader

SEEN = 0.3
MIN_JOINTS = 3


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


def openpose(image: Image.Image, reader: PoseReader) -> Image.Image:
    """The skeleton of the person in a picture, an RGB picture of the same size.

    Raises:
        UsageError: If no pose can be made out.
    """
    keypoints = reader.keypoints([image])[0]
    if (keypoints[:, 2] >= SEEN).sum() < MIN_JOINTS:
        raise UsageError(
            "No pose can be made out in the reference picture.", "Give one that shows the person clearly and whole."
        )
    return Image.fromarray(draw_skeleton(keypoints, image.size, SEEN))


def redrawn(skeleton: Image.Image, side: int) -> Image.Image:
    """A ready-made skeleton as a square of this side, its sticks as thick as that side's ControlNet knows them."""
    largest = fit_square(skeleton, min(skeleton.size))
    keypoints = read_skeleton(np.asarray(largest))
    if (keypoints[:, 2] >= SEEN).sum() < MIN_JOINTS:  # drawn in other colours: taken as it is
        return fit_square(skeleton, side)
    return Image.fromarray(draw_skeleton(keypoints, side, SEEN))


def fit_square(image: Image.Image, side: int) -> Image.Image:
    """The middle of a picture, cut and scaled to a square."""
    return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
