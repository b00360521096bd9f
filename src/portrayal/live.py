"""What a run shows of itself while it works, and what may be asked of it meanwhile.

`RUN/live.json` says what is being done: `stage`, `done` of `total`, of these `first` done before, `started` and `time`
(Unix seconds), `process` (id), `memory_gib` (of the GPU, at its fullest; `null` without one). It is written once a
second at most, and nothing depends on it. A request is an empty file in `RUN/.requests/`, a folder that is there while
a training goes on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Request = Literal["stop", "sample"]
REQUESTS = ".requests"
LIVE = "live.json"
SECONDS = 1.0
"""Between two looks, or two notes: neither may slow the work down."""


@dataclass
class Pulse:
    """Keeps `live.json` up to date; a disk that refuses is no reason to stop.

    Attributes:
        folder: The run's.
        stage: What is being done.
        started: When it began.
        first: How much was done when it began: a training goes on where it was.
        written: When the file was last written, by a clock of its own.
    """

    folder: Path
    stage: str
    started: float = field(default_factory=time.time)
    first: int | None = None
    written: float = 0.0

    def beat(self, done: int, total: int) -> None:
        """Say how far the stage is."""
        now = time.monotonic()
        self.first = done if self.first is None else self.first
        if now - self.written < SECONDS and done < total:
            return
        self.written = now
        self.write(done, total)

    def write(self, done: int = 0, total: int = 0) -> None:
        """Write the file."""
        values: dict[str, Any] = {"stage": self.stage, "done": done, "total": total, "first": self.first or 0}
        values |= {"started": round(self.started, 3), "memory_gib": gpu_memory()}
        temporary = self.folder / f".{LIVE}.{os.getpid()}.tmp"
        with suppress(OSError):
            temporary.write_text(json.dumps(values | {"time": round(time.time(), 3), "process": os.getpid()}))
            temporary.replace(self.folder / LIVE)
        with suppress(OSError):
            temporary.unlink()


def gpu_memory() -> float | None:
    """GiB of GPU memory that this process held at its fullest; nothing where it uses no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return round(float(torch.cuda.max_memory_allocated()) / 2**30, 2)


def request_of_training(run_folder: Path, what: Request) -> bool:
    """Ask something of the training that goes on in a run; it answers within a second or a step.

    Args:
        run_folder: The run's folder.
        what: `sample`: paint a picture with each model as it is now. `stop`: end the training here and keep what it has
            learned; where other trainings of a model are done, at its next reading.

    Returns:
        Whether a training goes on; nothing is asked where there is none.
    """
    folder = run_folder / REQUESTS
    if not folder.is_dir():
        return False
    (folder / what).touch()
    return True


@dataclass
class Requests:
    """What is asked of a training, looked for once a second.

    Attributes:
        folder: The run's.
        looked: When it was last looked for.
    """

    folder: Path
    looked: float = 0.0

    def open(self) -> None:
        """Take requests from now on: nothing of what was asked before."""
        self.close()
        with suppress(OSError):
            (self.folder / REQUESTS).mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Take none any more."""
        folder = self.folder / REQUESTS
        with suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    def take(self) -> set[str]:
        """What has been asked since the last look."""
        now = time.monotonic()
        if now - self.looked < SECONDS:
            return set()
        self.looked, found = now, set()
        with suppress(OSError):
            for path in list((self.folder / REQUESTS).iterdir()):
                path.unlink()
                found.add(path.name)
        return found
