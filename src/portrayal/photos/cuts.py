"""What is cut out of a photo: where its subject is, and parts of photo and mask at the size of a training picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from portrayal.errors import UsageError
from portrayal.photos.crop import Crop, Framing, Shape, cut
from portrayal.photos.faces import Box, Face
from portrayal.photos.masks import SUBJECT
from portrayal.photos.read import RawPhoto
from portrayal.photos.saliency import focus, weighted_middle
from portrayal.photos.settings import PrepareSettings
from portrayal.photos.shelf import Kept, Shelf


@dataclass(frozen=True)
class Cut:
    """One picture made of a photo, for training or judging."""

    framing: Framing
    crop: Crop
    picture: Kept
    mask: Image.Image | None

    @property
    def upscaled(self) -> bool:
        """Whether the picture is larger than what was cut out."""
        return any(made > found for made, found in zip(self.picture.size, self.crop[2:], strict=True))


def cut_part(
    photo: RawPhoto, mask: Image.Image | None, shelf: Shelf, framing: Framing, crop: Crop, shape: Shape
) -> Cut:
    """A part of a photo and of its mask, at the size of a training picture."""
    scale = photo.size[0] / photo.image.width
    picture = shelf.put(cut(photo.image, crop, shape, scale))
    return Cut(framing, crop, picture, _cut_mask(mask, crop, shape, scale))


def _cut_mask(mask: Image.Image | None, crop: Crop, shape: Shape, scale: float) -> Image.Image | None:
    """The mask of a part, unless the part shows none of the subject."""
    part = cut(mask, crop, shape, scale) if mask else None
    return part if part and np.asarray(part).max() >= SUBJECT else None


def chosen_by_hand(photo: RawPhoto, settings: PrepareSettings) -> Crop:
    """The square that the settings name for a photo."""
    left, top, side = settings.crop[photo.name]
    if left + side > photo.size[0] or top + side > photo.size[1]:
        raise UsageError(
            f"prepare.crop of {photo.name}: the square [{left}, {top}, {side}] does not lie in its "
            f"{photo.size[0]}\N{MULTIPLICATION SIGN}{photo.size[1]} pixels.",
            "Give left, top and side in pixels of the upright photo.",
        )
    return left, top, side, side


def subject_of(
    photo: RawPhoto, small: Image.Image, faces: Sequence[Face], mask: Image.Image | None
) -> tuple[Box | None, tuple[float, float] | None]:
    """The largest of the faces found in a smaller copy; without one the middle of the mask, or of what stands out."""
    scale = photo.size[0] / small.width
    if faces:
        return faces[0].box.scaled(scale), None
    if mask is not None:
        return None, weighted_middle(np.asarray(mask, np.float32), photo.size)
    x, y = focus(small)
    return None, (x * scale, y * scale)
