"""Files of the studio: names that cannot lead anywhere, paths that stay below a folder, JSON whole or not at all."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from portrayal import MachineError, UsageError, atomic_path

LONGEST_NAME = 64
PATIENCE = 120.0
WINDOWS_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})
"""Names that some systems take for devices, whatever ending they have."""


def checked_name(name: str) -> str:
    """A name of a project, fit to be one folder's.

    Raises:
        UsageError: If it is empty, too long, hidden, or more than one part of a path.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name or len(name) > LONGEST_NAME or len(name.encode()) > 200:
        raise UsageError(f"A project's name has 1 to {LONGEST_NAME} letters.", "Choose a shorter name.")
    if name.startswith(".") or name.endswith(".") or any(c in '/\\:*?"<>|' or not c.isprintable() for c in name):
        raise UsageError(
            f"{name!r} cannot be a project's name.", "Use letters, digits, spaces, - and _, and no dot at either end."
        )
    if name.split(".")[0].lower() in WINDOWS_DEVICES:
        raise UsageError(f"{name!r} cannot be a project's name: some systems keep it for a device.")
    return name


def below(folder: Path, *parts: str) -> Path:
    """A path below a folder, links followed.

    Raises:
        UsageError: If it leads out of the folder.
    """
    if any("\0" in part for part in parts):
        raise UsageError("A path holds a character that no path may hold.")
    path = folder.joinpath(*parts).resolve()
    if path != folder.resolve() and folder.resolve() not in path.parents:
        raise UsageError(f"{'/'.join(parts)!r} lies outside of its project.")
    return path


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file; empty where there is none, or it is damaged."""
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return {}


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all.

    Raises:
        MachineError: If the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one, of all threads and processes, that changes what lies in a folder.

    Raises:
        MachineError: If another has been at it for two minutes, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=PATIENCE)
    except (Timeout, OSError) as error:
        raise MachineError(f"{folder} cannot be changed at the moment: {error}.", "Try again.") from error
    try:
        yield
    finally:
        lock.release()


def live_of(run_folder: Path) -> dict[str, Any]:
    """What a run's process says it is doing; empty where that process is gone, whoever started it."""
    told = read_json(run_folder / "live.json")
    try:
        born = born_at(int(told["process"]))
        return told if born and born <= float(told["time"]) else {}  # else the number is another process's by now
    except (KeyError, TypeError, ValueError):
        return {}


def born_at(process: int) -> float:
    """When a process began, in Unix seconds; 0 if it is gone, or dead and only not buried yet."""
    try:
        found = psutil.Process(process)
        return 0.0 if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except (psutil.Error, ValueError, OverflowError):
        return 0.0
