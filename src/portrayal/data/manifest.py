"""A PreparedDataset: a folder of `manifest.json`, `images/<id>.png`, `masks/<id>.png`, written whole or not at all."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from portrayal.errors import PhotosError
from portrayal.limits import bounded_text
from portrayal.photos import Finding, Prepared, PreparedPhoto
from portrayal.photos.read import without_metadata
from portrayal.run import atomic_folder

SCHEMA: Final = 3
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 1 << 26
IMAGES = "images"
MASKS = "masks"
ID = re.compile(r"[0-9A-Za-z]+(-bucket|-half|-close)?")


@dataclass(frozen=True)
class PreparedDataset:
    """Pictures of the subject on disk, with captions, findings and the held-out split."""

    folder: Path
    resolution: int
    instance_prompt: str
    class_noun: str
    seed: int
    photos: tuple[PreparedPhoto, ...]
    findings: tuple[Finding, ...]

    def training(self, fold: int | None) -> tuple[PreparedPhoto, ...]:
        """The pictures to train on when a fold is held out; nothing holds none out."""
        kept = (photo for photo in self.photos if photo.use != "judging")
        return tuple(photo for photo in kept if fold is None or photo.fold != fold)

    def heldout(self, fold: int) -> tuple[PreparedPhoto, ...]:
        """The pictures of a fold, which its trainings never see."""
        return tuple(photo for photo in self.photos if photo.fold == fold and photo.use != "training")

    def image_path(self, photo: PreparedPhoto) -> Path:
        """Where a photo's picture lies."""
        return self.folder / IMAGES / f"{photo.id}.png"

    def mask_path(self, photo: PreparedPhoto) -> Path:
        """Where the mask of a masked photo's picture lies."""
        return self.folder / MASKS / f"{photo.id}.png"


@dataclass(frozen=True)
class _Manifest:
    """The file's contents."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  read by pydantic, which wants a plain dict

    schema: Literal[3]
    resolution: int
    instance_prompt: str
    class_noun: str
    seed: int
    photos: tuple[PreparedPhoto, ...]
    findings: tuple[Finding, ...]


_ADAPTER = TypeAdapter(_Manifest)


def save_dataset(
    folder: Path, prepared: Prepared, *, resolution: int, instance_prompt: str, class_noun: str, seed: int
) -> PreparedDataset:
    """Write a dataset to `folder`, taking the place of what was there.

    Raises:
        MachineError: If the disk is full or the folder cannot be written; nothing is left behind then.
    """
    photos, findings = tuple(prepared.photos), tuple(prepared.findings)
    manifest = _Manifest(SCHEMA, resolution, instance_prompt, class_noun, seed, photos, findings)
    with atomic_folder(folder) as temporary:
        (temporary / IMAGES).mkdir()
        for photo in photos:
            _write(temporary / IMAGES / f"{photo.id}.png", _png(without_metadata(prepared.images[photo.id])))
        if prepared.masks:
            (temporary / MASKS).mkdir()
        for photo_id, mask in prepared.masks.items():
            _write(temporary / MASKS / f"{photo_id}.png", _png(mask))
        _write(temporary / MANIFEST, _ADAPTER.dump_json(manifest, indent=1))
    return PreparedDataset(folder, resolution, instance_prompt, class_noun, seed, photos, findings)


def load_dataset(folder: Path) -> PreparedDataset:
    """Read a dataset that :func:`save_dataset` wrote.

    Raises:
        PhotosError: If there is none, if its manifest is damaged or of another version, or a picture is missing.
    """
    file = folder / MANIFEST
    remedy = f"Delete {folder} and run the same command again: it prepares the photos anew."
    try:
        manifest = _ADAPTER.validate_json(bounded_text(file, LARGEST_MANIFEST), strict=True)
    except FileNotFoundError as error:
        raise PhotosError(f"{folder} holds no prepared dataset: {MANIFEST} is missing.", remedy) from error
    except OSError as error:
        raise PhotosError(f"{file} cannot be read: {error.strerror or error}.", remedy) from error
    except ValidationError as error:
        raise PhotosError(f"{file} is damaged: {_first_fault(error)}.", remedy) from error
    except ValueError as error:
        raise PhotosError(f"{file} is damaged: {error}.", remedy) from error
    fields = {name: getattr(manifest, name) for name in PreparedDataset.__dataclass_fields__ if name != "folder"}
    dataset = PreparedDataset(folder=folder, **fields)
    _check_pictures(dataset, remedy)
    return dataset


def is_whole(folder: Path) -> bool:
    """Whether a dataset can be read."""
    try:
        load_dataset(folder)
    except PhotosError:
        return False
    return True


def _check_pictures(dataset: PreparedDataset, remedy: str) -> None:
    ids = [photo.id for photo in dataset.photos]
    if len(set(ids)) < len(ids) or not all(ID.fullmatch(photo) for photo in ids):
        raise PhotosError(f"{dataset.folder / MANIFEST} is damaged: its photo ids are not what they should be.", remedy)
    for photo in dataset.photos:
        path = dataset.image_path(photo)
        if not path.is_file():
            raise PhotosError(f"The picture {path} of {photo.source_name} is missing.", remedy)
        if photo.masked and not dataset.mask_path(photo).is_file():
            raise PhotosError(f"The mask {dataset.mask_path(photo)} of {photo.source_name} is missing.", remedy)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]


def _png(image: Image.Image) -> bytes:
    content = BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Write and flush to disk, so that the rename that follows never shows a file half there."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
