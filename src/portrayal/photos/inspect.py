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
    bits: Bits = imagehash.phash(image, hash_size=16).hash.ravel()
    return bits


def near_duplicates(bits: Mapping[str, Bits]) -> dict[str, str]:
    """Group photos that look almost the same.

    Likeness is passed on: if A is like B and B like C, the three are one group, so that a burst stays together.

    Args:
        bits: Perceptual bits of each photo, by id.

    Returns:
        For every photo of a group but its first, by the order of `bits`, the id of the first.
    """
    first = {photo: photo for photo in bits}
    ids = list(bits)
    for index, one in enumerate(ids):
        for other in ids[:index]:
            if int((bits[one] != bits[other]).sum()) <= NEAR_DUPLICATE_BITS:
                merged = {first[one], first[other]}
                earliest = min(merged, key=ids.index)
                first.update({photo: earliest for photo in ids if first[photo] in merged})
    return {photo: leader for photo, leader in first.items() if photo != leader}
