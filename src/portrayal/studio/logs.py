"""Files of JSON lines that grow while a page looks at them: read on from where the last look ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any


@dataclass
class Log:
    """A file of JSON lines that grows, read on from where the last look ended; begun anew when it is another file."""

    path: Path
    read: int = 0
    inode: int = 0
    found: list[dict[str, Any]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines so far; what is no JSON is left out."""
        with self.lock:
            try:
                state = self.path.stat()
            except OSError:
                self.read, self.inode, self.found = 0, 0, []
                return []
            if state.st_ino != self.inode or state.st_size < self.read:
                self.read, self.inode, self.found = 0, state.st_ino, []
            if state.st_size > self.read:
                with self.path.open("rb") as file:
                    file.seek(self.read)
                    content = file.read()
                whole = content[: content.rfind(b"\n") + 1]
                self.read += len(whole)
                self.found.extend(parsed(whole.splitlines()))
            return self.found


def parsed(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The objects among lines of JSON."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:  # written as the power went
            continue
        if isinstance(value, dict):
            yield value


@lru_cache(maxsize=512)
def log_of(path: Path) -> Log:
    """The one reader of a log."""
    return Log(path)
