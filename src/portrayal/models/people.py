"""How many people a picture of the drawn world shows: no face detector knows drawings, so `pocket` brings its own.

Shapes: B pictures, H and W their height and width in pixels, h and w those of the maps, an eighth of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from portrayal.errors import WeightsError
from portrayal.parallel import LOADING
from portrayal.pocket import embedded_folder

SIDE: Final = 128
"""Short side of the copy that is looked at."""

STRIDE: Final = 8
LONGEST: Final = 4
"""Pictures longer than this many times their short side are looked at as if they ended there."""

LEAST_SURE: Final = 0.5
"""A peak of the map below this is no head."""

APART: Final = 0.6
"""Heads nearer than this share of the larger one's height are one."""


class Head(NamedTuple):
    """A head from crown to chin, in shares of the picture's short side."""

    x: float
    y: float
    height: float
    score: float
    """How sure the finder is, 0 to 1."""


class Block(nn.Module):
    """A depthwise and a pointwise convolution (Howard et al. 2017, arXiv:1704.04861)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        self.point = nn.Conv2d(channels, out, 1)
        self.residual = channels == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, H, W)` → `(B, out, H/stride, W/stride)`."""
        y = functional.silu(self.point(self.depth(x)))
        return x + y if self.residual else y


class HeadFinder(nn.Module):
    """Heads as points (CenterNet, Zhou et al. 2019, arXiv:1904.07850), in twelve thousand weights.

    Fully convolutional: a picture may have any proportions, and each place sees 160 pixels around it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.blocks = nn.Sequential(Block(16, 24, 3, 2), Block(24, 36, 3, 2), *(Block(36, 36, 5, 1) for _ in range(4)))
        self.out = nn.Conv2d(36, 2, 3, padding=1)
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias[:1], -4.0)  # most places are no heads

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits that a head is centred at a place, and the log of its height in pixels, each `(B, h, w)`.

        Args:
            pixels: `(B, 3, H, W)` in [-1, 1], both sides multiples of 8.
        """
        found = self.out(self.blocks(functional.silu(self.stem(pixels))))
        return found[:, 0], found[:, 1] + np.log(SIDE / 4)


@torch.no_grad()
def find_heads(picture: Image.Image, finder: HeadFinder) -> list[Head]:
    """The heads in a picture of any size, the surest first."""
    chances, heights = finder(as_pixels(picture).to(next(finder.parameters()).device))
    return peaks(chances[0].sigmoid(), heights[0].exp())


def count_people(pictures: Sequence[Image.Image], finder: HeadFinder) -> list[int]:
    """How many heads each picture shows, 0 where none is sure."""
    return [len(find_heads(picture, finder)) for picture in pictures]


def as_pixels(picture: Image.Image) -> Tensor:
    """A copy as the finder wants it: `(1, 3, H, W)` in [-1, 1], the short side `SIDE`."""
    scale = SIDE / min(picture.size)
    width, height = (min(LONGEST * SIDE, max(SIDE, STRIDE * round(side * scale / STRIDE))) for side in picture.size)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 127.5 - 1


def peaks(chances: Tensor, heights: Tensor) -> list[Head]:
    """Heads where the map is highest around, the less sure of two that overlap left out.

    Args:
        chances: That a head is centred at a place, `(h, w)`.
        heights: Of the heads there, in pixels, `(h, w)`.
    """
    highest = functional.max_pool2d(chances[None], 3, 1, 1)[0]
    found: list[Head] = []
    for y, x in ((chances == highest) & (chances > LEAST_SURE)).nonzero().tolist():
        place = ((x + 0.5) * STRIDE / SIDE, (y + 0.5) * STRIDE / SIDE)
        found.append(Head(*place, float(heights[y, x]) / SIDE, float(chances[y, x])))
    kept: list[Head] = []
    for head in sorted(found, key=lambda head: -head.score):
        if all(np.hypot(head.x - other.x, head.y - other.y) > APART * max(head.height, other.height) for other in kept):
            kept.append(head)
    return kept


@lru_cache(maxsize=1)
def embedded_head_finder() -> HeadFinder:
    """`pocket`'s own, on the CPU.

    Raises:
        WeightsError: If this installation lacks it.
    """
    from safetensors.torch import load_file

    file = embedded_folder("people") / "model.safetensors"
    if not file.is_file():
        raise WeightsError(f"{file} is missing.", "Install portrayal again.")
    with LOADING:
        finder = HeadFinder()
        finder.load_state_dict({name: tensor.float() for name, tensor in load_file(file).items()})  # kept in 8 bits
    return finder.eval().requires_grad_(False)
