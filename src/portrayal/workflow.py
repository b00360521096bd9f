"""The stages in order, finished ones skipped: photos in; tuned models, pictures, scores and a report out."""

from __future__ import annotations

from pathlib import Path

from portrayal.config import Config
from portrayal.run import Progress, Run
from portrayal.stages.evaluate import evaluate
from portrayal.stages.generate import generate, generate_controlled
from portrayal.stages.prepare import prepare
from portrayal.stages.report import write_report
from portrayal.stages.shared import silent
from portrayal.stages.train import train


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
    if config.control.enabled:
        generate_controlled(run, progress=progress)
        evaluate(run, progress=progress)
    write_report(run, progress=progress)
    return run
