"""Class images for prior preservation: painted once by the base, kept for every later run on the same base."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from filelock import FileLock
from PIL import Image

from portrayal.processes import ALONE, Processes
from portrayal.run import atomic_path, cache_folder

LEFT_OVER_SECONDS = 3600


def ensure_class_images(
    key: str,
    count: int,
    paint: Callable[[Sequence[int]], Iterator[Image.Image]],
    *,
    batch_size: int,
    processes: Processes = ALONE,
) -> list[Image.Image]:
    """The first `count` class images of a key; missing ones are painted and kept.

    Runs on one machine share them: where two want them at once, one waits until the other has painted them.

    Args:
        key: Names everything that the pictures depend on.
        count: How many are wanted.
        paint: Paints the pictures of the given numbers, in their order.
        batch_size: Numbers are painted in whole batches, so that a picture never depends on when it was painted.
        processes: Who paints them together, each calling this.
    """
    folder = cache_folder() / "class-images" / key
    if processes.first:
        sweep_old(folder)
    if processes.agree(missing_batches(folder, count, batch_size)):
        with lock(folder) if processes.first else nullcontext():
            batches = processes.mine(processes.agree(missing_batches(folder, count, batch_size)))
            numbers = [batch * batch_size + place for batch in batches for place in range(batch_size)]
            for number, image in zip(numbers, paint(numbers) if numbers else (), strict=True):
                with atomic_path(folder / f"{number}.png") as temporary:
                    image.save(temporary, format="PNG")
            processes.wait()
    return [Image.open(folder / f"{number}.png").convert("RGB") for number in range(count)]


def missing_batches(folder: Path, count: int, batch_size: int) -> list[int]:
    """Batches of which a picture is not there."""
    missing = [number for number in range(count) if not readable(folder / f"{number}.png")]
    return sorted({number // batch_size for number in missing})


def lock(folder: Path) -> FileLock:
    """Held while the pictures of a folder are painted; it goes with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def sweep_old(folder: Path) -> None:
    """Clear away what killed processes left half written; others may be writing here, so only what is an hour old."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                path.unlink()


def readable(path: Path) -> bool:
    """Whether a kept picture is there and whole."""
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError):
        return False
    return True
