"""Pictures that others shall keep to: taken as they are handed in, and what an annotator sees in them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from portrayal import UsageError, atomic_path, control_picture, read_photo
from portrayal.studio.files import below
from portrayal.studio.names import shown_name
from portrayal.studio.projects import Project
from portrayal.studio.uploads import MAX_BYTES
from portrayal.studio.watch import run_of

CONTROLS = "controls"
CONTROL_SIDE = 1536
"""Pixels along the longer side of a picture to keep to: no picture that is painted is larger."""


def accept_control(project: Project, path: Path, name: str) -> str:
    """Take a picture that others shall keep to; returns its name in `controls/` of the project.

    Raises:
        UsageError: If it is too large.
        PhotosError: If it is no picture.
        MachineError: If the disk is full.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{shown_name(name)} has more than {MAX_BYTES >> 20} MB.", "Take a smaller picture.")
    photo = read_photo(path)
    kept = f"{photo.id}.png"
    target = project.folder / CONTROLS / kept
    if not target.is_file():
        photo.image.thumbnail((CONTROL_SIDE, CONTROL_SIDE), Image.Resampling.LANCZOS)
        with atomic_path(target) as temporary:
            photo.image.save(temporary, "PNG")
    return kept


def control_seen(project: Project, name: str, kind: str) -> Path:
    """What an annotator sees in an accepted picture. Takes seconds: ask the desk for it.

    Args:
        project: A project whose run is there.
        name: As :func:`accept_control` returned it.
        kind: `canny`, `openpose`, `depth` or `softedge`.

    Raises:
        UsageError: If there is no such picture or kind, or it shows no pose.
        WeightsError: If the reader of poses or of depth is not on this machine.
    """
    target = seen_path(project, name, kind)
    if not target.is_file():
        run = run_of(project)
        picture = below(project.folder / CONTROLS, name)
        if run is None or not picture.is_file():
            raise UsageError(f"There is no picture {name!r} in {project.name}.")
        image = control_picture(run, kind, picture)
        with atomic_path(target) as temporary:
            image.save(temporary, "PNG")
    return target


def seen_path(project: Project, name: str, kind: str) -> Path:
    """Where an annotator's picture lies.

    Raises:
        UsageError: If the kind is no word.
    """
    if not kind.isalpha() or not kind.isascii():
        raise UsageError(f"There is no kind of control {kind!r}.")
    return below(project.folder / CONTROLS, "seen", f"{Path(name).stem}.{kind}.png")
