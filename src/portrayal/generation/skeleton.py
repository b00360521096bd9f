"""The drawing of a pose that ControlNets for OpenPose read (Cao et al. 2018, arXiv:1812.08008)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6
NECK = 17
FROM_COCO = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""For each of OpenPose's 18 joints, its place among COCO's 17 and, last, the neck."""

LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0),
    (0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255),
    (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
COLOUR_SLACK = 40  # the colours of joints lie 85 apart, those of limbs 102 below them
LIMB_COLOURS = tuple((int(red * 0.6), int(green * 0.6), int(blue * 0.6)) for red, green, blue in COLOURS)


def draw_skeleton(
    keypoints: NDArray[np.floating], size: int | tuple[int, int], threshold: float = 0.3
) -> NDArray[np.uint8]:
    """Joints and limbs in OpenPose's colours on black; a limb is drawn where both its ends are seen.

    Args:
        keypoints: (17, 3): x and y from 0 to 1 of width and height, and a confidence, in COCO's order.
        size: Side of the picture, or its width and height.
        threshold: Confidence from which a joint counts as seen.

    Returns:
        RGB picture, (height, width, 3).
    """
    width, height = (size, size) if isinstance(size, int) else size
    canvas = np.zeros((height, width, 3), np.uint8)
    radius = max(2, round(min(width, height) / 128))
    joints = openpose_joints(keypoints)
    seen = joints[:, 2] >= threshold
    places = joints[:, :2] * (width, height)
    for (start, end), colour in zip(LIMBS, LIMB_COLOURS, strict=False):
        if seen[start] and seen[end]:
            (x0, y0), (x1, y1) = places[start].tolist(), places[end].tolist()
            middle = (int((x0 + x1) / 2), int((y0 + y1) / 2))
            axes = (int(math.hypot(x1 - x0, y1 - y0) / 2), radius)
            angle = int(math.degrees(math.atan2(y0 - y1, x0 - x1)))
            outline = np.array(cv2.ellipse2Poly(middle, axes, angle, 0, 360, 4), np.int32)
            cv2.fillConvexPoly(canvas, outline, colour)
    for (x, y), colour, drawn in zip(places.tolist(), COLOURS, seen, strict=True):
        if drawn:
            cv2.circle(canvas, (int(x), int(y)), radius, colour, thickness=-1)
    return canvas


def openpose_joints(keypoints: NDArray[np.floating]) -> NDArray[np.float64]:
    """COCO's 17 keypoints as OpenPose's 18 joints: the neck lies between the shoulders, as sure as the less sure."""
    coco = np.asarray(keypoints, np.float64)
    neck = (coco[LEFT_SHOULDER] + coco[RIGHT_SHOULDER]) / 2
    neck[2] = min(coco[LEFT_SHOULDER, 2], coco[RIGHT_SHOULDER, 2])
    return np.concatenate([coco, neck[None]])[list(FROM_COCO)]


def read_skeleton(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The joints of a drawn skeleton, found by their colours: the way back from :func:`draw_skeleton`.

    Args:
        picture: RGB picture of a skeleton on black, (height, width, 3).

    Returns:
        Keypoints as :func:`draw_skeleton` takes them, (17, 3); the confidence is 1 or 0.
    """
    height, width = picture.shape[:2]
    keypoints = np.zeros((NECK + 1, 3))
    for colour, place in zip(COLOURS, FROM_COCO, strict=True):
        ys, xs = np.nonzero(np.abs(picture.astype(np.int16) - colour).max(axis=2) <= COLOUR_SLACK)
        if len(xs):
            keypoints[place] = ((np.median(xs) + 0.5) / width, (np.median(ys) + 0.5) / height, 1)
    return keypoints[:NECK]
