"""One process at a time works on a run: a lock that dies with its owner, and tells who that is."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from portrayal.errors import MachineError, RunConflictError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}
"""What systems answer whose files cannot be locked, as those of some networks."""

_held: dict[Path, tuple[int, int]] = {}
"""Folders that this process holds, with the process and thread: what a thread holds it may take again."""


@contextmanager
def held(folder: Path) -> Iterator[str | None]:
    """Hold a folder for this process alone, making it if need be; an empty one that was made goes again.

    The system gives the lock up when its owner dies, whatever it died of. Where files cannot be locked, the file's
    being there is the lock, and its owner's being alive decides.

    Yields:
        What is to be told of an owner that was killed; nothing if there was none; `""` if the folder was held already.

    Raises:
        RunConflictError: If another process works in it.
        MachineError: If the folder cannot be written.
    """
    key, me = folder.absolute(), (os.getpid(), threading.get_ident())
    if _held.get(key) == me or int(os.environ.get("RANK", "0")) > 0:  # the first of several processes holds it for all
        yield ""
        return
    if key.is_file():
        raise RunConflictError(f"{folder} is a file, and no run of Portrayal.", "Choose another folder with --out.")
    made = [one for one in (key, *key.parents) if not one.exists()]
    try:
        key.mkdir(parents=True, exist_ok=True)
        opened, before = _claim(key / NAME)
    except OSError as error:
        raise MachineError(
            f"{folder} cannot be written: {error.strerror or error}.", "Choose another folder with --out."
        ) from error
    _held[key] = me
    try:
        yield f"{said_of(before)} did not come to its end; going on from what it left." if before else None
    finally:
        _held.pop(key, None)
        with suppress(OSError):
            (key / NAME).unlink()
        os.close(opened)
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _claim(path: Path) -> tuple[int, dict[str, Any]]:
    """The open lock file, and its owner before if that was killed."""
    while True:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _locked(opened, path):
                os.close(opened)
                continue  # its owner ended, and the file went with it
            before = _read(path)
            os.ftruncate(opened, 0)
            os.write(opened, json.dumps(owner()).encode())
        except BaseException:
            os.close(opened)
            raise
        return opened, before


def _locked(opened: int, path: Path) -> bool:
    """Whether an open lock file is ours now, and still the one of that name."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no locks")
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _conflict(path) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        there = _read(path)
        if there and not gone(there):
            raise _conflict(path) from error
    try:
        return os.fstat(opened).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _read(path: Path) -> dict[str, Any]:
    """What a lock file tells of its owner; nothing if it is empty or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _conflict(path: Path) -> RunConflictError:
    there = _read(path)
    for _ in range(20):  # it may be about to write who it is
        if there:
            break
        time.sleep(0.05)
        there = _read(path)
    stop = f"stop it (kill {there.get('pid')} on {there.get('host')})" if there else "stop it"
    return RunConflictError(
        f"{path.parent} is in use by {said_of(there)}.",
        f"Wait until it is done, or {stop}; then give the same command again.",
    )


def owner() -> dict[str, Any]:
    """Who this process is."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started": started(pid),
        "since": round(time.time(), 3),
        "command": command[:500],
    }


def said_of(there: Mapping[str, Any]) -> str:
    """`process 12 on box, at it for 5 min (portrayal run photos)`; a clock that was set back makes nobody younger."""
    if not there:
        return "another process"
    since = there.get("since")
    minutes = max(0.0, time.time() - float(since)) / 60 if isinstance(since, int | float) else 0.0
    age = f"{minutes / 60:.1f} h" if minutes > 90 else f"{minutes:.0f} min"
    return f"process {there.get('pid')} on {there.get('host')}, at it for {age} ({there.get('command')})"


def gone(there: Mapping[str, Any]) -> bool:
    """Whether an owner is known to be dead: of this machine, and no process has its number, or one begun later."""
    if there.get("host") != socket.gethostname():
        return False
    pid = there.get("pid")
    return not isinstance(pid, int) or not alive(pid) or started(pid) != there.get("started")


def alive(pid: int) -> bool:
    """Whether there is such a process here; where asking would stop it, it is taken to be."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def started(pid: int) -> int | None:
    """When a process began, in the system's own count; nothing where it does not tell."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return int(told.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
