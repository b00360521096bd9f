"""Photos that are handed in: few and small enough, pictures by their content, kept under names that lead nowhere.

A photo is kept as it was handed in; what a page shows are small upright copies without EXIF. Archives are read by the
package's own reader, which extracts nothing.
"""

from __future__ import annotations

import os
import re
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from portrayal import (
    PortrayalError,
    UsageError,
    atomic_path,
    check_photos,
    control_picture,
    find_photos,
    load_config,
    read_photo,
)
from portrayal.studio.files import below, locked, read_json, write_json
from portrayal.studio.projects import WORKSHOP, Choices, Project
from portrayal.studio.watch import run_of

if TYPE_CHECKING:
    from portrayal import RawPhoto

MAX_BYTES = 40 << 20
"""Of one photo."""

MAX_PHOTOS = 200
MAX_ARCHIVE_BYTES = 512 << 20
VIEW_SIDE = 640
"""Pixels along the longer side of what a page shows."""

LONGEST_STEM = 80
ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "TIFF": ".tif"}
INDEX, CHECK, CONTROLS = "photos.json", "check.json", "controls"
CONTROL_SIDE = 1536
"""Pixels along the longer side of a picture to keep to: no picture that is painted is larger."""


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


@dataclass(frozen=True)
class PhotoView:
    """One photo of a project as a page shows it.

    Attributes:
        name: Its file's name.
        id: First digits of its content's hash; it keeps them for life.
        view: A small upright picture of it, without EXIF.
        width: Of the upright photo, in pixels.
        height: Of the upright photo.
        crop: Left, top and side of the square that is trained on; the middle one before there was a check.
        by_hand: Whether that square was chosen by hand.
        left_out: Whether it is left out.
        kept: Whether it is trained on whatever was found.
        verdict: What the check advises; nothing before there was one, or if it cannot be read.
        findings: Kind and message of what was found, each with its remedy.
    """

    name: str
    id: str
    view: Path
    width: int
    height: int
    crop: tuple[int, int, int]
    by_hand: bool = False
    left_out: bool = False
    kept: bool = False
    verdict: Literal["keep", "fix", "drop"] | None = None
    findings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Contact:
    """The photos of a project and what to know of them all together.

    Attributes:
        photos: By name.
        remarks: Sentences, each with its remedy.
        checked: Whether all that is there has been looked at, with the settings as they are.
        fit: Whether the set trains well as it is.
    """

    photos: tuple[PhotoView, ...]
    remarks: tuple[str, ...] = ()
    checked: bool = False
    fit: bool = False


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
        yield Accepted(name, f"it has {size >> 20} MB; a photo may have {MAX_BYTES >> 20}")
        return
    try:
        found = find_photos(path)
    except PortrayalError:
        yield Accepted(name, "it is neither a picture nor a whole .zip archive")
        return
    for finding in found.findings:
        if finding.action == "skipped":
            yield Accepted(shown_name(finding.file), finding.message)
    if not found.photos and not found.findings:
        yield Accepted(name, "there is no picture in it")
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
        return Accepted(name, f"a project holds {MAX_PHOTOS} photos at most")
    temporary = project.folder / f".upload.{os.getpid()}{ending_of(name)}"
    try:
        read = content()
        if len(read) > MAX_BYTES:
            return Accepted(name, f"it has {len(read) >> 20} MB; a photo may have {MAX_BYTES >> 20}")
        temporary.write_bytes(read)
        photo = read_photo(temporary)
        double = next((other for other, row in index.items() if row["id"] == photo.id), None)
        if double is not None:
            return Accepted(name, f"it is here already, as {double}")
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


def shown_name(name: str) -> str:
    """A file's name without its folders, on one line."""
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(letter if letter.isprintable() else "_" for letter in last)[-120:] or "photo"


def ending_of(name: str) -> str:
    """The ending of a name, if it is one of letters and digits."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", name)
    return found[0].lower() if found else ""


def free_name(name: str, content: bytes, taken: Collection[str]) -> str:
    """A name for a photo to be kept under: its own, as far as it is safe and free, with an ending that is true."""
    stem = re.sub(r'[\\/:*?"<>|]', "_", name[: len(name) - len(ending_of(name))]).strip(" .")[:LONGEST_STEM] or "photo"
    ending = true_ending(content)
    used = {other.casefold().rsplit(".", 1)[0] for other in taken}  # captions go by the stem alone
    number, free = 1, stem
    while free.casefold() in used:
        number += 1
        free = f"{stem} ({number})"
    return free + ending


def true_ending(content: bytes) -> str:
    """The ending that fits a picture's first bytes."""
    if content[4:8] == b"ftyp" and b"avif" not in content[8:64]:
        return ".heic"
    starts = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}
    starts |= {b"II*\0": ".tif", b"MM\0*": ".tif"}
    known = (ending for start, ending in starts.items() if content.startswith(start))
    return next(known, ".avif" if content[4:8] == b"ftyp" else ".jpg")


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


def drop(project: Project, name: str) -> None:
    """Leave a photo out.

    Raises:
        UsageError: If there is no such photo, or the run has been started.
    """
    known_photo(project, name)
    choices = project.choices
    project.choose(drop=[*without(choices.drop, name), name], keep=without(choices.keep, name))


def keep(project: Project, name: str) -> None:
    """Train on a photo whatever was found.

    Raises:
        UsageError: If there is no such photo, or the run has been started.
    """
    known_photo(project, name)
    choices = project.choices
    project.choose(keep=[*without(choices.keep, name), name], drop=without(choices.drop, name))


def without(names: Sequence[str], name: str) -> list[str]:
    """Names but one."""
    return [other for other in names if other != name]


def crop(project: Project, name: str, square: tuple[int, int, int] | None) -> None:
    """Choose the square of a photo by hand, or let it be chosen again.

    Args:
        project: The project.
        name: The photo's name.
        square: Left, top and side in pixels of the upright photo; nothing lets it be chosen.

    Raises:
        UsageError: If there is no such photo, or the square does not lie in it.
    """
    width, height = known_photo(project, name)["size"]
    crops = {other: found for other, found in project.choices.crop.items() if other != name}
    if square is not None:
        left, top, side = (round(number) for number in square)
        if side < 8 or left < 0 or top < 0 or left + side > width or top + side > height:
            raise UsageError(f"The square does not lie in the {width}×{height} pixels of {name}.")
        crops[name] = [left, top, side]
    project.choose(crop=crops)


def photos(project: Project) -> list[PhotoView]:
    """The photos of a project by name, with what the last check said of them."""
    return list(contact(project).photos)


def contact(project: Project) -> Contact:
    """The photos of a project and the advice on the set, by the last check."""
    index, told, choices = read_json(project.folder / INDEX), read_json(project.folder / CHECK), project.choices
    current = told.get("of") == inputs_of(project)
    found = told.get("photos", {})
    rows = tuple(photo_view(project, name, row, found.get(name, {}), choices) for name, row in sorted(index.items()))
    return Contact(rows, tuple(told.get("remarks", ())), current, current and bool(told.get("fit")))


def photo_view(project: Project, name: str, row: dict[str, Any], told: dict[str, Any], choices: Choices) -> PhotoView:
    """One photo, with what was found of it and chosen for it."""
    width, height = row["size"]
    side = min(width, height)
    left, top, side = choices.crop.get(name) or told.get("crop") or ((width - side) // 2, (height - side) // 2, side)
    return PhotoView(
        name,
        row["id"],
        view_path(project, row["id"]),
        width,
        height,
        (left, top, side),
        name in choices.crop,
        name in choices.drop,
        name in choices.keep,
        told.get("verdict"),
        tuple((kind, message) for kind, message in told.get("findings", ())),
    )


def check(project: Project) -> Contact:
    """Look at every photo and at the set, and keep what was found. Takes seconds: ask the desk for it."""
    of = inputs_of(project)
    if project.photos and not project.started and read_json(project.folder / CHECK).get("of") != of:
        found = check_photos(project.photos_folder, load_config(project.recipe, project.settings))
        rows: dict[str, dict[str, Any]] = {}
        for one in found.photos:
            left, top, width, height = found.frames[one.file].cut
            findings = [(finding.kind, finding.message) for finding in one.findings]
            rows[one.file] = {"verdict": one.verdict, "findings": findings, "crop": [left, top, min(width, height)]}
        earlier = read_json(project.folder / CHECK).get("photos", {})
        for finding in found.left_out:
            unusable = {"findings": [(finding.kind, finding.message)]}
            rows[finding.file] = earlier.get(finding.file, {}) if finding.kind == "dropped" else unusable
        told = {"of": of, "photos": rows, "remarks": list(found.remarks.remarks), "fit": found.fit}
        with locked(project.root / WORKSHOP):
            write_json(project.folder / CHECK, told)
    return contact(project)


def inputs_of(project: Project) -> dict[str, Any]:
    """What a check depends on: the photos, and the settings they would be trained with."""
    chosen = asdict(project.choices)
    settings = {key: chosen[key] for key in ("base", "class_noun", "overrides", "drop", "keep", "crop")}
    ids = sorted(row["id"] for row in read_json(project.folder / INDEX).values())
    return {"photos": ids, **settings}


def accept_control(project: Project, path: Path, name: str) -> str:
    """Take a picture that others shall keep to; returns its name in `controls/` of the project.

    Raises:
        UsageError: If it is too large.
        PhotosError: If it is no picture.
        MachineError: If the disk is full.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{shown_name(name)} has more than {MAX_BYTES >> 20} MB.", "Take a smaller picture.")
    photo = read_photo(path)
    kept = f"{photo.id}.png"
    target = project.folder / CONTROLS / kept
    if not target.is_file():
        photo.image.thumbnail((CONTROL_SIDE, CONTROL_SIDE), Image.Resampling.LANCZOS)
        with atomic_path(target) as temporary:
            photo.image.save(temporary, "PNG")
    return kept


def control_seen(project: Project, name: str, kind: str) -> Path:
    """What an annotator sees in an accepted picture. Takes seconds: ask the desk for it.

    Args:
        project: A project whose run is there.
        name: As :func:`accept_control` returned it.
        kind: `canny`, `openpose`, `depth` or `softedge`.

    Raises:
        UsageError: If there is no such picture or kind, or it shows no pose.
        WeightsError: If the reader of poses or of depth is not on this machine.
    """
    target = seen_path(project, name, kind)
    if not target.is_file():
        run = run_of(project)
        picture = below(project.folder / CONTROLS, name)
        if run is None or not picture.is_file():
            raise UsageError(f"There is no picture {name!r} in {project.name}.")
        image = control_picture(run, kind, picture)
        with atomic_path(target) as temporary:
            image.save(temporary, "PNG")
    return target


def seen_path(project: Project, name: str, kind: str) -> Path:
    """Where an annotator's picture lies.

    Raises:
        UsageError: If the kind is no word.
    """
    if not kind.isalpha() or not kind.isascii():
        raise UsageError(f"There is no kind of control {kind!r}.")
    return below(project.folder / CONTROLS, "seen", f"{Path(name).stem}.{kind}.png")
