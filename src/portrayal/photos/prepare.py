"""From a folder of photos to upright square pictures, captions, findings and a held-out split."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from portrayal.errors import PhotosError, UsageError
from portrayal.photos.crop import Crop, Framing, Shape, cut, largest_crop, nearest_bucket, subject_crops
from portrayal.photos.faces import Box, Face, find_faces
from portrayal.photos.found import PhotoFile
from portrayal.photos.inspect import Bits, near_duplicates, perceptual_bits, pixel_hash
from portrayal.photos.look import Look, look_at
from portrayal.photos.masks import SUBJECT, read_mask
from portrayal.photos.read import IMAGE_ENDINGS, Finding, RawPhoto, UnusablePhotoError, decode_photo
from portrayal.photos.saliency import focus, weighted_middle
from portrayal.photos.shelf import Kept, Pictures, Shelf
from portrayal.photos.sources import find_photos

THREADS = 4
"""Decoding releases the GIL; each thread holds one full picture, up to 0.6 GB at 200 megapixels."""

LOOKED_AT = 500
VIEW_SIDE = 256
MAX_HELDOUT = 4
MIN_TRAINING = 2
FINDINGS_SHOWN = 5

Use = Literal["both", "training", "judging"]


@dataclass(frozen=True)
class PrepareSettings:
    """How photos become training pictures."""

    resolution: int
    """Side of the pictures in pixels."""

    instance_prompt: str
    """Caption of a photo without a `.txt`."""

    num_heldout: int | None
    """Photos kept out of a training; see :func:`choose_folds`."""

    seed: int
    """Chooses which photos are held out."""

    folds: int = 1
    """Disjoint sets of photos that are held out in turn."""

    min_photos: int = 3
    """Fewer different photos than this are refused."""

    background: str = "white"
    """Colour under what is transparent."""

    crops: Literal["one", "several"] = "one"
    """The largest square of each photo, or nearer ones of training photos besides, where none need be enlarged."""

    shape: Literal["square", "bucket"] = "square"
    """Whether photos to train on become squares, or the shape nearest to their own; those to judge by are squares."""

    yunet: Path | None = None
    """YuNet's file, to find faces with; nothing means OpenCV's cascades."""

    drop: tuple[str, ...] = ()
    """Names of photos to leave out."""

    keep: tuple[str, ...] = ()
    """Names of photos to keep whatever is found; whoever gives advice heeds it."""

    crop: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Squares chosen by hand by name: left, top and side in the upright photo."""


@dataclass(frozen=True)
class PreparedPhoto:
    """One photo of the dataset, and what was done to it."""

    id: str
    """The photo's; of its nearer squares, with `-half` or `-close` after it."""

    source_name: str
    """File name, never a path."""

    width: int
    height: int
    """Size of the upright original."""

    crop: Crop
    """Left, top, width and height of what was cut out, in the upright original."""

    shape: Shape
    """Width and height of the picture made of it: a square of the resolution, or a bucket."""

    upscaled: bool
    """Whether what was cut out was smaller than that picture."""

    caption: str
    caption_from: Literal["file", "template", "captioner"]
    fold: int | None
    """Which part of the photos it belongs to, from 0: held out from trainings on that fold, trained on in all others;
    nothing when it is never held out."""

    near_duplicate_of: str | None
    """Id of the first photo of its group of look-alikes; nothing for that first one."""

    framing: Framing = "whole"
    """Which of the photo's squares this is."""

    use: Use = "both"
    """What the picture is for: photos are judged by in their largest square, and may be trained on in other cuts."""

    masked: bool = False
    """Whether a mask says where the subject is."""

    @property
    def photo_id(self) -> str:
        """Id of the photo this is a square of."""
        return self.id.split("-")[0]


@dataclass(frozen=True)
class Prepared:
    """The outcome of :func:`prepare_photos`."""

    photos: list[PreparedPhoto]
    """By file name."""

    images: Mapping[str, Image.Image]
    """Square RGB pictures by photo id."""

    findings: list[Finding]

    looks: dict[str, Look] = field(default_factory=dict)
    """What was measured of each photo, by its id."""

    masks: dict[str, Image.Image] = field(default_factory=dict)
    """Masks of the same squares by photo id, mode `L`, white where the subject is; of those that have one."""


@dataclass(frozen=True)
class _Cut:
    """One picture made of a photo, for training or judging."""

    framing: Framing
    crop: Crop
    picture: Kept
    mask: Image.Image | None

    @property
    def upscaled(self) -> bool:
        """Whether the picture is larger than what was cut out."""
        return any(made > found for made, found in zip(self.picture.size, self.crop[2:], strict=True))


@dataclass(frozen=True)
class ExaminedPhoto:
    """What is kept of a photo once its full picture is let go."""

    id: str
    name: str
    sha256: str
    """Of its file."""

    size: tuple[int, int]
    cuts: tuple[_Cut, ...]
    """Squares, the largest first."""

    bucket: _Cut | None
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
    def training_cuts(self) -> tuple[_Cut, ...]:
        """What is cut out of the photo to be trained on."""
        return self.cuts if self.bucket is None else (self.bucket, *self.cuts[1:])

    def pictures(self, *, judged_by: bool) -> Iterator[tuple[str, _Cut, Use]]:
        """What is kept of the photo: id, cut and use of each; `judged_by` is whether it is held out at times."""
        if self.bucket is not None:
            yield f"{self.id}-bucket", self.bucket, "training"
        if self.bucket is None or judged_by:
            yield self.id, self.cuts[0], "both" if self.bucket is None else "judging"
        for part in self.cuts[1:]:
            yield f"{self.id}-{part.framing}", part, "training"


def prepare_photos(
    source: Path, settings: PrepareSettings, on_progress: Callable[[int, int], None] | None = None
) -> Prepared:
    """Read a folder of photos, set the bad and the double ones aside, and make the rest ready for training.

    Args:
        source: A folder, a `.zip` archive or one picture; see :func:`portrayal.photos.sources.find_photos`.
        settings: Resolution, captions and split.
        on_progress: Called with `(photos done, photos in all)` after each photo.

    Returns:
        Photos by file name, their pictures, and everything a person should know about their files. Which photos
        are held out depends on the seed and on what the photos show, not on their names.

    Raises:
        PhotosError: If the folder is missing, or holds too few different readable photos.
        UsageError: If there are too few photos to hold out as many as the settings say.
    """
    return assemble_photos(source, examine_photos(source, settings, on_progress), settings)


def assemble_photos(source: Path, examined: Examined, settings: PrepareSettings) -> Prepared:
    """The second half of :func:`prepare_photos`: from what was seen to a dataset with a split."""
    _check_enough(source, examined.files, len(examined.photos), settings.min_photos, examined.findings)
    return _assemble(examined.photos, examined.findings, settings)


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
    findings += [Finding(name, "dropped", "left out by prepare.drop", "skipped") for name in sorted(settings.drop)]
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
        message = f"it looks almost the same as {names[leader]}; one of them is enough"
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


def choose_folds(
    ids: Collection[str],
    near_duplicates: Mapping[str, str],
    *,
    folds: int,
    num_heldout: int | None,
    seed: int,
) -> dict[str, int]:
    """Deal the photos to judge by into disjoint parts, as a function of the seed and the photos' contents alone.

    Photos are ranked by a hash of seed and id. Look-alikes are never on both sides of a split, for a look-alike in
    training would make the judgement too kind: where every photo has its turn they share a part; where only some have,
    they are never held out.

    Args:
        ids: Ids of all photos.
        near_duplicates: The first photo of its group for each photo that looks like it.
        folds: How many parts.
        num_heldout: Photos of a part; nothing means all photos, dealt evenly, or, with a single part, a fifth, one at
            least and four at most.
        seed: Seed of the ranking.

    Returns:
        Number of the part, from 0, of each photo that is in one.

    Raises:
        UsageError: If there are not enough photos for this, or too many have look-alikes.
        PhotosError: If every photo has a look-alike.
    """
    ranked = sorted(ids, key=lambda photo: hashlib.sha256(f"{seed}:{photo}".encode()).hexdigest())
    if folds > 1 and num_heldout is None:
        return _dealt(ranked, near_duplicates, folds)
    alike = {*near_duplicates.keys(), *near_duplicates.values()}
    candidates = [photo for photo in ranked if photo not in alike]
    if not candidates:
        raise PhotosError(
            f"Each of the {len(ids)} photos looks almost the same as another, so none can be held out to judge by.",
            "Add photos from other moments, places or angles.",
        )
    if num_heldout is None:
        num_heldout = min(MAX_HELDOUT, max(1, round(len(ids) / 5)), len(candidates))
    most = min(len(ids) - MIN_TRAINING, len(candidates) // folds)
    if num_heldout > most:
        because = f", {len(alike)} of them with look-alikes that must be trained on" if alike else ""
        times = f" in each of {folds} folds" if folds > 1 else ""
        raise UsageError(
            f"num_heldout = {num_heldout} is too many for {len(ids)} photos{because}{times}.",
            f"Hold out {most} at most, or add photos." if most else f"Lower study.folds to {len(candidates)}.",
        )
    return {photo: place // num_heldout for place, photo in enumerate(candidates[: folds * num_heldout])}


def _dealt(ranked: Sequence[str], near_duplicates: Mapping[str, str], folds: int) -> dict[str, int]:
    """Every photo in one part, look-alikes together, the parts as even as that allows."""
    groups: dict[str, list[str]] = {}
    for photo in ranked:
        groups.setdefault(near_duplicates.get(photo, photo), []).append(photo)
    if folds > len(groups):
        different = f"{len(groups)} different photos" if len(groups) < len(ranked) else f"{len(ranked)} photos"
        raise UsageError(
            f"study.folds = {folds} is too many for {different}: each fold holds out one or more.",
            f"Set study.folds={len(groups)}, or add photos.",
        )
    parts: list[list[str]] = [[] for _ in range(folds)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).extend(group)
    left = len(ranked) - max(map(len, parts))
    if left < MIN_TRAINING:
        raise UsageError(
            f"{len(ranked)} photos in {folds} folds leave {left} to train on when the largest fold is held out.",
            "Add photos from other moments, places or angles"
            + (f", or set study.folds={len(groups)}." if folds < len(groups) else "."),
        )
    return {photo: number for number, part in enumerate(parts) for photo in part}


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
    face, middle = _subject(photo, small, faces, mask)
    cut_out = partial(_cut_out, photo, mask, shelf)
    square, bucket = (settings.resolution, settings.resolution), None
    if file.name in settings.crop:
        cuts = [cut_out("whole", _by_hand(photo, settings), square)]
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


def _subject(
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


def _by_hand(photo: RawPhoto, settings: PrepareSettings) -> Crop:
    """The square that the settings name for a photo."""
    left, top, side = settings.crop[photo.name]
    if left + side > photo.size[0] or top + side > photo.size[1]:
        raise UsageError(
            f"prepare.crop of {photo.name}: the square [{left}, {top}, {side}] does not lie in its "
            f"{photo.size[0]}\N{MULTIPLICATION SIGN}{photo.size[1]} pixels.",
            "Give left, top and side in pixels of the upright photo.",
        )
    return left, top, side, side


def _cut_out(
    photo: RawPhoto, mask: Image.Image | None, shelf: Shelf, framing: Framing, crop: Crop, shape: Shape
) -> _Cut:
    """A part of a photo and of its mask, at the size of a training picture."""
    scale = photo.size[0] / photo.image.width
    picture = shelf.put(cut(photo.image, crop, shape, scale))
    return _Cut(framing, crop, picture, _cut_mask(mask, crop, shape, scale))


def _cut_mask(mask: Image.Image | None, crop: Crop, shape: Shape, scale: float) -> Image.Image | None:
    """The mask of a part, unless the part shows none of the subject."""
    part = cut(mask, crop, shape, scale) if mask else None
    return part if part and np.asarray(part).max() >= SUBJECT else None


def _small(name: str, found: _Cut) -> Iterator[Finding]:
    if not found.upscaled:
        return
    short, made = min(found.crop[2:]), min(found.picture.size)
    message = f"its short side of {short} pixels is enlarged to {made}; a larger original is sharper"
    yield Finding(name, "small", message, "kept")


def _without_duplicates(examined: Sequence[ExaminedPhoto]) -> tuple[list[ExaminedPhoto], list[Finding]]:
    """Keep one of each set of equal pictures: one with a caption first, then by content, so that names don't count."""
    first: dict[str, ExaminedPhoto] = {}
    findings = []
    for one in sorted(examined, key=lambda one: (not one.has_caption, one.sha256, one.name)):
        original = first.setdefault(one.pixels, one)
        if original is not one:
            message = f"it is the same picture as {original.name}"
            findings.append(Finding(one.name, "duplicate", message, "skipped"))
    kept = sorted(first.values(), key=lambda one: one.name)
    return kept, sorted(findings, key=lambda finding: finding.file)


def _assemble(kept: Sequence[ExaminedPhoto], findings: list[Finding], settings: PrepareSettings) -> Prepared:
    alike = near_duplicates({one.id: one.bits for one in kept})
    folds = choose_folds(
        [one.id for one in kept], alike, folds=settings.folds, num_heldout=settings.num_heldout, seed=settings.seed
    )
    pictures = {name: (one, part, use) for one in kept for name, part, use in one.pictures(judged_by=one.id in folds)}
    photos = [
        PreparedPhoto(
            id=name,
            source_name=one.name,
            width=one.size[0],
            height=one.size[1],
            crop=part.crop,
            shape=part.picture.size,
            upscaled=part.upscaled,
            caption=one.caption,
            caption_from="file" if one.has_caption else "template",
            fold=folds.get(one.id),
            near_duplicate_of=alike.get(one.id),
            framing=part.framing,
            use=use,
            masked=part.mask is not None,
        )
        for name, (one, part, use) in pictures.items()
    ]
    images = Pictures({name: part.picture for name, (_, part, _) in pictures.items()})
    masks = {name: part.mask for name, (_, part, _) in pictures.items() if part.mask is not None}
    looks = {one.id: one.look for one in kept}
    return Prepared(photos, images, findings, looks, masks)


def _check_enough(source: Path, files: int, usable: int, needed: int, findings: Sequence[Finding]) -> None:
    if usable >= needed:
        return
    found = f"{source} holds {files} picture file{'s' * (files != 1)}, {usable} of them usable and different"
    cause = f"{found}; at least {needed} are needed." if files else f"{source} holds no photos."
    lines = [f"  {finding}" for finding in findings[:FINDINGS_SHOWN]]
    if len(findings) > FINDINGS_SHOWN:
        lines.append(f"  and {len(findings) - FINDINGS_SHOWN} more")
    formats = ", ".join(sorted(ending[1:] for ending in IMAGE_ENDINGS & {".jpg", ".png", ".webp", ".heic", ".tiff"}))
    add = f"Add {needed - usable} or more photos of the subject ({formats}); ten to twenty are best."
    raise PhotosError("\n".join([cause, *lines]), add)
