"""Averages of gradients in 8 bits: logarithms relative to the largest of each block, rounded by chance.

After Dettmers et al. 2021, arXiv:2110.02861. The average of squares moves by a thousandth a step, less than its codes
are apart: rounded to the nearest it would stand still.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256
"""Elements that share a largest value."""
MEAN_OCTAVES, SQUARE_OCTAVES = 14.0, 40.0
"""How far below the largest of a block the averages reach, in powers of two: codes are 8 and 11 % apart."""
MEAN_LEVELS, SQUARE_LEVELS = 127, 255
"""The highest codes; the sign of the mean takes a bit."""


def averages_of(weight: Tensor) -> dict[str, Tensor]:
    """Averages that are still nothing: codes in the order the weight lies in, and the largest of each block."""
    blocks = -(-weight.numel() // BLOCK)
    return {
        "mean": torch.zeros(weight.numel(), dtype=torch.int8, device=weight.device),
        "square": torch.zeros(weight.numel(), dtype=torch.uint8, device=weight.device),
        "mean_top": torch.zeros(blocks, device=weight.device),
        "square_top": torch.zeros(blocks, device=weight.device),
    }


def magnitudes(codes: Tensor, tops: Tensor, octaves: float, levels: int) -> Tensor:
    """What codes stand for.

    Args:
        codes: From 0, which stands for nothing, to `levels`; shape `(N,)`.
        tops: The largest magnitude of each block, shape `(ceil(N / BLOCK),)`.
        octaves: How many powers of two the codes span.
        levels: The highest code, which stands for the largest magnitude.
    """
    found = torch.exp2(((codes - 1) / (levels - 1) - 1) * octaves)
    return torch.where(codes > 0, found, 0.0) * tops.repeat_interleave(BLOCK)[: len(codes)]


def codes_of(values: Tensor, octaves: float, levels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Codes of magnitudes, and the largest of each block; between two codes chance decides, so that the mean is kept.

    Args:
        values: Not negative, shape `(N,)`.
        octaves: How many powers of two the codes span; what is smaller becomes the smallest, or nothing, by chance.
        levels: The highest code.
        generator: Draws the chances.
    """
    padded = torch.nn.functional.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
    tops = padded.amax(1)
    share = values / torch.where(tops > 0, tops, 1.0).repeat_interleave(BLOCK)[: len(values)]
    height = (torch.log2(share.clamp(min=1e-30)) / octaves + 1) * (levels - 1)  # from 0 to levels - 1
    low = height.clamp(0, levels - 2).floor()
    below, above = (torch.exp2(((low + up) / (levels - 1) - 1) * octaves) for up in (0, 1))
    chance = torch.rand(len(values), generator=generator, device=values.device)
    between = low + 1 + (chance * (above - below) < share - below)
    codes = torch.where(height < 0, (chance * 2.0**-octaves < share).float(), between)
    return codes, tops
