"""Where photos lie: a folder, a file, a ZIP archive, a training folder of kohya's; captions and masks beside them.

Nothing is ever extracted: what an archive holds is read into memory, and its names are only shown.
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from portrayal.errors import PhotosError
from portrayal.photos.read import (
    IMAGE_ENDINGS,
    MAX_BYTES,
    Finding,
    FindingKind,
    UnusablePhotoError,
    printable,
    starts_like_an_image,
)

CAPTION_ENDINGS = (".txt", ".caption")
"""The first that is there and not empty is the caption; after them comes `metadata.jsonl`."""

METADATA = "metadata.jsonl"
METADATA_TEXTS = ("text", "prompt", "caption")
MASK_ENDING = ".mask.png"
MAX_TEXT_BYTES = 1 << 20
MAX_ENTRIES = 20_000
MAX_RATIO = 200
"""Bytes for each byte of an archive; pictures hardly shrink, and bombs grow a thousandfold."""

KOHYA_FOLDER = re.compile(r"(\d+)_(\S.*)")
"""`10_sks person`: repeats, then the words of the subject (sd-scripts)."""


@dataclass(frozen=True)
class PhotoFile:
    """One file that may be a photo; its bytes are read when they are wanted."""

    name: str
    """What a person calls it: file name, with its folder inside an archive; printable, and never a path of the disk."""

    content: Callable[[], bytes]
    """Reads the bytes. Raises UnusablePhotoError."""

    caption: str | None = None
    mask: Callable[[], bytes] | None = None
    """Reads `NAME.mask.png`: white where the subject is."""


@dataclass
class Found:
    """What a source holds, by name."""

    photos: list[PhotoFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def skip(self, name: str, kind: FindingKind, message: str) -> None:
        """Note that a file is left out."""
        self.findings.append(Finding(printable(name), kind, message, "skipped"))


@dataclass(frozen=True)
class _Entry:
    """A file of a folder or archive."""

    read: Callable[[int], bytes]
    """Its bytes, at most so many. Raises OSError, ValueError or UnusablePhotoError."""

    starts_like_an_image: Callable[[], bool]


def find_photos(source: Path) -> Found:
    """Find the photos of a folder, an archive, or one file.

    A file counts by its ending, whatever it holds, so that a broken one is reported; one with another ending, or
    none, counts when its first bytes are those of a picture. Hidden files and all others are left alone. Folders
    inside a folder are read if they are named as kohya's are, `10_sks person`; archives are read whole.

    Args:
        source: Folder, `.zip` archive or picture.

    Raises:
        PhotosError: If there is nothing at `source`, or it cannot be opened, or is no kind of source.
    """
    if not source.exists():
        raise PhotosError(f"There is no folder {source}.", "Check its spelling, or give the folder your photos are in.")
    if source.is_file():
        return _in_file(source)
    found = Found()
    try:
        _collect(_entries_of_folder(source, "", found), found)
        for folder in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
            _look_into(folder, found)
    except OSError as error:
        raise PhotosError(f"{source} cannot be opened: {error.strerror or error}.", "Check its permissions.") from error
    return found


def _in_file(source: Path) -> Found:
    if zipfile.is_zipfile(source):
        return _in_archive(source)
    if source.suffix.lower() == ".zip":
        raise PhotosError(f"{source} is damaged, or no ZIP archive.", "Make it again, or give the folder.")
    if source.suffix.lower() not in IMAGE_ENDINGS and not _file_starts_like_an_image(source):
        raise PhotosError(
            f"{source} is a file, but no picture and no .zip archive.",
            "Put ten to twenty photos in a folder and give that.",
        )
    found = Found()
    names = {source.name, *(source.stem + ending for ending in (*CAPTION_ENDINGS, MASK_ENDING)), METADATA}
    beside = {name: entry for name, entry in _entries_of_folder(source.parent, "", Found()).items() if name in names}
    _collect(beside, found)
    return replace(found, photos=[photo for photo in found.photos if photo.name == printable(source.name)])


def _look_into(folder: Path, found: Found) -> None:
    """Read a folder inside the source if it is one of kohya's; say so if it holds pictures and is not."""
    try:
        kohya = KOHYA_FOLDER.fullmatch(folder.name)
        if kohya:
            _collect(_entries_of_folder(folder, f"{folder.name}/", found), found)
            message = (
                f"it is a training folder with the words {printable(kohya[2])!r}, repeated {kohya[1]} times; "
                "here every photo counts once, and the words are subject.instance_token and subject.class_noun"
            )
            found.findings.append(Finding(printable(folder.name), "kohya_folder", message, "kept"))
        elif count := sum(path.suffix.lower() in IMAGE_ENDINGS for path in folder.iterdir()):
            message = f"it is a folder with {count} picture file{'s' * (count != 1)}; subfolders are not read"
            found.skip(folder.name, "subfolder", message)
    except OSError as error:
        found.skip(folder.name, "unreadable", f"the folder cannot be opened ({error.strerror or error})")


def _entries_of_folder(folder: Path, prefix: str, found: Found) -> dict[str, _Entry]:
    entries = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_symlink() and not path.exists():
            if path.suffix.lower() in IMAGE_ENDINGS:
                found.skip(prefix + path.name, "unreadable", "it is a link that leads nowhere, or back to itself")
        elif path.is_file():
            entries[prefix + path.name] = _Entry(partial(_read_file, path), partial(_file_starts_like_an_image, path))
    return entries


def _read_file(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most + 1)


def _file_starts_like_an_image(path: Path) -> bool:
    try:
        return starts_like_an_image(_read_file(path, 63))
    except OSError:
        return False


def _in_archive(source: Path) -> Found:
    found = Found()
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise PhotosError(
            f"{source} cannot be opened: {error}.", "Make the archive again, or give the folder."
        ) from error
    if len(members) > MAX_ENTRIES:
        raise PhotosError(
            f"{source} holds {len(members)} files, over the limit of {MAX_ENTRIES}.", "Put the photos in a folder."
        )
    entries = {}
    for member in sorted(members, key=lambda member: member.filename):
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if member.is_dir() or path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        problem = _problem_of_member(member)
        if problem:
            if path.suffix.lower() in IMAGE_ENDINGS | {".zip"}:
                found.skip(member.filename, "archive", problem)
            continue
        read = partial(_read_member, source, member)
        entries[member.filename] = _Entry(read, partial(_member_starts_like_an_image, read))
    _collect(entries, found)
    return found


def _problem_of_member(member: zipfile.ZipInfo) -> str:
    """Why a member of an archive is not read, or nothing."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
        return "its name points outside of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link"
    if member.flag_bits & 1:
        return "it is locked with a password"
    if path.suffix.lower() == ".zip":
        return "it is an archive inside an archive"
    if member.file_size > MAX_BYTES:
        return f"it has {member.file_size >> 20} MB, over the limit of {MAX_BYTES >> 20}"
    if member.file_size > 10_000 and member.file_size > MAX_RATIO * max(1, member.compress_size):
        return "it unpacks to more than two hundred times its size, as no photo does"
    return ""


def _read_member(source: Path, member: zipfile.ZipInfo, most: int) -> bytes:
    try:
        with zipfile.ZipFile(source) as archive, archive.open(member) as file:
            return file.read(most + 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(f"the archive is damaged there: {error}") from error


def _member_starts_like_an_image(read: Callable[[int], bytes]) -> bool:
    try:
        return starts_like_an_image(read(63))
    except (OSError, ValueError):
        return False


def _collect(entries: Mapping[str, _Entry], found: Found) -> None:
    """Turn the files of one folder or archive into photos with what belongs to them."""
    listed = dict(_metadata(entries, found))
    for name, entry in entries.items():
        if name.lower().endswith(MASK_ENDING):
            continue
        if PurePosixPath(name).suffix.lower() not in IMAGE_ENDINGS and not entry.starts_like_an_image():
            continue
        stem = name.removesuffix(PurePosixPath(name).suffix)
        mask = entries.get(stem + MASK_ENDING)
        found.photos.append(
            PhotoFile(
                printable(name),
                partial(_content, printable(name), entry),
                _caption(stem, entries, found) or listed.get(name),
                partial(_content, printable(stem + MASK_ENDING), mask) if mask else None,
            )
        )


def _content(name: str, entry: _Entry) -> bytes:
    """The bytes of a photo.

    Raises:
        UnusablePhotoError: If they cannot be had, or are too many.
    """
    try:
        content = entry.read(MAX_BYTES)
    except OSError as error:
        reason = f"it cannot be opened ({error.strerror or error})"
        raise UnusablePhotoError(Finding(name, "unreadable", reason, "skipped")) from error
    except ValueError as error:
        raise UnusablePhotoError(Finding(name, "unreadable", str(error), "skipped")) from error
    if len(content) > MAX_BYTES:
        message = f"it has more than {MAX_BYTES >> 20} MB; scale it down"
        raise UnusablePhotoError(Finding(name, "too_large", message, "skipped"))
    return content


def _caption(stem: str, entries: Mapping[str, _Entry], found: Found) -> str | None:
    """What the text file beside a photo says, runs of spaces made one, as the tokenizer does."""
    for ending in CAPTION_ENDINGS:
        if stem + ending in entries:
            words = (_text(stem + ending, entries, found) or "").split()
            if words:
                return " ".join(words)
    return None


def _text(name: str, entries: Mapping[str, _Entry], found: Found) -> str | None:
    """The contents of a text file, or a finding."""
    try:
        content = entries[name].read(MAX_TEXT_BYTES)
        if len(content) > MAX_TEXT_BYTES:
            raise ValueError("too long")
        # Windows' Notepad begins UTF-8 files with a byte order mark; "utf-8-sig" drops it.
        return content.decode("utf-8-sig")
    except (OSError, ValueError):
        message = "it cannot be read as UTF-8 text, so its captions do not count; save it as UTF-8"
        found.skip(name, "caption", message)
        return None


def _metadata(entries: Mapping[str, _Entry], found: Found) -> Iterator[tuple[str, str]]:
    """Captions by file name from `metadata.jsonl`, as the hub's image folders have it."""
    for name in entries:
        if PurePosixPath(name).name != METADATA:
            continue
        folder = name.removesuffix(METADATA)
        for number, line in enumerate((_text(name, entries, found) or "").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                words = next((row[key] for key in METADATA_TEXTS if isinstance(row.get(key), str)), "")
                yield folder + row["file_name"], " ".join(words.split())
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                found.skip(name, "caption", f"line {number} is not a JSON object with file_name and text")
