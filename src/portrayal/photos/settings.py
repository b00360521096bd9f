"""How photos become training pictures, as far as a person may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class PrepareSettings:
    """How photos become training pictures."""

    resolution: int
    """Side of the pictures in pixels."""

    instance_prompt: str
    """Caption of a photo without a `.txt`."""

    num_heldout: int | None
    """Photos kept out of a training; see :func:`choose_folds`."""

    seed: int
    """Chooses which photos are held out."""

    folds: int = 1
    """Disjoint sets of photos that are held out in turn."""

    min_photos: int = 3
    """Fewer different photos than this are refused."""

    background: str = "white"
    """Colour under what is transparent."""

    crops: Literal["one", "several"] = "one"
    """The largest square of each photo, or nearer ones of training photos besides, where none need be enlarged."""

    shape: Literal["square", "bucket"] = "square"
    """Whether photos to train on become squares, or the shape nearest to their own; those to judge by are squares."""

    yunet: Path | None = None
    """YuNet's file, to find faces with; nothing means OpenCV's cascades."""

    drop: tuple[str, ...] = ()
    """Names of photos to leave out."""

    keep: tuple[str, ...] = ()
    """Names of photos to keep whatever is found; whoever gives advice heeds it."""

    crop: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """Squares chosen by hand by name: left, top and side in the upright photo."""
