"""Masks, white where the subject is: read those that users give, `photo.mask.png`; judge those that a model makes."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image

from portrayal.photos.found import PhotoFile
from portrayal.photos.read import ORIENTATION, UPRIGHT, Finding, UnusablePhotoError, decode_photo
from portrayal.sentences import say

ROUNDING: Final = 0.02
"""By how much the proportions of a mask may differ from its photo's, when both were scaled."""

SUBJECT: Final = 128
"""From this grey on a mask means the subject."""

LEAST_MARKED, MOST_MARKED = 0.01, 0.98
"""Share of a picture between which a mask that a model made is believed."""


def read_mask(
    file: PhotoFile, content: bytes, size: tuple[int, int], wanted: tuple[int, int]
) -> tuple[Image.Image | None, tuple[Finding, ...]]:
    """Read the mask of a photo, if it has one.

    A mask is taken as a person sees it. Some tools make masks of the photo's stored pixels, before EXIF turns them:
    a mask that lies where the upright photo stands is turned as the photo is.

    Args:
        file: The photo's file.
        content: Its bytes, for the orientation.
        size: Width and height of the upright original.
        wanted: Size of the mask to return.

    Returns:
        The mask, mode `L`, of the size `wanted`, or nothing; and what a person should know about it.
    """
    if file.mask is None:
        return None, ()
    try:
        mask = decode_photo(f"{file.name}: mask", file.mask(), "black").image.convert("L")
    except UnusablePhotoError as error:
        return None, (_ignored(file, say("mask.unusable", why=error.finding.message)),)
    turn = None if _alike(mask.size, size) else _turn(content)
    mask = mask if turn is None else mask.transpose(turn)
    if not _alike(mask.size, size):
        found, due = (f"{width}\N{MULTIPLICATION SIGN}{height}" for width, height in (mask.size, size))
        return None, (_ignored(file, say("mask.other_shape", found=found, due=due)),)
    mask = mask.resize(wanted, Image.Resampling.BILINEAR)
    if int(mask.getextrema()[1]) < SUBJECT:  # type: ignore[arg-type]  # one band: two numbers
        return None, (_ignored(file, say("mask.black")),)
    return mask, ()


def useless_mask(name: str, mask: Image.Image, noun: str) -> Finding | None:
    """Say that a mask made by a model marks hardly anything, or all.

    Args:
        name: The photo's.
        mask: Mode `L`.
        noun: What was looked for.
    """
    share = sum(mask.histogram()[SUBJECT:]) / (mask.width * mask.height)
    if LEAST_MARKED <= share <= MOST_MARKED:
        return None
    key = "mask.hardly_any" if share < LEAST_MARKED else "mask.all_of_it"
    message = say(key, noun=noun, share=f"{share:.0%}")
    return Finding(name, "mask", message, "kept", round(share, 3))


def _ignored(file: PhotoFile, message: str) -> Finding:
    return Finding(file.name, "mask", say("mask.ignored", why=message), "kept")


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= ROUNDING


def _turn(content: bytes) -> Image.Transpose | None:
    """How EXIF turns the photo; it was decoded before, so only its EXIF can be broken."""
    try:
        with Image.open(BytesIO(content)) as opened:
            return UPRIGHT.get(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow's reader of EXIF raises anything on broken bytes
        return None
