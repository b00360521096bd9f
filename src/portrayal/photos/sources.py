"""Where photos lie: a folder, a file, a ZIP archive, a training folder of kohya's; captions and masks beside them.

Nothing is ever extracted: what an archive holds is read into memory, and its names are only shown. A photo's caption
is the first of these that is not empty: `NAME.txt`, `NAME.caption`, its line of `metadata.jsonl`.
"""

from __future__ import annotations

import json
import re
import stat
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from portrayal.errors import PhotosError
from portrayal.limits import on_disk
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
"""In order of precedence; after them comes `metadata.jsonl`."""

METADATA = "metadata.jsonl"
METADATA_TEXTS = ("text", "prompt", "caption")
MASK_ENDING = ".mask.png"
ARCHIVE_ENDINGS = frozenset({".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"})
MAX_TEXT_BYTES = 8 << 20
MAX_ENTRIES = 20_000
"""Files in an archive."""

MAX_TOTAL_BYTES = 16 << 30
"""Of all files of an archive, unpacked."""

MAX_DIRECTORY_BYTES = 16 << 20
"""Of an archive's list of contents, which Python reads whole: eight hundred for each file."""

MAX_RATIO = 200
"""Bytes for each byte of an archive; pictures hardly shrink, and bombs grow a thousandfold."""

KOHYA_FOLDER = re.compile(r"(\d+)_(\S.*)")
"""`10_sks person`: repeats, then the words of the subject (sd-scripts)."""

SHOWN = 5


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


@dataclass(frozen=True)
class KohyaFolder:
    """A training folder of kohya's, and what its name says."""

    name: str
    repeats: int
    token: str
    """The first word: `subject.instance_token`."""

    class_noun: str
    """The others; empty where there is but one."""


@dataclass
class Found:
    """What a source holds, by name."""

    photos: list[PhotoFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    kohya: list[KohyaFolder] = field(default_factory=list)

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
    try:
        if on_disk(source) == "nothing":
            raise PhotosError(
                f"There is no folder {source}.", "Check its spelling, or give the folder your photos are in."
            )
        if source.is_file():
            return _in_file(source)
        found = Found()
        _recognise(source.resolve().name, found)
        _collect(_entries_of_folder(source, "", found), found)
        for folder in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
            _look_into(folder, found)
    except OSError as error:
        raise PhotosError(f"{source} cannot be opened: {error.strerror or error}.", "Check its permissions.") from error
    return found


def _is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive of one piece; Python's own question raises for some that are not."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def _in_file(source: Path) -> Found:
    picture = starts_like_an_image(_read_file(source, 63))  # first: an archive may hang on to a picture's end
    if not picture and _is_archive(source):
        return _in_archive(source)
    if source.suffix.lower() == ".zip":
        raise PhotosError(f"{source} is damaged, or no ZIP archive.", "Make it again, or give the folder.")
    if source.suffix.lower() not in IMAGE_ENDINGS and not picture:
        raise PhotosError(
            f"{source} is a file, but no picture and no .zip archive.",
            "Put ten to twenty photos in a folder and give that.",
        )
    found = Found()
    stem = _key(source.stem)
    names = {_key(source.name), *(stem + ending for ending in (*CAPTION_ENDINGS, MASK_ENDING)), METADATA}
    entries = _entries_of_folder(source.parent, "", Found())
    _collect({name: entry for name, entry in entries.items() if _key(name) in names}, found, complete=False)
    return replace(found, photos=[photo for photo in found.photos if photo.name == printable(source.name)])


def _recognise(name: str, found: Found) -> bool:
    """Whether a folder's name is one of kohya's; says so."""
    kohya = KOHYA_FOLDER.fullmatch(name)
    if kohya is None:
        return False
    token, _, noun = kohya[2].partition(" ")
    folder = KohyaFolder(printable(name), int(kohya[1]), printable(token), printable(noun.strip()))
    found.kohya.append(folder)
    noun = f"class_noun={folder.class_noun!r}" if folder.class_noun else "no class noun"
    message = (
        f"it is a training folder of kohya's: {folder.repeats} repeats, instance_token={folder.token!r}, {noun}; "
        "here every photo counts once, and the words are settings of subject"
    )
    found.findings.append(Finding(folder.name, "kohya_folder", message, "kept"))
    return True


def _look_into(folder: Path, found: Found) -> None:
    """Read a folder inside the source if it is one of kohya's; say so if it holds pictures and is not."""
    try:
        if _recognise(folder.name, found):
            _collect(_entries_of_folder(folder, f"{folder.name}/", found), found)
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
        ending = path.suffix.lower()
        if path.is_symlink() and not path.exists():
            if ending in IMAGE_ENDINGS:
                found.skip(prefix + path.name, "unreadable", "it is a link that leads nowhere, or back to itself")
        elif ending in ARCHIVE_ENDINGS and path.is_file():
            found.skip(
                prefix + path.name, "archive", "archives inside a folder are not read; unpack it, or give it alone"
            )
        elif path.is_file():
            entries[prefix + path.name] = _Entry(partial(_read_file, path), partial(_file_starts_like_an_image, path))
        elif ending in IMAGE_ENDINGS and not path.is_dir():
            found.skip(prefix + path.name, "unreadable", "it is no ordinary file")
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
        _check_directory(source)
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise PhotosError(
            f"{source} cannot be opened: {error}.", "Make the archive again, or give the folder."
        ) from error
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise PhotosError(
            f"{source} holds {len(members)} files, over the limit of {MAX_ENTRIES}.", "Put the photos in a folder."
        )
    reader, total, folders = _Archive(archive), 0, set()
    entries: dict[str, _Entry] = {}
    for member in sorted(members, key=lambda member: member.filename):
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not member.filename:
            found.skip(source.name, "archive", "the archive holds a file without a name")
            continue
        if member.is_dir() or path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        problem = _problem_of_member(member, path)
        if not problem and total + member.file_size > MAX_TOTAL_BYTES:
            problem = f"with it the archive would unpack to more than {MAX_TOTAL_BYTES >> 30} GB"
        if not problem and member.filename in entries:
            problem = "the archive holds another file of this name"
        if problem:
            found.skip(member.filename, "archive", problem)
            continue
        total += member.file_size
        folders.add(path.parent.name)
        read = partial(reader.read, member)
        entries[member.filename] = _Entry(read, partial(_member_starts_like_an_image, read))
    for folder in sorted(folders):
        _recognise(folder, found)
    _collect(entries, found)
    return found


def _check_directory(source: Path) -> None:
    """Refuse an archive whose list of contents alone would fill the memory.

    Raises:
        ValueError: If it is too long.
    """
    with source.open("rb") as file:
        file.seek(-min(source.stat().st_size, 22 + 0xFFFF + 76), 2)  # the end record, its comment, and those of ZIP64
        end = file.read()
    place = end.rfind(b"PK\5\6")
    length = int.from_bytes(end[place + 12 : place + 16], "little") if place >= 0 else 0
    record = end.rfind(b"PK\6\6", 0, max(place, 0))
    if record >= 0:
        length = int.from_bytes(end[record + 40 : record + 48], "little")
    if length > MAX_DIRECTORY_BYTES:
        raise ValueError(f"its list of contents has {length >> 20} MB, over the limit of {MAX_DIRECTORY_BYTES >> 20}")


def _problem_of_member(member: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """Why a member of an archive is not read, or nothing."""
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
        return "its name points outside of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link"
    if member.flag_bits & 1:
        return "it is locked with a password"
    if path.suffix.lower() in ARCHIVE_ENDINGS:
        return "it is an archive inside an archive"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in a rare way; make the archive again with the system's own ZIP"
    if member.file_size > MAX_BYTES:
        return f"it has {member.file_size >> 20} MB, over the limit of {MAX_BYTES >> 20}"
    if member.file_size > 10_000 and member.file_size > MAX_RATIO * max(1, member.compress_size):
        return "it unpacks to more than two hundred times its size, as no photo does"
    return ""


class _Archive:
    """One open archive that several threads read."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._lock = threading.Lock()

    def read(self, member: zipfile.ZipInfo, most: int) -> bytes:
        """Bytes of a member, one more than `most` at most.

        Raises:
            ValueError: If the archive is damaged there.
        """
        try:
            with self._lock, self._archive.open(member) as file:
                return file.read(most + 1)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, struct.error) as error:
            raise ValueError(f"the archive is damaged there ({printable(str(error))})") from error


def _member_starts_like_an_image(read: Callable[[int], bytes]) -> bool:
    try:
        return starts_like_an_image(read(63))
    except (OSError, ValueError):
        return False


def _key(name: str) -> str:
    """What names are compared by: phones and Macs write capitals and accents in ways of their own."""
    return unicodedata.normalize("NFC", name).lower()


def _collect(entries: Mapping[str, _Entry], found: Found, *, complete: bool = True) -> None:
    """Turn the files of one folder or archive into photos with what belongs to them.

    Args:
        entries: Files by name.
        found: Where photos and findings are added.
        complete: Whether all files are there, so that a mask or caption without a photo is worth a word.
    """
    by_key = {_key(name): name for name in reversed(list(entries))}
    listed = _metadata(entries, found)
    masks = {name for name in entries if _key(name).endswith(MASK_ENDING)}
    used = set()
    for name, entry in entries.items():
        ending = PurePosixPath(name).suffix
        if _key(name).endswith(MASK_ENDING) or (
            ending.lower() not in IMAGE_ENDINGS and not entry.starts_like_an_image()
        ):
            continue
        stem = _key(name.removesuffix(ending))
        mask = by_key.get(stem + MASK_ENDING)
        used.add(mask)
        caption = listed.pop(_key(name), None)
        found.photos.append(
            PhotoFile(
                printable(name),
                partial(_content, printable(name), entry),
                _caption([by_key[stem + end] for end in CAPTION_ENDINGS if stem + end in by_key], entries, found)
                or caption,
                partial(_content, printable(mask), entries[mask]) if mask else None,
            )
        )
    if complete:
        _name_orphans(masks - used, listed, found)


def _name_orphans(masks: Collection[str], listed: Mapping[str, str], found: Found) -> None:
    """Say which masks and listed captions have no photo; the latter once, for a list may name a whole hard disk."""
    for mask in sorted(masks):
        found.skip(mask, "mask", "no photo of this name is there, so the mask does not count")
    if listed:
        names = ", ".join(printable(name) for name in sorted(listed)[:SHOWN])
        more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        found.skip(METADATA, "caption", f"it has captions of photos that are not there: {names}{more}")


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


def _caption(names: Sequence[str], entries: Mapping[str, _Entry], found: Found) -> str | None:
    """What the first text file beside a photo says that says anything."""
    return next((words for name in names if (words := _words(_text(name, entries, found) or ""))), None)


def _words(text: str) -> str:
    """Runs of spaces made one, as the tokenizer does; JSON may hold halves of letters that no file can."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


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


def _metadata(entries: Mapping[str, _Entry], found: Found) -> dict[str, str]:
    """Captions by key of file name from each `metadata.jsonl`, as the hub's image folders have it."""
    captions = {}
    for name in entries:
        if PurePosixPath(name).name != METADATA:
            continue
        folder, bad = name.removesuffix(METADATA), []
        for number, line in enumerate((_text(name, entries, found) or "").split("\n"), start=1):
            try:
                if line.strip():
                    row = json.loads(line)
                    text = next((row[key] for key in METADATA_TEXTS if isinstance(row.get(key), str)), "")
                    captions[_key(folder + row["file_name"].removeprefix("./"))] = _words(text)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                bad.append(number)
        if bad:
            lines = ", ".join(map(str, bad[:SHOWN])) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
            found.skip(name, "caption", f"these lines are not JSON objects with file_name and text: {lines}")
    return captions
