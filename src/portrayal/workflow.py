"""The stages in order, finished ones skipped: photos in; tuned models, pictures, scores and a report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portrayal.config import Config
from portrayal.run import Progress, Run
from portrayal.stages.control import generate_controlled
from portrayal.stages.evaluate import measure
from portrayal.stages.generate import generate, paint_model
from portrayal.stages.prepare import prepare
from portrayal.stages.report import write_report
from portrayal.stages.shared import FINAL, silent
from portrayal.stages.train import train, train_final


def portray(
    photos: Path, config: Config, out: Path, *, consent: bool | None = None, progress: Progress = silent
) -> Run:
    """Do the whole job, or what is left of it: the same call again goes on where it was interrupted.

    Args:
        photos: Folder of photos.
        config: The settings; see :func:`portrayal.load_config`.
        out: Folder of the run.
        consent: Whether the subject agreed, as stated by the user; `None` is recorded as not stated.
        progress: Called with every :class:`portrayal.Event`.

    Raises:
        PortrayalError: With cause, remedy and exit code; see :mod:`portrayal.errors`.
    """
    run = prepare(photos, config, out, consent=consent, progress=progress)
    train(run, progress=progress)
    generate(run, progress=progress)
    evaluate(run, progress=progress)
    write_report(run, progress=progress)
    return run


def evaluate(run: Run, *, progress: Progress = silent) -> dict[str, Any]:
    """Judge every model, held to control images too; then train the recommended one on all photos.

    Args:
        run: A run with pictures of its scenes.
        progress: Called with every :class:`portrayal.Event`.

    Returns:
        What `scores.json` holds.

    Raises:
        UsageError: If no pictures have been painted.
        WeightsError: If a ControlNet was named that cannot be had.
    """
    scores = measure(run, progress=progress)
    if run.config.control.enabled:
        generate_controlled(run, progress=progress)
        scores = measure(run, progress=progress)
    finish(run, scores, progress)
    return scores


def finish(run: Run, scores: dict[str, Any], progress: Progress) -> None:
    """Train the recommended model on all photos, up to its best step, and paint the scenes with it.

    Its pictures are shown and not judged: there is no photo left that it has not seen.
    """
    model = scores["verdict"]["recommended"]
    if run.config.study.final and model is not None:
        step = next(row["step"] for row in scores["models"] if row["name"] == model)
        train_final(run, model, step, progress=progress)
        paint_model(run, FINAL, run.model_folder(FINAL), progress)
