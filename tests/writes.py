"""Watches a folder while something writes into it: does every file appear whole, and is it on the disk by then?"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from portrayal.files import UNFINISHED

GROWING = re.compile(r"(?:.*/)?(?:events\.jsonl|\.lock|live\.json)|.*\.training/[^/]+\.jsonl|\.requests/.*")
"""Files of a run that are added to, or that nothing depends on."""


@dataclass
class Writes:
    """What happened to the files of a folder.

    Attributes:
        folder: The folder.
        flushed: Files and folders that were flushed, by device and inode, with the time they were last changed by then.
        arrived: Files that took their place by a rename, likewise.
        renamed: Paths that something was renamed to.
        unflushed_names: Folders in which a name is new since they were last flushed.
        faults: What was wrong.
    """

    folder: Path
    flushed: dict[tuple[int, int], int] = field(default_factory=dict)
    arrived: dict[tuple[int, int], int] = field(default_factory=dict)
    renamed: list[Path] = field(default_factory=list)
    unflushed_names: dict[tuple[int, int], Path] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def flush(self, descriptor: int) -> None:
        """Note that a file or folder is on the disk."""
        found = os.fstat(descriptor)
        self.flushed[key_of(found)] = found.st_mtime_ns
        if stat.S_ISDIR(found.st_mode):
            self.unflushed_names.pop(key_of(found), None)

    def rename(self, target: Path) -> None:
        """Look at what has just taken a place."""
        if self.folder not in target.parents or UNFINISHED.fullmatch(target.name):
            return
        if GROWING.fullmatch(target.relative_to(self.folder).as_posix()):
            return
        self.renamed.append(target)
        self.unflushed_names[key_of(target.parent.stat())] = target.parent
        for path in files_below(target):
            found, name = path.stat(), path.relative_to(self.folder).as_posix()
            if self.flushed.get(key_of(found)) != found.st_mtime_ns:
                self.faults.append(f"{name} took its place before it was flushed")
            self.arrived[key_of(found)] = found.st_mtime_ns

    def look(self) -> None:
        """Look at what is there in the end."""
        for path in files_below(self.folder):
            found, name = path.stat(), path.relative_to(self.folder).as_posix()
            if not GROWING.fullmatch(name) and self.arrived.get(key_of(found)) != found.st_mtime_ns:
                self.faults.append(f"{name} was written in its place")
            if UNFINISHED.fullmatch(path.name):
                self.faults.append(f"{name} is left")
        for folder in self.unflushed_names.values():
            if folder.is_dir():
                self.faults.append(f"the names in {folder.relative_to(self.folder)} were not flushed")


def key_of(found: os.stat_result) -> tuple[int, int]:
    """By what a file is known wherever it lies."""
    return found.st_dev, found.st_ino


def files_below(path: Path) -> list[Path]:
    """A file, or the files of a folder."""
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())


@contextmanager
def watched(folder: Path) -> Iterator[Writes]:
    """Watch what is written into a folder; what was there before is taken to be whole."""
    writes = Writes(folder)
    for path in files_below(folder):
        found = path.stat()
        writes.flushed[key_of(found)] = writes.arrived[key_of(found)] = found.st_mtime_ns

    def renaming(act: Any) -> Any:
        def rename(source: Any, target: Any, **options: Any) -> None:
            act(source, target, **options)
            writes.rename(Path(target))

        return rename

    def flushing(descriptor: Any) -> None:
        flush(descriptor)
        writes.flush(descriptor if isinstance(descriptor, int) else descriptor.fileno())

    flush = os.fsync
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", flushing)
        patch.setattr(os, "replace", renaming(os.replace))
        patch.setattr(os, "rename", renaming(os.rename))
        yield writes
    writes.look()
