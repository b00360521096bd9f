"""The stages in order, finished ones skipped: photos in; tuned models, pictures, scores and a report out."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from portrayal.config import Config
from portrayal.estimate.afterwards import compare, said, whole_stages
from portrayal.planning import settle
from portrayal.processes import here
from portrayal.run import Event, Progress, Run, write_json
from portrayal.stages.control import generate_controlled
from portrayal.stages.cuts import cut_recommended
from portrayal.stages.evaluate import measure, scores_of
from portrayal.stages.generate import generate, paint_model
from portrayal.stages.prepare import prepare
from portrayal.stages.publish import write_card
from portrayal.stages.report import write_report
from portrayal.stages.shared import FINAL, alone, at_work, base_ahead, dataset_of, silent, tell
from portrayal.stages.train import train, train_final
from portrayal.stages.validity import check_final


def portray(
    photos: Path,
    config: Config,
    out: Path,
    *,
    consent: bool | None = None,
    progress: Progress = silent,
    live: bool = False,
) -> Run:
    """Do the whole job, or what is left of it: the same call again goes on where it was interrupted.

    Args:
        photos: Folder of photos.
        config: The settings; see :func:`portrayal.load_config`.
        out: Folder of the run.
        consent: Whether the subject agreed, as stated by the user; `None` is recorded as not stated.
        progress: Called with every :class:`portrayal.Event`.
        live: Look at trainings as they go on; see :func:`portrayal.train`.

    Raises:
        PortrayalError: With cause, remedy and exit code; see :mod:`portrayal.errors`.
    """
    started, begun = time.monotonic(), (out / "events.jsonl").is_file()
    with at_work(out, progress):
        with nullcontext() if (out / "run.json").is_file() else base_ahead(settle(config).config):
            if here().first:
                look_ahead(prepare(photos, config, out, consent=consent, progress=progress), progress)
        here().wait()
        run = Run.open(out)
        train(run, progress=progress, live=live)
        generate(run, progress=progress)
        evaluate(run, progress=progress)
        if here().first:
            write_report(run, progress=progress)
            look_back(run, None if begun else time.monotonic() - started, progress)
        here().wait()
    return run


def look_ahead(run: Run, progress: Progress) -> None:
    """Keep what the run should take, at its start, in `estimate.json`."""
    path = run.folder / "estimate.json"
    if path.is_file() or (run.folder / "scores.json").is_file():
        return
    estimated = settle(run.config).estimate(len({photo.photo_id for photo in dataset_of(run).photos}))
    write_json(path, estimated.as_json())
    for note in (estimated.lines()[0], *estimated.notes):
        tell(run, Event("estimate", "note", message=note), progress)


def look_back(run: Run, seconds: float | None, progress: Progress) -> None:
    """Add to `estimate.json` what the run took, and tell it, once.

    Args:
        run: A finished run.
        seconds: All of it from the first stage to the last, or nothing if it was interrupted.
        progress: Called with the event.
    """
    path = run.folder / "estimate.json"
    estimated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"took": None}
    if "took" in estimated:
        return
    took = whole_stages(run.folder / "events.jsonl")
    took["prepare"] = json.loads((run.folder / "stages" / "prepare.json").read_text(encoding="utf-8"))["seconds"]
    if seconds is not None:
        took["load"] = max(0.0, seconds - sum(took.values()))
    compared = compare(estimated, took)
    write_json(path, estimated | {"took": compared})
    tell(run, Event("estimate", "note", message=said(compared, whole=seconds is not None)), progress)


@alone
def evaluate(run: Run, *, progress: Progress = silent) -> dict[str, Any]:
    """Judge every model, held to control images too, and the recommended LoRA at lower ranks.

    Then train the recommended model on all photos.

    Args:
        run: A run with pictures of its scenes.
        progress: Called with every :class:`portrayal.Event`.

    Returns:
        What `scores.json` holds.

    Raises:
        UsageError: If no pictures have been painted.
        WeightsError: If a ControlNet was named that cannot be had.
    """
    scores = measured(run, progress)
    if run.config.control.enabled:
        generate_controlled(run, progress=progress)
        scores = measured(run, progress)
    if here().first:
        cut_recommended(run, scores, progress=progress)
        for row in scores["models"]:
            if row["name"] in run.config.methods:
                write_card(run, row["name"], row["name"])
    here().wait()
    finish(run, scores, progress)
    return scores


def measured(run: Run, progress: Progress) -> dict[str, Any]:
    """The scores of a run, measured by the first process for all."""
    if here().first:
        measure(run, progress=progress)
    here().wait()
    return scores_of(run)


def finish(run: Run, scores: dict[str, Any], progress: Progress) -> None:
    """Train the recommended model on all photos, up to its best step, and paint the scenes with it.

    Its pictures are shown and not judged: there is no photo left that it has not seen.
    """
    model = scores["verdict"]["recommended"]
    if run.config.study.final and model is not None:
        step = next(row["step"] for row in scores["models"] if row["name"] == model)
        train_final(run, model, step, progress=progress)
        if here().first:
            check_final(run)
            paint_model(run, FINAL, run.model_folder(FINAL), progress)
