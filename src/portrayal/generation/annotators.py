"""Annotators: what turns a picture into a control image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageOps

from portrayal.errors import UsageError
from portrayal.generation.skeleton import draw_skeleton, read_skeleton

if TYPE_CHECKING:
    from portrayal.models.depth import DepthReader
    from portrayal.models.pose import PhotoPoseReader, PoseReader

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


def softedge(image: Image.Image) -> Image.Image:
    """Soft white edges on black, an RGB picture of the same size.

    The steepest change of lightness and colour at two scales (Scharr's gradient), its 99th hundredth white: what a
    ControlNet for soft edges is shown, without another network. A ready-made one (HED, PiDiNet) is taken too.
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    longest = max(image.size)
    steepest = np.zeros(pixels.shape[:2], np.float32)
    for sigma in (longest / 512, longest / 170):
        smooth = cv2.GaussianBlur(pixels, (0, 0), max(sigma, 0.5))
        across, down = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
        steepest = np.maximum(steepest, np.sqrt(across**2 + down**2).max(axis=2) * sigma)
    most = float(np.percentile(steepest, 99))
    grey = np.clip(steepest / most, 0, 1) if most > 0 else steepest
    return Image.fromarray((255 * grey).astype(np.uint8)).convert("RGB")


def depth(image: Image.Image, reader: DepthReader) -> Image.Image:
    """How near what a picture shows is, the nearest white, an RGB picture of the same size."""
    return Image.fromarray((255 * reader.nearness(image)).round().astype(np.uint8)).convert("RGB")


def openpose(image: Image.Image, reader: PoseReader | PhotoPoseReader) -> Image.Image:
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
