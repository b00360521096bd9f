"""What a run has made, with a checksum of each file: kept as it grows, so that damage can be told later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portrayal.files import write_json

NAME = "checksums.json"
GROWING = {NAME, "events.jsonl", "estimate.json", "live.json"}
"""Files that change as a run is used."""

Known = dict[str, dict[str, Any]]


def made(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a run that stay as they are, by their paths in it; nothing that is under way."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[-1] not in GROWING and not any(part.startswith(".") for part in parts):
            yield "/".join(parts), path


def keep(folder: Path) -> None:
    """Write down the checksums of a run's files; those that were known and have not changed since are not read again.

    Raises:
        MachineError: If the disk is full.
    """
    known, found = read(folder), Known()
    for name, path in made(folder):
        stat = path.stat()
        before = known.get(name, {})
        same = (before.get("bytes"), before.get("modified")) == (stat.st_size, stat.st_mtime_ns)
        digest = before["sha256"] if same else sha256(path)
        found[name] = {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "sha256": digest}
    if found != known:
        write_json(folder / NAME, found)


def read(folder: Path) -> Known:
    """What was written down; nothing if there is nothing, or it is damaged itself."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    rows = found if isinstance(found, dict) else {}
    return {name: row for name, row in rows.items() if isinstance(row, dict) and isinstance(row.get("sha256"), str)}


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def faults(folder: Path) -> list[str]:
    """What is wrong with files that were written down: gone, or not what they were."""
    said = []
    for name, row in read(folder).items():
        path = folder / name
        if not path.is_file():
            said.append(f"{name} is gone")
        elif path.stat().st_size != row.get("bytes") or sha256(path) != row["sha256"]:
            said.append(f"{name} is not what was written")
    return said
