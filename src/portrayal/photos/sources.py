"""Where photos lie: a folder, a file, a ZIP archive, a training folder of kohya's; captions and masks beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from portrayal.errors import PhotosError
from portrayal.limits import on_disk
from portrayal.photos.archive import is_archive, photos_in_archive
from portrayal.photos.beside import CAPTION_ENDINGS, MASK_ENDING, METADATA, collect_photos
from portrayal.photos.found import ARCHIVE_ENDINGS, Entry, Found, name_key, recognise_kohya
from portrayal.photos.read import IMAGE_ENDINGS, printable, starts_like_an_image


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
        recognise_kohya(source.resolve().name, found)
        collect_photos(_entries_of_folder(source, "", found), found)
        for folder in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
            _look_into(folder, found)
    except OSError as error:
        raise PhotosError(f"{source} cannot be opened: {error.strerror or error}.", "Check its permissions.") from error
    return found


def _in_file(source: Path) -> Found:
    picture = starts_like_an_image(_read_file(source, 63))  # first: an archive may hang on to a picture's end
    if not picture and is_archive(source):
        return photos_in_archive(source)
    if source.suffix.lower() == ".zip":
        raise PhotosError(f"{source} is damaged, or no ZIP archive.", "Make it again, or give the folder.")
    if source.suffix.lower() not in IMAGE_ENDINGS and not picture:
        raise PhotosError(
            f"{source} is a file, but no picture and no .zip archive.",
            "Put ten to twenty photos in a folder and give that.",
        )
    found = Found()
    stem = name_key(source.stem)
    names = {name_key(source.name), *(stem + ending for ending in (*CAPTION_ENDINGS, MASK_ENDING)), METADATA}
    entries = _entries_of_folder(source.parent, "", Found())
    collect_photos({name: entry for name, entry in entries.items() if name_key(name) in names}, found, complete=False)
    return replace(found, photos=[photo for photo in found.photos if photo.name == printable(source.name)])


def _look_into(folder: Path, found: Found) -> None:
    """Read a folder inside the source if it is one of kohya's; say so if it holds pictures and is not."""
    try:
        if recognise_kohya(folder.name, found):
            collect_photos(_entries_of_folder(folder, f"{folder.name}/", found), found)
        elif count := sum(path.suffix.lower() in IMAGE_ENDINGS for path in folder.iterdir()):
            message = f"it is a folder with {count} picture file{'s' * (count != 1)}; subfolders are not read"
            found.skip(folder.name, "subfolder", message)
    except OSError as error:
        found.skip(folder.name, "unreadable", f"the folder cannot be opened ({error.strerror or error})")


def _entries_of_folder(folder: Path, prefix: str, found: Found) -> dict[str, Entry]:
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
            entries[prefix + path.name] = Entry(partial(_read_file, path), partial(_file_starts_like_an_image, path))
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
