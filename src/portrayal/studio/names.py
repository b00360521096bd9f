"""Names that lead nowhere: what a person called a file, made fit to be shown, and to be kept under."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

LONGEST_STEM = 80


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
