"""Find photos that are the same, or almost the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

Bits = npt.NDArray[np.bool_]

NEAR_DUPLICATE_BITS = 48
"""Of 256 bits, how many may differ between near-duplicates.

Measured: the same shot saved again or recoloured differs by 0-8, cropped by 2 % by up to 38; 36 pairs of a drawn
burst (head moved, tilted, smiling) by 6-34; 918 pairs of different shots of one person by 84 or more; unrelated
pictures by 106 or more. With imagehash's usual 64 bits the burst reaches 10 and the different shots begin at 14.
"""


def pixel_hash(image: Image.Image) -> str:
    """Hash of size and pixels: equal for one picture stored twice without loss."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def perceptual_bits(image: Image.Image) -> Bits:
    """Perceptual hash as 256 flat bits: which low frequencies of the picture lie above their median."""
    # imagehash's own size and filter, in two passes: a fifth of the time on a large photo, one or two bits apart.
    small = image.convert("L").resize((64, 64), Image.Resampling.LANCZOS, reducing_gap=4.0)
    bits: Bits = imagehash.phash(small, hash_size=16).hash.ravel()
    return bits


def near_duplicates(bits: Mapping[str, Bits]) -> dict[str, str]:
    """Group photos that look almost the same.

    Likeness is passed on: if A is like B and B like C, the three are one group, so that a burst stays together.

    Args:
        bits: Perceptual bits of each photo, by id.

    Returns:
        For every photo of a group but its first, by the order of `bits`, the id of the first.
    """
    ids = list(bits)
    table = np.array([bits[photo] for photo in ids], dtype=bool).reshape(len(ids), len(next(iter(bits.values()), ())))
    leaders = np.arange(len(ids))  # of each photo's group so far, by place
    for index in range(len(ids)):
        alike = (table[:index] != table[index]).sum(axis=1) <= NEAR_DUPLICATE_BITS
        groups = np.unique(leaders[:index][alike])
        if len(groups):
            leaders[index] = groups[0]
            leaders[np.isin(leaders, groups)] = groups[0]
    return {photo: ids[leader] for photo, leader in zip(ids, leaders, strict=True) if photo != ids[leader]}
