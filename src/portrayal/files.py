"""Files and folders that appear whole or not at all; what a killed process leaves half written is cleared away."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from portrayal.errors import MachineError

UNFINISHED = re.compile(r"\.(?P<name>.+)\.[^.]+\.(?P<kind>tmp|old)")
"""Names of what is being written (`.NAME.MAKER.tmp`), and of a folder that is just being replaced (`….old`)."""
DISK_ERRORS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EPERM", "EFBIG", "ENODEV", "ESTALE", "ENOTCONN")
    if hasattr(errno, name)
}
"""What a disk, or a network's, answers that has no room, may not be written to, is broken or gone."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file to; it takes its place when the block ends, or vanishes if it fails.

    Raises:
        MachineError: If the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        make_folder(path.parent)
        yield temporary
        flush(temporary)
        temporary.chmod(0o644)  # safetensors writes for its user alone
        temporary.replace(path)
        flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise write_fault(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; it takes the place of `path` when the block ends, or vanishes if it fails.

    What was there steps aside first, and is put back if the new one cannot take its place, or by :func:`sweep` if the
    process is killed in between: at no moment are both gone.
    """
    temporary: Path | None = None
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        make_folder(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        yield temporary
        for file in temporary.rglob("*"):
            flush_folder(file) if file.is_dir() else flush(file)
        temporary.chmod(0o755)
        if path.exists():
            path.replace(aside)
        temporary.replace(path)
        flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise write_fault(path, error) from error
    finally:
        if aside.exists():
            restore_or_drop(aside, path)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def restore_or_drop(aside: Path, path: Path) -> None:
    """Put a folder that stepped aside back, unless another has taken its place."""
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        with suppress(OSError):
            aside.replace(path)


def drop_folder(path: Path) -> None:
    """Delete a folder so that no other process, and no later one, finds half of it under its name."""
    going = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        path.replace(going)
    shutil.rmtree(going, ignore_errors=True)


def sweep(folder: Path) -> list[str]:
    """Clear away what processes that were killed left half written in a folder that nobody else writes to.

    Returns:
        The names of what was cleared.
    """
    found = [path for path in folder.rglob(".*") if UNFINISHED.fullmatch(path.name)]
    for path in found:
        match = UNFINISHED.fullmatch(path.name)
        if match and match["kind"] == "old":
            restore_or_drop(path, path.with_name(match["name"]))
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
    return [path.name for path in found]


def make_folder(path: Path) -> None:
    """Make a folder with its parents, each on the disk before anything is put in it."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        flush_folder(made.parent)


def flush(path: Path) -> None:
    """Make sure that a file's content is on the disk, so that a rename never shows it half there."""
    with path.open("rb+") as written:
        os.fsync(written.fileno())


def flush_folder(path: Path) -> None:
    """Make sure that the names in a folder are on the disk; nothing where the system cannot open folders."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_fault(path: Path, error: OSError | SafetensorError) -> MachineError:
    """What a failed write means to a person; safetensors wraps what the system said in an error of its own."""
    return MachineError(
        f"{path} could not be written: {getattr(error, 'strerror', None) or error}.",
        "Free some disk space or choose another folder with --out, then run the same command again.",
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; what a full disk lets through of it is taken back.

    Raises:
        MachineError: If it cannot be written.
    """
    try:
        with path.open("ab", buffering=0) as file:  # a buffer would be written once more on closing
            before, left = file.seek(0, os.SEEK_END), line.encode() + b"\n"
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                with suppress(OSError):
                    os.truncate(path, before)
                raise
    except OSError as error:
        raise write_fault(path, error) from error


def mend_lines(path: Path) -> None:
    """Cut off a last line that a killed process left unfinished."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
