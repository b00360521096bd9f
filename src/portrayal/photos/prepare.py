"""From a folder of photos to upright square pictures, captions, findings and a held-out split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from portrayal.errors import PhotosError
from portrayal.photos.crop import Crop, Framing, Shape
from portrayal.photos.examine import Examined, ExaminedPhoto, Use, examine_photos
from portrayal.photos.folds import choose_folds
from portrayal.photos.inspect import near_duplicates
from portrayal.photos.look import Look
from portrayal.photos.read import IMAGE_ENDINGS, Finding
from portrayal.photos.settings import PrepareSettings
from portrayal.photos.shelf import Pictures

FINDINGS_SHOWN = 5


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
