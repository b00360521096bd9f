"""What belongs to a photo by its name: a caption and a mask beside it.

The caption is the first of these that is not empty: `NAME.txt`, `NAME.caption`, its line of `metadata.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath

from portrayal.photos.found import Entry, Found, PhotoFile, name_key
from portrayal.photos.read import IMAGE_ENDINGS, MAX_BYTES, Finding, UnusablePhotoError, printable
from portrayal.sentences import say

CAPTION_ENDINGS = (".txt", ".caption")
"""In order of precedence; after them comes `metadata.jsonl`."""

METADATA = "metadata.jsonl"
METADATA_TEXTS = ("text", "prompt", "caption")
MASK_ENDING = ".mask.png"
MAX_TEXT_BYTES = 8 << 20
SHOWN = 5


def collect_photos(entries: Mapping[str, Entry], found: Found, *, complete: bool = True) -> None:
    """Turn the files of one folder or archive into photos with what belongs to them.

    Args:
        entries: Files by name.
        found: Where photos and findings are added.
        complete: Whether all files are there, so that a mask or caption without a photo is worth a word.
    """
    by_key = {name_key(name): name for name in reversed(list(entries))}
    listed = _metadata(entries, found)
    masks = {name for name in entries if name_key(name).endswith(MASK_ENDING)}
    used = set()
    for name, entry in entries.items():
        ending = PurePosixPath(name).suffix
        if name_key(name).endswith(MASK_ENDING) or (
            ending.lower() not in IMAGE_ENDINGS and not entry.starts_like_an_image()
        ):
            continue
        stem = name_key(name.removesuffix(ending))
        mask = by_key.get(stem + MASK_ENDING)
        used.add(mask)
        caption = listed.pop(name_key(name), None)
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
        found.skip(mask, "mask", say("beside.lone_mask"))
    if listed:
        names = ", ".join(printable(name) for name in sorted(listed)[:SHOWN])
        more = say("beside.more", n=len(listed) - SHOWN) if len(listed) > SHOWN else ""
        found.skip(METADATA, "caption", say("beside.lone_captions", names=names, more=more))


def _content(name: str, entry: Entry) -> bytes:
    """The bytes of a photo.

    Raises:
        UnusablePhotoError: If they cannot be had, or are too many.
    """
    try:
        content = entry.read(MAX_BYTES)
    except OSError as error:
        reason = say("photo.closed", reason=error.strerror or str(error))
        raise UnusablePhotoError(Finding(name, "unreadable", reason, "skipped")) from error
    except ValueError as error:
        raise UnusablePhotoError(Finding(name, "unreadable", str(error), "skipped")) from error
    if len(content) > MAX_BYTES:
        message = say("beside.too_heavy", most=MAX_BYTES >> 20)
        raise UnusablePhotoError(Finding(name, "too_large", message, "skipped"))
    return content


def _caption(names: Sequence[str], entries: Mapping[str, Entry], found: Found) -> str | None:
    """What the first text file beside a photo says that says anything."""
    return next((words for name in names if (words := _words(_text(name, entries, found) or ""))), None)


def _words(text: str) -> str:
    """Runs of spaces made one, as the tokenizer does; JSON may hold halves of letters that no file can."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _text(name: str, entries: Mapping[str, Entry], found: Found) -> str | None:
    """The contents of a text file, or a finding."""
    try:
        content = entries[name].read(MAX_TEXT_BYTES)
        if len(content) > MAX_TEXT_BYTES:
            raise ValueError("too long")
        # Windows' Notepad begins UTF-8 files with a byte order mark; "utf-8-sig" drops it.
        return content.decode("utf-8-sig")
    except (OSError, ValueError):
        message = say("beside.no_text")
        found.skip(name, "caption", message)
        return None


def _metadata(entries: Mapping[str, Entry], found: Found) -> dict[str, str]:
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
                    captions[name_key(folder + row["file_name"].removeprefix("./"))] = _words(text)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                bad.append(number)
        if bad:
            lines = ", ".join(map(str, bad[:SHOWN])) + (f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")
            found.skip(name, "caption", f"these lines are not JSON objects with file_name and text: {lines}")
    return captions
