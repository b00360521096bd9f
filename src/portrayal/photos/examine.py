"""A look at each photo by itself, before anything is decided: what can be read, what is measured, what is cut out.

The bad ones, the double ones and those to be left out are set aside, each with the reason.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from portrayal.errors import UsageError
from portrayal.photos.crop import largest_crop, nearest_bucket, subject_crops
from portrayal.photos.cuts import Cut, chosen_by_hand, cut_part, subject_of
from portrayal.photos.faces import find_faces
from portrayal.photos.found import PhotoFile
from portrayal.photos.inspect import Bits, near_duplicates, perceptual_bits, pixel_hash
from portrayal.photos.look import Look, look_at
from portrayal.photos.masks import read_mask
from portrayal.photos.read import Finding, UnusablePhotoError, decode_photo
from portrayal.photos.settings import PrepareSettings
from portrayal.photos.shelf import Kept, Shelf
from portrayal.photos.sources import find_photos
from portrayal.sentences import say

THREADS = 4
"""Decoding releases the GIL; each thread holds one full picture, up to 0.6 GB at 200 megapixels."""

LOOKED_AT = 500
VIEW_SIDE = 256

Use = Literal["both", "training", "judging"]


@dataclass(frozen=True)
class ExaminedPhoto:
    """What is kept of a photo once its full picture is let go."""

    id: str
    name: str
    sha256: str
    """Of its file."""

    size: tuple[int, int]
    cuts: tuple[Cut, ...]
    """Squares, the largest first."""

    bucket: Cut | None
    """In place of the largest square, to train on; nothing when squares are asked for."""

    look: Look
    viewed: Kept
    """A copy of at most `VIEW_SIDE` pixels, for the contact sheet and for counting people."""

    pixels: str
    bits: Bits
    caption: str
    has_caption: bool
    findings: tuple[Finding, ...]

    @property
    def square(self) -> Image.Image:
        """The largest square."""
        return self.cuts[0].picture.load()

    @property
    def view(self) -> Image.Image:
        """The whole photo, at most `VIEW_SIDE` pixels long."""
        return self.viewed.load()

    @property
    def crop_in_view(self) -> tuple[float, float, float, float]:
        """What is trained on, in the pixels of the view: left, top, width and height."""
        scale = self.viewed.size[0] / self.size[0]
        left, top, width, height = self.training_cuts[0].crop
        return left * scale, top * scale, width * scale, height * scale

    @property
    def training_cuts(self) -> tuple[Cut, ...]:
        """What is cut out of the photo to be trained on."""
        return self.cuts if self.bucket is None else (self.bucket, *self.cuts[1:])

    def pictures(self, *, judged_by: bool) -> Iterator[tuple[str, Cut, Use]]:
        """What is kept of the photo: id, cut and use of each; `judged_by` is whether it is held out at times."""
        if self.bucket is not None:
            yield f"{self.id}-bucket", self.bucket, "training"
        if self.bucket is None or judged_by:
            yield self.id, self.cuts[0], "both" if self.bucket is None else "judging"
        for part in self.cuts[1:]:
            yield f"{self.id}-{part.framing}", part, "training"


@dataclass(frozen=True)
class Examined:
    """What a source holds, before anything is decided."""

    files: int
    photos: list[ExaminedPhoto]
    """Readable and different ones, by name."""

    findings: list[Finding]


def examine_photos(
    source: Path, settings: PrepareSettings, on_progress: Callable[[int, int], None] | None = None
) -> Examined:
    """Read and measure all photos; set the bad ones, the double ones and those to be left out aside.

    Raises:
        PhotosError: If the source cannot be opened.
        UsageError: If a photo that should be left out is not there.
    """
    found = find_photos(source)
    findings = list(found.findings)
    files = [file for file in found.photos if file.name not in settings.drop]
    _check_names(source, settings, {file.name for file in found.photos})
    findings += [Finding(name, "dropped", say("photo.dropped"), "skipped") for name in sorted(settings.drop)]
    examined: list[ExaminedPhoto] = []
    shelf = Shelf()
    with warnings.catch_warnings(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        # Phones break the EXIF and MPO standards often and harmlessly, and Pillow warns each time.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for done, outcome in enumerate(threads.map(lambda file: _examine(file, settings, shelf), files), start=1):
            if isinstance(outcome, Finding):
                findings.append(outcome)
            else:
                examined.append(outcome)
                findings.extend(outcome.findings)
            if on_progress is not None:
                on_progress(done, len(files))
    kept, doubles = _without_duplicates(examined)
    findings += doubles
    alike = near_duplicates({one.id: one.bits for one in kept})
    names = {one.id: one.name for one in kept}
    for photo, leader in alike.items():
        message = say("photo.near_duplicate", name=names[leader])
        findings.append(Finding(names[photo], "near_duplicate", message, "kept"))
    return Examined(len(files), kept, findings)


def _check_names(source: Path, settings: PrepareSettings, names: Collection[str]) -> None:
    """Refuse settings for photos that are not there."""
    for setting in ("drop", "keep", "crop"):
        missing = sorted(set(getattr(settings, setting)) - set(names))
        if missing:
            raise UsageError(
                f"prepare.{setting} names {', '.join(missing)}, which {source} does not hold.",
                "Names are those of the findings.",
            )


def _examine(file: PhotoFile, settings: PrepareSettings, shelf: Shelf) -> ExaminedPhoto | Finding:
    nearer = settings.crops == "several" or file.name in settings.crop
    try:
        content = file.content()
        photo = decode_photo(file.name, content, settings.background, None if nearer else 2 * settings.resolution)
    except UnusablePhotoError as error:
        return error.finding
    mask, findings = read_mask(file, content, photo.size, photo.image.size)
    small = _reduced(photo.image)
    faces = find_faces(small, settings.yunet)
    face, middle = subject_of(photo, small, faces, mask)
    cut_out = partial(cut_part, photo, mask, shelf)
    square, bucket = (settings.resolution, settings.resolution), None
    if file.name in settings.crop:
        cuts = [cut_out("whole", chosen_by_hand(photo, settings), square)]
    else:
        crops = subject_crops(photo.size, face, middle, settings.resolution)
        cuts = [cut_out(framing, crop, square) for framing, crop in crops.items() if nearer or framing == "whole"]
        if settings.shape == "bucket":
            shape = nearest_bucket(photo.size, settings.resolution)
            bucket = cut_out("whole", largest_crop(photo.size, face, middle, shape), shape)
    return ExaminedPhoto(
        id=photo.id,
        name=photo.name,
        sha256=photo.sha256,
        size=photo.size,
        cuts=tuple(cuts),
        bucket=bucket,
        look=look_at(small, faces, photo.size),
        viewed=shelf.put(ImageOps.contain(small, (VIEW_SIDE, VIEW_SIDE), Image.Resampling.LANCZOS)),
        pixels=pixel_hash(photo.image),
        bits=perceptual_bits(small),
        caption=file.caption or settings.instance_prompt,
        has_caption=file.caption is not None,
        findings=(*photo.findings, *findings, *_small(photo.name, bucket or cuts[0])),
    )


def _reduced(image: Image.Image) -> Image.Image:
    """A copy to look at, its short side `LOOKED_AT` or little more: each look at all pixels would cost 20 ms."""
    factor = min(image.size) // LOOKED_AT
    return image.reduce(factor) if factor > 1 else image


def _small(name: str, found: Cut) -> Iterator[Finding]:
    if not found.upscaled:
        return
    short, made = min(found.crop[2:]), min(found.picture.size)
    message = say("photo.small", n=short, made=made)
    yield Finding(name, "small", message, "kept")


def _without_duplicates(examined: Sequence[ExaminedPhoto]) -> tuple[list[ExaminedPhoto], list[Finding]]:
    """Keep one of each set of equal pictures: one with a caption first, then by content, so that names don't count."""
    first: dict[str, ExaminedPhoto] = {}
    findings = []
    for one in sorted(examined, key=lambda one: (not one.has_caption, one.sha256, one.name)):
        original = first.setdefault(one.pixels, one)
        if original is not one:
            message = say("photo.duplicate", name=original.name)
            findings.append(Finding(one.name, "duplicate", message, "skipped"))
    kept = sorted(first.values(), key=lambda one: one.name)
    return kept, sorted(findings, key=lambda finding: finding.file)
