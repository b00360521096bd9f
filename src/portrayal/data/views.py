"""Views of a photo to train on: itself, slightly smaller crops of it, and the mirror images of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from PIL import Image, ImageOps

from portrayal.randomness import generator_for

SMALLEST_CROP: Final = 0.9
"""Share of a picture's sides that a crop keeps at least: enlarged to the picture's size it stays sharp, and a head that
stands in the picture is hardly cut."""


@dataclass(frozen=True)
class Views:
    """Which views each photo has.

    Attributes:
        seed: The run's, not a training's: all trainings of a run read the same views, encoded once.
        crops: Crops of each photo beside the whole.
        flip: Whether the mirror image of each is a view too.
    """

    seed: int = 0
    crops: int = 0
    flip: bool = False

    def __len__(self) -> int:
        return (1 + self.crops) * (1 + self.flip)

    def take(self, image: Image.Image, name: str, number: int) -> Image.Image:
        """One view of a picture, or of its mask, in the same size; number 0 is the picture itself."""
        mirrored, crop = divmod(number, 1 + self.crops)
        if crop:
            left, top, right, bottom = self.window(name, crop)
            box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
            image = image.resize(image.size, Image.Resampling.LANCZOS, box=box)
        return ImageOps.mirror(image) if mirrored else image

    def window(self, name: str, crop: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a crop, as shares of the sides: a function of seed, photo and number alone."""
        generator = generator_for(self.seed, f"data.crops.{name}", step=crop)
        lost, left, top = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        lost *= 1 - SMALLEST_CROP
        return left * lost, top * lost, 1 - (1 - left) * lost, 1 - (1 - top) * lost


ITSELF: Final = Views()
"""The picture alone."""
