"""Work on pictures in threads: decoding, shrinking and packing let others run meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import RLock
from typing import TypeVar

LOADING = RLock()
"""Held while a model is built: until its weights are read, libraries make parameters without memory, in all threads."""

Item = TypeVar("Item")
Found = TypeVar("Found")
MOST = 16


def in_threads(act: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """What an act makes of each item, in order; the first error is raised."""
    with ThreadPoolExecutor(min(MOST, os.cpu_count() or 1)) as threads:
        return list(threads.map(act, items))
