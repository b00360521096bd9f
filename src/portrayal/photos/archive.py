"""Photos in a ZIP archive, of which nothing is believed.

Nothing is ever extracted: what an archive holds is read into memory, and its names are only shown.
"""

from __future__ import annotations

import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

from portrayal.errors import PhotosError
from portrayal.photos.beside import collect_photos
from portrayal.photos.found import ARCHIVE_ENDINGS, Entry, Found, recognise_kohya
from portrayal.photos.read import MAX_BYTES, printable, starts_like_an_image
from portrayal.sentences import say

MAX_ENTRIES = 20_000
"""Files in an archive."""

MAX_TOTAL_BYTES = 16 << 30
"""Of all files of an archive, unpacked."""

MAX_DIRECTORY_BYTES = 16 << 20
"""Of an archive's list of contents, which Python reads whole: eight hundred for each file."""

MAX_RATIO = 200
"""Bytes for each byte of an archive; pictures hardly shrink, and bombs grow a thousandfold."""


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive of one piece; Python's own question raises for some that are not."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def photos_in_archive(source: Path) -> Found:
    """All that an archive holds, whatever its folders are.

    Raises:
        PhotosError: If it cannot be opened, or holds too many files.
    """
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
    entries: dict[str, Entry] = {}
    for member in sorted(members, key=lambda member: member.filename):
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not member.filename:
            found.skip(source.name, "archive", say("archive.nameless"))
            continue
        if member.is_dir() or path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        problem = _problem_of_member(member, path)
        if not problem and total + member.file_size > MAX_TOTAL_BYTES:
            problem = say("archive.too_much", most=MAX_TOTAL_BYTES >> 30)
        if not problem and member.filename in entries:
            problem = say("archive.twice")
        if problem:
            found.skip(member.filename, "archive", problem)
            continue
        total += member.file_size
        folders.add(path.parent.name)
        read = partial(reader.read, member)
        entries[member.filename] = Entry(read, partial(_member_starts_like_an_image, read))
    for folder in sorted(folders):
        recognise_kohya(folder, found)
    collect_photos(entries, found)
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
        return say("archive.outside")
    if stat.S_ISLNK(member.external_attr >> 16):
        return say("archive.link")
    if member.flag_bits & 1:
        return say("archive.locked")
    if path.suffix.lower() in ARCHIVE_ENDINGS:
        return say("archive.nested")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return say("archive.rare")
    if member.file_size > MAX_BYTES:
        return say("archive.too_heavy", size=member.file_size >> 20, most=MAX_BYTES >> 20)
    if member.file_size > 10_000 and member.file_size > MAX_RATIO * max(1, member.compress_size):
        return say("archive.bomb")
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
