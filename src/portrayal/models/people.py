"""How many people a picture of the drawn world shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from portrayal.models.pose import PoseReader

Floats = npt.NDArray[np.float64]

WINDOWS: Final = (
    *((x / 8, y / 4, 0.5) for x in range(5) for y in range(3)),
    *((x / 8, y / 4, 0.75) for x in range(3) for y in range(2)),
)
"""Left, top and side of the parts that are read, in shares of the picture: the reader expects one person in each."""

LEAST_SURE: Final = 0.5
"""Height of the peaks of nose and both eyes; a face that is half in a window, or none, has less."""

VOTES: Final = 3
"""Windows that must agree on a face. With two, one drawing in thirty of one person counted as two; with three none did,
at the price that most drawings of two people count as one."""

SAME, APART = 0.08, 0.2
"""Shares of the width: faces nearer than the first are one; people stand further apart than the second."""

NOSE, EYES = 0, (1, 2)


def count_people(pictures: Sequence[Image.Image], reader: PoseReader) -> list[int]:
    """How many faces each picture shows, 0 where none is sure; made for drawn people, whom no face detector knows."""
    return [len(faces(window_keypoints(picture, reader))) for picture in pictures]


def window_keypoints(picture: Image.Image, reader: PoseReader) -> Floats:
    """Keypoints in each window, shape `(windows, 17, 3)`, x and y in shares of the window."""
    width, height = picture.size
    parts = [
        picture.crop((round(x * width), round(y * height), round((x + side) * width), round((y + side) * height)))
        for x, y, side in WINDOWS
    ]
    return reader.keypoints(parts)


def faces(keypoints: Floats) -> list[tuple[float, float]]:
    """Noses that stand apart and that several windows see, in shares of the picture, the surest first."""
    seen = [
        (left + side * points[NOSE, 0], top + side * points[NOSE, 1], points[[NOSE, *EYES], 2].min())
        for (left, top, side), points in zip(WINDOWS, keypoints, strict=True)
        if is_face(points)
    ]
    seen.sort(key=lambda face: -face[2])
    groups: list[list[tuple[float, float, float]]] = []
    for face in seen:
        group = next((g for g in groups if np.hypot(g[0][0] - face[0], g[0][1] - face[1]) < SAME), None)
        if group is None:
            groups.append([face])
        else:
            group.append(face)
    found: list[tuple[float, float]] = []
    for group in sorted(groups, key=lambda group: -len(group) * group[0][2]):
        x, y = group[0][0], group[0][1]
        if len(group) >= VOTES and all(abs(x - other[0]) > APART for other in found):
            found.append((x, y))
    return found


def is_face(points: Floats) -> bool:
    """Whether a window's keypoints can be a face: sure, inside, the nose below and between level eyes."""
    nose, eyes = points[NOSE], points[list(EYES)]
    left, right = sorted(eyes[:, 0])
    apart = right - left
    return bool(
        points[[NOSE, *EYES], 2].min() >= LEAST_SURE
        and 0.06 < nose[0] < 0.94
        and 0.06 < nose[1] < 0.94
        and apart >= 0.04
        and left - 0.15 * apart <= nose[0] <= right + 0.15 * apart
        and nose[1] > eyes[:, 1].mean()
        and abs(eyes[0, 1] - eyes[1, 1]) <= apart
    )
