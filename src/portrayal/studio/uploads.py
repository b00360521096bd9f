"""Photos that are handed in: few and small enough, pictures by their content, kept under names that lead nowhere.

A photo is kept as it was handed in; what a page shows are small upright copies without EXIF. Archives are read by the
package's own reader, which extracts nothing.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from portrayal import PortrayalError, Said, UsageError, atomic_path, find_photos, read_photo
from portrayal.studio.files import locked, read_json, write_json
from portrayal.studio.names import ending_of, free_name, shown_name
from portrayal.studio.projects import WORKSHOP, Project

if TYPE_CHECKING:
    from portrayal import RawPhoto

MAX_BYTES = 40 << 20
"""Of one photo."""

MAX_PHOTOS = 200
MAX_ARCHIVE_BYTES = 512 << 20
VIEW_SIDE = 640
"""Pixels along the longer side of what a page shows."""

INDEX = "photos.json"


@dataclass(frozen=True)
class Accepted:
    """What became of one file that was handed in.

    Attributes:
        name: What a person calls it.
        error: Why it was refused; empty if it was not.
        kept: The name it is kept under; empty if it was refused.
    """

    name: str
    error: str = ""
    kept: str = ""


def accept_photos(project: Project, files: Sequence[tuple[Path, str]]) -> list[Accepted]:
    """Take photos, or archives of photos, into a project; what cannot be used is refused with the reason.

    Args:
        project: A project whose run has not been started.
        files: Uploaded files, and what a person called them: names are shown, and never used as paths.

    Raises:
        UsageError: If the run has been started.
        MachineError: If the disk is full.
    """
    if project.started:
        raise UsageError(f"{project.name} has been started with its photos.", "Make another project for others.")
    with locked(project.root / WORKSHOP):
        return [one for path, name in files for one in accept_file(project, path, shown_name(name or path.name))]


def accept_file(project: Project, path: Path, name: str) -> Iterator[Accepted]:
    """Take one uploaded file."""
    size, archive = path.stat().st_size, is_archive(path)
    if size > (MAX_ARCHIVE_BYTES if archive else MAX_BYTES):
        yield Accepted(name, Said.by("upload.too_heavy", size=size >> 20, most=MAX_BYTES >> 20))
        return
    try:
        found = find_photos(path)
    except PortrayalError:
        yield Accepted(name, Said.by("upload.neither"))
        return
    for finding in found.findings:
        if finding.action == "skipped":
            yield Accepted(shown_name(finding.file), finding.message)
    if not found.photos and not found.findings:
        yield Accepted(name, Said.by("upload.no_picture"))
    for photo in found.photos:
        yield accept_content(project, shown_name(photo.name) if archive else name, photo.content, photo.caption)


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive; Python's own question raises for some that are not whole."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def accept_content(project: Project, name: str, content: Any, caption: str | None) -> Accepted:
    """Take one photo by its content."""
    index = read_json(project.folder / INDEX)
    if len(index) >= MAX_PHOTOS:
        return Accepted(name, Said.by("upload.too_many", most=MAX_PHOTOS))
    temporary = project.folder / f".upload.{os.getpid()}{ending_of(name)}"
    try:
        read = content()
        if len(read) > MAX_BYTES:
            return Accepted(name, Said.by("upload.too_heavy", size=len(read) >> 20, most=MAX_BYTES >> 20))
        temporary.write_bytes(read)
        photo = read_photo(temporary)
        double = next((other for other, row in index.items() if row["id"] == photo.id), None)
        if double is not None:
            return Accepted(name, Said.by("upload.again", name=double))
        kept = free_name(name, read, [*index, *(path.name for path in project.photos)])
        put(project, kept, temporary, photo, caption)
    except PortrayalError as error:
        finding = getattr(error, "finding", None)
        if finding is None:
            raise
        return Accepted(name, finding.message)
    finally:
        temporary.unlink(missing_ok=True)
    write_json(project.folder / INDEX, index | {kept: {"id": photo.id, "size": list(photo.size)}})
    return Accepted(name, kept=kept)


def put(project: Project, name: str, temporary: Path, photo: RawPhoto, caption: str | None) -> None:
    """Put a photo, its caption and its view in their places, the photo last."""
    project.photos_folder.mkdir(parents=True, exist_ok=True)
    small = photo.image.copy()
    small.thumbnail((VIEW_SIDE, VIEW_SIDE), Image.Resampling.LANCZOS)
    with atomic_path(view_path(project, photo.id)) as path:
        small.save(path, "JPEG", quality=86)
    if caption:
        with atomic_path(caption_path(project, name)) as path:
            path.write_text(caption, encoding="utf-8")
    with atomic_path(project.photos_folder / name) as path:
        temporary.replace(path)


def view_path(project: Project, id: str) -> Path:
    """Where the view of a photo lies."""
    return project.views_folder / f"{id}.jpg"


def caption_path(project: Project, name: str) -> Path:
    """Where the caption of a photo lies."""
    return (project.photos_folder / name).with_suffix(".txt")


def remove(project: Project, name: str) -> None:
    """Delete a photo, with its caption and its view.

    Raises:
        UsageError: If the run has been started, or there is no such photo.
    """
    if project.started:
        raise UsageError(f"{project.name} has been started with its photos.", "Leave it out of another project.")
    with locked(project.root / WORKSHOP):
        row = known_photo(project, name)
        index = read_json(project.folder / INDEX)
        index.pop(name)
        write_json(project.folder / INDEX, index)
        for path in (project.photos_folder / name, caption_path(project, name), view_path(project, row["id"])):
            path.unlink(missing_ok=True)


def known_photo(project: Project, name: str) -> dict[str, Any]:
    """What is known of a photo.

    Raises:
        UsageError: If there is none of that name.
    """
    row: dict[str, Any] | None = read_json(project.folder / INDEX).get(name)
    if row is None:
        raise UsageError(f"There is no photo {name!r} in {project.name}.")
    return row
