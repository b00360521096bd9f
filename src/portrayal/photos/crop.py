"""Choose the squares of a photo that show the subject, and cut them out."""

from __future__ import annotations

from typing import Final, Literal

from PIL import Image

from portrayal.photos.faces import Box

Square = tuple[int, int, int]
"""Left, top and side, in pixels."""

Framing = Literal["whole", "half", "close"]
"""The largest square; down to the waist; head and shoulders."""

FACE_HEIGHT_IN_CROP: Final[dict[Framing, float]] = {"whole": 0.4, "half": 0.3, "close": 0.42}
"""Where the middle of the face should lie in the square, from its top: room for shoulders, not for sky."""

SIDE_IN_FACES: Final[dict[Framing, float]] = {"half": 6.0, "close": 3.2}
"""Side of a square in heights of the face; a head with its hair is about one and a half of them."""

MOST_OF_THE_NEXT: Final = 0.7
"""A nearer square is cut only if its side is at most this share of the next one's: otherwise both show the same."""

HEAD_ABOVE, HEAD_BESIDE, HEAD_BELOW = 0.6, 0.3, 0.2
"""What the head has beyond the face's box, in its heights and widths: hair, ears, chin."""

UPWARD_BIAS: Final = 1 / 3
"""Share of what an upright photo loses that is taken from its top when nothing is known; heads are high up."""


def head_of(face: Box, size: tuple[int, int]) -> Box:
    """The whole head around a face, as far as the picture shows it."""
    left = max(0, round(face.left - HEAD_BESIDE * face.width))
    top = max(0, round(face.top - HEAD_ABOVE * face.height))
    right = min(size[0], round(face.left + (1 + HEAD_BESIDE) * face.width))
    bottom = min(size[1], round(face.top + (1 + HEAD_BELOW) * face.height))
    return Box(left, top, right - left, bottom - top)


def square_crop(size: tuple[int, int], face: Box | None, focus: tuple[float, float] | None = None) -> Square:
    """Place the largest square in a picture: `(left, top, side)`.

    The side is the whole short side, so what is known only moves the window: to the face's middle across, to
    `FACE_HEIGHT_IN_CROP` down, never through the face, and never through the head if the square can hold it.

    Args:
        size: Width and height of the upright picture.
        face: The subject's face, if one was found.
        focus: Without a face, the point to centre on; nothing leans upward.
    """
    width, height = size
    side = min(size)
    if face is not None:
        return _around(size, face, side, FACE_HEIGHT_IN_CROP["whole"])
    if focus is None:
        return (width - side) // 2, round((height - side) * UPWARD_BIAS), side
    return _clamp(round(focus[0] - side / 2), width - side), _clamp(round(focus[1] - side / 2), height - side), side


def subject_squares(
    size: tuple[int, int], face: Box | None, focus: tuple[float, float] | None, resolution: int
) -> dict[Framing, Square]:
    """The squares a photo is worth: the largest always, nearer ones around the face where none is enlarged.

    Returns:
        `whole` first, then what there is of `half` and `close`, their sides at least `resolution`.
    """
    squares: dict[Framing, Square] = {"whole": square_crop(size, face, focus)}
    last = min(size)
    for framing, faces in SIDE_IN_FACES.items() if face else ():
        assert face is not None
        side = round(faces * max(face.width, face.height))
        if resolution <= side <= MOST_OF_THE_NEXT * last:
            squares[framing] = _around(size, face, side, FACE_HEIGHT_IN_CROP[framing])
            last = side
    return squares


def cut_square(image: Image.Image, crop: Square, resolution: int, scale: float = 1.0) -> Image.Image:
    """Cut the square out and scale it to `resolution` in one pass.

    Args:
        image: The picture.
        crop: The square, in the pixels of the original.
        resolution: Side of what is returned.
        scale: How many times larger than `image` the original is.
    """
    left, top, side = (value / scale for value in crop)
    box = (left, top, min(left + side, image.width), min(top + side, image.height))
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)


def _around(size: tuple[int, int], face: Box, side: int, share: float) -> Square:
    head = head_of(face, size)
    left = _holding(face.left + face.width / 2 - side / 2, side, head.left, head.width)
    top = _holding(face.top + face.height / 2 - side * share, side, head.top, head.height)
    left, top = _holding(left, side, face.left, face.width), _holding(top, side, face.top, face.height)
    return _clamp(left, size[0] - side), _clamp(top, size[1] - side), side


def _holding(start: float, side: int, first: int, length: int) -> int:
    """Move a window of `side` pixels as little as it takes to hold `length` pixels from `first`, if it can."""
    return round(start) if length > side else max(min(round(start), first), first + length - side)


def _clamp(value: int, highest: int) -> int:
    return max(0, min(value, highest))
