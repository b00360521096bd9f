"""What a photo shows, in words: the `.txt` beside it, else the instance prompt."""

from __future__ import annotations

from pathlib import Path

from portrayal.photos.read import Finding


def read_caption(photo: Path, instance_prompt: str) -> tuple[str, Finding | None]:
    """Read the caption of a photo.

    Args:
        photo: The photo; its caption has the same name but for the ending, and is UTF-8 text. Line breaks and
            runs of spaces become one space, as they do in the tokenizer.
        instance_prompt: The caption of a photo that has none, or an empty one.

    Returns:
        The caption, and a finding if there is a file that cannot be read as text.
    """
    file = photo.with_suffix(".txt")
    if not file.is_file():
        return instance_prompt, None
    try:
        # Windows' Notepad begins UTF-8 files with a byte order mark; "utf-8-sig" drops it.
        words = file.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError):
        message = "it cannot be read as UTF-8 text, so the photo gets the instance prompt; save it as UTF-8"
        return instance_prompt, Finding(file.name, "caption", message, "skipped")
    return " ".join(words) or instance_prompt, None
