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


def redrawn(skeleton: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A ready-made skeleton of a width and height, its sticks as thick as that size's ControlNet knows them."""
    if skeleton.size == size:
        return skeleton.convert("RGB")
    width, height = size
    scale = min(skeleton.width / width, skeleton.height / height)
    largest = fit(skeleton, (max(1, round(width * scale)), max(1, round(height * scale))))
    keypoints = read_skeleton(np.asarray(largest))
    if (keypoints[:, 2] >= SEEN).sum() < MIN_JOINTS:  # drawn in other colours: taken as it is
        return fit(skeleton, size)
    return Image.fromarray(draw_skeleton(keypoints, size, SEEN))


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, cut and scaled to a width and height."""
    return ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
