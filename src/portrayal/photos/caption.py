"""What a photo shows, in words: the `.txt` beside it."""

from __future__ import annotations

from pathlib import Path

from portrayal.photos.read import Finding


def read_caption(photo: Path) -> tuple[str | None, Finding | None]:
    """Read the caption of a photo.

    Args:
        photo: The photo; its caption has the same name but for the ending, and is UTF-8 text. Line breaks and
            runs of spaces become one space, as they do in the tokenizer.

    Returns:
        The caption, nothing if there is none or it is empty, and a finding if there is a file that cannot be read as
        text.
    """
    file = photo.with_suffix(".txt")
    if not file.is_file():
        return None, None
    try:
        # Windows' Notepad begins UTF-8 files with a byte order mark; "utf-8-sig" drops it.
        words = file.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError):
        message = "it cannot be read as UTF-8 text, so the photo is captioned as if it were not there; save it as UTF-8"
        return None, Finding(file.name, "caption", message, "skipped")
    return " ".join(words) or None, None
