"""Randomness as a function of (seed, stage, rank, step): the same numbers on every device, whenever they are asked for.

No global generator is read or moved, so resuming at a step needs nothing but the step's number.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, stage: str, rank: int = 0, step: int = 0) -> int:
    """A 63-bit seed that depends on all four and on nothing else.

    Args:
        seed: The run's seed.
        stage: What the numbers are for, such as `"train.noise"` or `"images.street"`; stages never share numbers.
        rank: Process number in a distributed run.
        step: Step, epoch or picture number.
    """
    digest = hashlib.sha256(f"{seed}/{stage}/{rank}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(seed: int, stage: str, rank: int = 0, step: int = 0) -> torch.Generator:
    """A CPU generator seeded by :func:`derived_seed`; draw on the CPU and move, so that devices agree."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, stage, rank, step))
