"""Where runs are kept: a folder, or anything fsspec knows by an address such as `s3://bucket/runs`.

In a folder a run is made where it stays. Elsewhere it is made in a scratch folder of this machine and then uploaded,
its `run.json` last: what has none is no run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portrayal.errors import MachineError, UsageError
from portrayal.run import cache_folder, fingerprint, write_bytes
from portrayal.scale.outcomes import finished

RECORDS = "batch"
"""Folder of what became of each study, and of their logs."""


class Store:
    """A place for the runs of a batch.

    Args:
        out: A folder, or an address.

    Raises:
        UsageError: If nobody knows such addresses.
        MachineError: If the package that does is not installed.
    """

    def __init__(self, out: str) -> None:
        self.out, self.remote = out, "://" in out
        self.local = cache_folder() / "scratch" / fingerprint(out) if self.remote else Path(out)
        if not self.remote:
            return
        import fsspec

        try:
            self.files, self.root = fsspec.core.url_to_fs(out)
        except ImportError as error:
            raise MachineError(f"{out}: {error}.", "Install that package beside Portrayal.") from error
        except ValueError as error:
            raise UsageError(f"{out}: {error}.", "Give a folder, or an address such as s3://bucket/runs.") from error

    def folder(self, name: str) -> Path:
        """Where a run is made."""
        return self.local / name

    def log(self, name: str) -> Path:
        """Where a study's process says what it says."""
        path = self.local / RECORDS / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def has(self, name: str) -> bool:
        """Whether a run is kept here and came to its end."""
        if not self.remote:
            return finished(self.folder(name))
        with self._reached():
            return bool(self.files.exists(f"{self.root}/{name}/run.json"))

    def keep(self, name: str) -> None:
        """Bring a finished run to where it is kept."""
        if not self.remote:
            return
        folder = self.folder(name)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with self._reached():
            for path in sorted(files, key=lambda path: path == folder / "run.json"):
                self._put(path, f"{name}/{path.relative_to(folder).as_posix()}")
        shutil.rmtree(folder)

    def write(self, name: str, content: bytes) -> None:
        """Write one file."""
        write_bytes(self.local / name, content)
        if self.remote:
            with self._reached():
                self._put(self.local / name, name)

    def read_json(self, name: str) -> Any:
        """A JSON file, or nothing if there is none."""
        path = self.local / name
        if self.remote:
            with self._reached():
                address = f"{self.root}/{name}"
                return json.loads(self.files.cat_file(address)) if self.files.exists(address) else None
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _put(self, path: Path, name: str) -> None:
        address = f"{self.root}/{name}"
        self.files.makedirs(address.rpartition("/")[0], exist_ok=True)
        self.files.put_file(str(path), address)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Say what it means when the place cannot be reached; botocore and others have errors of their own."""
        try:
            yield
        except MachineError:
            raise
        except Exception as error:
            raise MachineError(
                f"{self.out} cannot be reached: {error}.", "See to the network and your rights there; nothing was lost."
            ) from error
