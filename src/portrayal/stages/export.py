"""Hand the prepared photos to other trainers."""

from __future__ import annotations

import shutil
from pathlib import Path

from portrayal.errors import UsageError
from portrayal.run import Run, atomic_folder, write_text
from portrayal.stages.shared import dataset_of


def export_photos(run: Run, out: Path, *, repeats: int = 10) -> Path:
    """Write the training photos as a training folder of kohya's sd-scripts: `OUT/10_sks woman/ID.png` and `ID.txt`.

    All photos that are trained on are written, with those that a fold holds out: each of them is trained on in others.

    Args:
        run: A prepared run.
        out: The folder that holds training folders; made if it is not there.
        repeats: How often a photo counts in an epoch.

    Returns:
        The training folder.

    Raises:
        UsageError: If that folder is there already.
    """
    dataset, subject = dataset_of(run), run.config.subject
    folder = out / f"{repeats}_{subject.instance_token} {subject.class_noun}"
    if folder.exists():
        raise UsageError(f"{folder} is there already; nothing was written.", "Give another folder, or remove it.")
    with atomic_folder(folder) as temporary:
        for photo in dataset.training(None):
            shutil.copyfile(dataset.image_path(photo), temporary / f"{photo.id}.png")
            write_text(temporary / f"{photo.id}.txt", photo.caption + "\n")
    return folder
