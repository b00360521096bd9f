"""Choose the parts of a photo that show the subject, squares or the shape of a bucket, and cut them out."""

from __future__ import annotations

import math
from typing import Final, Literal

from PIL import Image

from portrayal.photos.faces import Box

Crop = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""

Shape = tuple[int, int]
"""Width and height of a training picture."""

Framing = Literal["whole", "half", "close"]
"""As much as there is; down to the waist; head and shoulders."""

FACE_HEIGHT_IN_CROP: Final[dict[Framing, float]] = {"whole": 0.4, "half": 0.3, "close": 0.42}
"""Where the middle of the face should lie in the square, from its top: room for shoulders, not for sky."""

SIDE_IN_FACES: Final[dict[Framing, float]] = {"half": 6.0, "close": 3.2}
"""Side of a square in heights of the face; a head with its hair is about one and a half of them."""

MOST_OF_THE_NEXT: Final = 0.7
"""A nearer square is cut only if its side is at most this share of the next one's: otherwise both show the same."""

HEAD_ABOVE, HEAD_BESIDE, HEAD_BELOW = 0.6, 0.3, 0.2
"""What the head has beyond the face's box, in its heights and widths: hair, ears, chin."""

BUCKET_STEPS: Final = 8
"""The sides of buckets are whole eighths of the resolution: 64 pixels at 512, as in NovelAI's and kohya's buckets."""

UPWARD_BIAS: Final = 1 / 3
"""Share of what an upright photo loses that is taken from its top when nothing is known; heads are high up."""


def head_of(face: Box, size: tuple[int, int]) -> Box:
    """The whole head around a face, as far as the picture shows it."""
    left = max(0, round(face.left - HEAD_BESIDE * face.width))
    top = max(0, round(face.top - HEAD_ABOVE * face.height))
    right = min(size[0], round(face.left + (1 + HEAD_BESIDE) * face.width))
    bottom = min(size[1], round(face.top + (1 + HEAD_BELOW) * face.height))
    return Box(left, top, right - left, bottom - top)


def nearest_bucket(size: tuple[int, int], resolution: int) -> Shape:
    """The shape nearest to a photo's own, of those whose area is no larger than the square's.

    Sides are whole eighths of the resolution, from half of it to twice it, and of equal proportions the largest.
    """
    step = resolution // BUCKET_STEPS
    sides = range(BUCKET_STEPS // 2, 2 * BUCKET_STEPS + 1)
    shapes = [(wide, min(BUCKET_STEPS**2 // wide, 2 * BUCKET_STEPS)) for wide in sides]
    aspect = math.log(size[0] / size[1])
    wide, high = min(shapes, key=lambda shape: (abs(math.log(shape[0] / shape[1]) - aspect), -shape[0] * shape[1]))
    return wide * step, high * step


def largest_crop(
    size: tuple[int, int], face: Box | None, focus: tuple[float, float] | None = None, shape: Shape = (1, 1)
) -> Crop:
    """Place the largest part of some proportions in a picture: `(left, top, width, height)`.

    It leaves out as little as it can, so what is known only moves it: to the face's middle across, to
    `FACE_HEIGHT_IN_CROP` down, never through the face, and never through the head if the part can hold it.

    Args:
        size: Width and height of the upright picture.
        face: The subject's face, if one was found.
        focus: Without a face, the point to centre on; nothing leans upward.
        shape: The proportions, a square's if nothing is said.
    """
    width, height = size
    wide = max(1, min(width, round(height * shape[0] / shape[1])))
    high = max(1, min(height, round(width * shape[1] / shape[0])))
    if face is not None:
        return _around(size, face, (wide, high), FACE_HEIGHT_IN_CROP["whole"])
    if focus is None:
        return (width - wide) // 2, round((height - high) * UPWARD_BIAS), wide, high
    left, top = round(focus[0] - wide / 2), round(focus[1] - high / 2)
    return _clamp(left, width - wide), _clamp(top, height - high), wide, high


def subject_crops(
    size: tuple[int, int], face: Box | None, focus: tuple[float, float] | None, resolution: int
) -> dict[Framing, Crop]:
    """The squares a photo is worth: the largest always, nearer ones around the face where none is enlarged.

    Returns:
        `whole` first, then what there is of `half` and `close`, their sides at least `resolution`.
    """
    crops: dict[Framing, Crop] = {"whole": largest_crop(size, face, focus)}
    last = min(size)
    for framing, faces in SIDE_IN_FACES.items() if face else ():
        assert face is not None
        side = round(faces * max(face.width, face.height))
        if resolution <= side <= MOST_OF_THE_NEXT * last:
            crops[framing] = _around(size, face, (side, side), FACE_HEIGHT_IN_CROP[framing])
            last = side
    return crops


def cut(image: Image.Image, crop: Crop, shape: Shape, scale: float = 1.0) -> Image.Image:
    """Cut a part out and scale it to `shape` in one pass.

    Args:
        image: The picture.
        crop: The part, in the pixels of the original.
        shape: Width and height of what is returned.
        scale: How many times larger than `image` the original is.
    """
    left, top, wide, high = (value / scale for value in crop)
    box = (left, top, min(left + wide, image.width), min(top + high, image.height))
    return image.resize(shape, Image.Resampling.LANCZOS, box=box)


def _around(size: tuple[int, int], face: Box, part: tuple[int, int], share: float) -> Crop:
    head, (wide, high) = head_of(face, size), part
    left = _holding(face.left + face.width / 2 - wide / 2, wide, head.left, head.width)
    top = _holding(face.top + face.height / 2 - high * share, high, head.top, head.height)
    left, top = _holding(left, wide, face.left, face.width), _holding(top, high, face.top, face.height)
    return _clamp(left, size[0] - wide), _clamp(top, size[1] - high), wide, high


def _holding(start: float, side: int, first: int, length: int) -> int:
    """Move a window of `side` pixels as little as it takes to hold `length` pixels from `first`, if it can."""
    return round(start) if length > side else max(min(round(start), first), first + length - side)


def _clamp(value: int, highest: int) -> int:
    return max(0, min(value, highest))
