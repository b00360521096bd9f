"""Marks that lie at the same place in several photos: names of sites, logos, the date that a camera stamps.

One photo cannot tell a mark from what it shows; several can, for what a mark does to a picture's gradients is the same
in all of them (Dekel et al. 2017, "On the Effectiveness of Visible Watermarks", CVPR, Sec. 3.1). There all photos have
the mark. Here some may: windows of every two photos are compared, and a mark is where one photo agrees with four.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

# Shapes: N photos, Y and X rows and columns of cells, H and W pixels, D channels times directions.
Floats = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

SIDE: Final = 256
"""Long side of the copies that are compared."""

CELL: Final = 4
WINDOW: Final = (3, 7)
"""Rows and columns of cells that are compared together: about one word at `SIDE`."""

CHANNELS: Final = (0, 2)
"""Red and blue: orange, as dates are stamped, is as light as a mid grey, and neither as red nor as blue."""

SOFT: Final = 6.0
"""Grey levels a pixel at which a gradient counts half: an edge below a mark counts hardly more than the mark's."""

FEWEST: Final = 5
"""Photos that must share a mark. Four drawn photos of a set often share the corner of a thing; five never did."""

LEAST_LIKENESS: Final = 0.48
"""Correlation of two photos' windows: at most 0.38 in the fifth photo of drawn sets without a mark."""

LEAST_SIDES: Final = 0.04
"""Share of the agreement that each of the four directions has: a stroke has two sides, a wall or a horizon one."""

LEAST_ENERGY: Final = 0.06
"""Mean square of the gradients below which a window is empty."""

LEAST_AROUND: Final = 0.25
"""Mean likeness, of those that agree in one window, that the others of the mark have."""

LEAST_STRENGTH: Final = 0.3
"""Length of the gradients, of 1, from which a pixel counts as the mark's."""

LEAST_SHARE: Final = 0.25
"""Of a mark's gradients, from which a photo has the mark."""

LARGEST: Final = 0.16
"""Of the picture; what agrees over more of it is the place, or a face at the same spot, and not a mark."""

MOST_MARKS: Final = 2
"""Places at which the same photos may agree: those taken in one place agree at more."""

TRIES: Final = 12
"""Places that are looked at, those with the most photos first."""

MOST_PHOTOS: Final = 40
"""Photos of one shape that are compared with each other; the others are only asked for the marks found."""

SAME_SHAPE: Final = 0.02
"""By how much the proportions of photos that are compared may differ."""


@dataclass(frozen=True)
class Mark:
    """One mark."""

    photos: tuple[int, ...]
    """Places of the photos that have it."""

    box: tuple[float, float, float, float]
    """Left, top, right and bottom in shares of the picture."""

    @property
    def where(self) -> str:
        """In words: `lower right corner`."""
        left, top, right, bottom = self.box
        across, down = (left + right) / 2, (top + bottom) / 2
        row = "upper" if down < 0.4 else "lower" if down > 0.6 else ""
        column = "left" if across < 0.4 else "right" if across > 0.6 else ""
        if row and column:
            return f"{row} {column} corner"
        return f"{row or column} edge" if row or column else "middle"


def find_marks(views: Sequence[Image.Image], alike: Collection[int] = ()) -> list[Mark]:
    """Find the marks that five photos or more share.

    Args:
        views: A copy of each whole photo, about `SIDE` pixels long.
        alike: Places of photos that look like others: they have a mark or not, and do not prove one.

    Returns:
        Marks; none in sets of photos that all show one place.
    """
    found = []
    for group in _of_one_shape(views):
        asked = [place for place in group if place not in alike][:MOST_PHOTOS]
        if len(asked) < FEWEST:
            continue
        width, height = size = _size(views[asked[0]])
        for mark, box in _marks(np.stack([_gradients(views[place], size) for place in asked])):
            having = [place for place in group if _share(_gradients(views[place], size), mark, box) >= LEAST_SHARE]
            left, top, right, bottom = box
            if len(set(having) & set(asked)) >= FEWEST:
                found.append(Mark(tuple(having), (left / width, top / height, right / width, bottom / height)))
    return found


def _of_one_shape(views: Sequence[Image.Image]) -> list[list[int]]:
    """Places of photos by their proportions."""
    groups: list[list[int]] = []
    shapes: list[float] = []
    for place, view in enumerate(views):
        shape = view.width / view.height
        near = [number for number, other in enumerate(shapes) if abs(shape / other - 1) <= SAME_SHAPE]
        if near:
            groups[near[0]].append(place)
        else:
            groups.append([place])
            shapes.append(shape)
    return groups


def _size(view: Image.Image) -> tuple[int, int]:
    """Width and height of the copies, in whole cells."""
    cells = SIDE / max(view.size) / CELL
    return tuple(CELL * max(*WINDOW, round(side * cells)) for side in view.size)  # type: ignore[return-value]  # two


def _gradients(view: Image.Image, size: tuple[int, int]) -> Floats:
    """Signed gradients of length below 1, shape `(H, W, 2 channels, 2)`: direction counts, strength hardly."""
    pixels = np.asarray(view.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32)[..., CHANNELS]
    across = cv2.Sobel(pixels, cv2.CV_32F, 1, 0, ksize=3) / 4
    down = cv2.Sobel(pixels, cv2.CV_32F, 0, 1, ksize=3) / 4
    soft = np.stack([across, down], axis=-1) / (np.hypot(across, down) + SOFT)[..., None]
    return np.asarray(soft, np.float32)


def _marks(gradients: Floats) -> list[tuple[Floats, Box]]:
    """Gradients and box in pixels of each mark among photos of one size, of gradients `(N, H, W, 2, 2)`."""
    likeness = _likeness(gradients)
    agree = likeness > LEAST_LIKENESS
    support = agree.sum(axis=-1)  # (Y, X, N): how many others each photo agrees with there
    rank = np.where(support >= FEWEST - 1, support + np.where(agree, likeness, 0).sum(axis=-1) / len(gradients), 0)
    found = []
    for _ in range(TRIES):
        y, x, leader = (int(place) for place in np.unravel_index(int(rank.argmax()), rank.shape))
        if not rank[y, x, leader]:
            break
        members = [leader, *(int(number) for number in np.flatnonzero(agree[y, x, leader]))]
        mark = _grown(gradients, likeness, members, (y, x))
        if mark is not None:
            found.append(mark)
        _forget(rank, mark[1] if mark else (x * CELL, y * CELL, x * CELL, y * CELL))
    return found


def _share(gradients: Floats, mark: Floats, box: Box) -> float:
    """How much of a mark's gradients a photo has, of shape `(H, W, 2, 2)`: 1 all, about 0 for a photo without it."""
    left, top, right, bottom = box
    return float((gradients[top:bottom, left:right] * mark).sum() / max(1.0, np.square(mark).sum()))


def _forget(rank: npt.NDArray[np.floating], box: Box) -> None:
    """Look no more at windows that touch a box."""
    left, top, right, bottom = (side // CELL for side in box)
    rank[max(0, top - WINDOW[0]) : bottom + WINDOW[0], max(0, left - WINDOW[1]) : right + WINDOW[1]] = 0


def _likeness(gradients: Floats) -> Floats:
    """Correlation of every two photos in each window, shape `(Y, X, N, N)`; 0 on the diagonal, and where one side of
    what agrees is missing."""
    number, height, width = gradients.shape[:3]
    rows, columns = height // CELL, width // CELL
    cells = gradients.reshape(number, rows, CELL, columns, CELL, 2, 2).transpose(1, 3, 0, 2, 4, 5, 6)
    products, sides = [], []
    for direction in (0, 1):
        part = np.ascontiguousarray(cells[..., direction]).reshape(rows, columns, number, -1)
        products.append(_products(part))
        sides += [_in_windows(_products(np.maximum(sign * part, 0))) for sign in (1, -1)]
    together = _in_windows(products[0] + products[1])
    energy = np.maximum(np.einsum("yxii->yxi", together), LEAST_ENERGY)
    likeness: Floats = together / np.sqrt(energy[..., :, None] * energy[..., None, :])
    least, whole = np.minimum.reduce(sides), sum(sides)
    likeness[(least < LEAST_SIDES * whole) | np.eye(number, dtype=bool)] = 0
    return likeness


def _products(cells: Floats) -> Floats:
    """Sums of the products of every two photos in each cell, `(Y, X, N, …)` to `(Y, X, N, N)`."""
    products: Floats = cells @ cells.swapaxes(2, 3)
    return products


def _in_windows(cells: Floats) -> Floats:
    """Means over windows, a pixel and channel: `(Y, X, N, N)` to fewer rows and columns."""
    rows, columns = WINDOW
    down = np.cumsum(np.pad(cells, ((1, 0), (0, 0), (0, 0), (0, 0))), axis=0)
    summed = down[rows:] - down[:-rows]
    across = np.cumsum(np.pad(summed, ((0, 0), (1, 0), (0, 0), (0, 0))), axis=1)
    means: Floats = (across[:, columns:] - across[:, :-columns]) / (rows * columns * CELL * CELL * len(CHANNELS))
    return means


def _grown(
    gradients: Floats, likeness: Floats, members: Sequence[int], window: tuple[int, int]
) -> tuple[Floats, Box] | None:
    """The whole mark of which a window was found: its gradients and its box in pixels; nothing if it is none.

    Args:
        gradients: Of all photos, shape `(N, H, W, 2, 2)`.
        likeness: Of the same photos.
        members: Those that agree in the window.
        window: Its row and column.
    """
    among = likeness[:, :, members][..., members]
    same = among.sum(axis=(2, 3)) / (len(members) * (len(members) - 1)) >= LEAST_AROUND
    boxes = _boxes(same)
    height, width = gradients.shape[1:3]
    if len(boxes) > MOST_MARKS or any(_area(box) > LARGEST * height * width for box in boxes):
        return None
    row, column = (place * CELL for place in window)
    box = next((box for box in boxes if box[0] <= column < box[2] and box[1] <= row < box[3]), None)
    if box is None:
        return None
    left, top, right, bottom = box
    mark = np.median(gradients[members, top:bottom, left:right], axis=0)  # Dekel et al., Sec. 3.1
    mark[np.linalg.norm(mark, axis=(-2, -1)) < LEAST_STRENGTH] = 0
    return mark, box


def _boxes(same: npt.NDArray[np.bool_]) -> list[Box]:
    """Left, top, right and bottom in pixels of the groups of windows, those nearer than five cells taken as one."""
    number, names = cv2.connectedComponents(cv2.dilate(same.astype(np.uint8), np.ones((5, 5), np.uint8)))
    boxes = []
    for name in range(1, number):
        rows, columns = np.nonzero(same & (names == name))
        box = (columns.min(), rows.min(), columns.max() + WINDOW[1], rows.max() + WINDOW[0])
        boxes.append(tuple(int(side) * CELL for side in box))
    return boxes  # type: ignore[return-value]  # four sides each


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
