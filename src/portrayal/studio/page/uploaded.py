"""Files that the browser handed to Gradio: taken from the folder of uploads, and from nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from portrayal import UsageError
from portrayal.studio.page.asked import Values

MOST_FILES = 200


@contextmanager
def uploaded(values: Values) -> Iterator[list[Path]]:
    """The files that an upload brought, under the names they had; they are deleted when the block ends.

    Args:
        values: `uploaded`: a list of objects whose `path` is what Gradio answered.

    Raises:
        UsageError: If one does not lie in Gradio's folder of uploads: nobody names other files of this machine.
    """
    given = values.get("uploaded")
    rows = [row for row in given if isinstance(row, dict)] if isinstance(given, list) else []
    files = [handed_in(str(row.get("path", ""))) for row in rows[:MOST_FILES]]
    try:
        yield files
    finally:
        for path in files:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()


def handed_in(path: str) -> Path:
    """A file in Gradio's folder of uploads.

    Raises:
        UsageError: If it is none.
    """
    folder, found = Path(get_upload_folder()).resolve(), Path(path.replace("\0", "")).resolve()
    if folder not in found.parents or not found.is_file():
        raise UsageError("This file was not handed in through this page.", "Choose it again.")
    return found
