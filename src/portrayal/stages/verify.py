"""Look whether a run is what was made: every file whole, nothing lacking, and weights that load and paint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from portrayal import checksums
from portrayal.errors import PortrayalError
from portrayal.files import UNFINISHED
from portrayal.run import Event, Progress, Run
from portrayal.stages.evaluate import all_painted
from portrayal.stages.paint import paintable
from portrayal.stages.shared import FINAL, base_of, dataset_of, generator_of, in_place, judged_trials, silent, trained

STEPS = 2
"""Denoising steps of a picture that only has to be one."""


@dataclass(frozen=True)
class Verified:
    """What was found of a run.

    Attributes:
        files: How many files have a checksum.
        models: The models that were loaded and painted with.
        problems: What is damaged: it must be made again.
        unfinished: What is still to be done.
    """

    files: int
    models: tuple[str, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        told = {name: list(getattr(self, name)) for name in ("models", "problems", "unfinished")}
        return {"files": self.files, **told, "finished": not self.unfinished}


def verify_run(run: Run, *, progress: Progress = silent) -> Verified:
    """Check a run: checksums, completeness, and that each of its models loads and paints. Nothing is changed.

    Args:
        run: The run.
        progress: Called with every event.
    """
    progress(Event("verify.files", "started"))
    problems, unfinished = checksums.faults(run.folder), lacking(run)
    files = len(checksums.read(run.folder))
    if not files:
        unfinished.append("no checksums yet: they are written as a command on the run ends")
    progress(Event("verify.files", "finished"))
    try:
        dataset_of(run)
    except PortrayalError as error:
        problems.append(error.cause)
    models, painted = paintable(run), list[str]()
    for number, (name, folder) in enumerate(models.items()):
        try:
            check_painting(run, name, folder)
            painted.append(name)
        except (PortrayalError, OSError, ValueError, RuntimeError, KeyError) as error:
            problems.append(f"{name} does not paint: {str(error).splitlines()[0]}")
        progress(Event("verify.models", "progress", number + 1, len(models)))
    progress(Event("verify.models", "finished"))
    return Verified(files, tuple(painted), tuple(problems), tuple(unfinished))


def lacking(run: Run) -> list[str]:
    """What is not done yet, and what a process that was killed left."""
    done = {trial.name for trial in judged_trials(run)}
    found = [f"{name} is not trained" for name in run.trials if name not in done]
    found += [f"{name} has not painted all its pictures" for name in sorted(done) if not all_painted(run, name)]
    if run.config.study.final and (run.folder / "report.html").is_file():
        recommended = trained(run, FINAL) or not wants_final(run)
        found += [] if recommended else ["the recommended model is not trained on all photos"]
    found += [f"there is no {name}" for name in ("scores.json", "report.html") if not (run.folder / name).is_file()]
    halves = [path for path in run.folder.rglob(".*") if UNFINISHED.fullmatch(path.name)]
    return found + [f"{path.relative_to(run.folder)} is half written; the next command clears it" for path in halves]


def wants_final(run: Run) -> bool:
    """Whether the verdict recommends a model."""
    from portrayal.stages.evaluate import scores_of

    return scores_of(run)["verdict"]["recommended"] is not None


def check_painting(run: Run, name: str, folder: Path | None) -> None:
    """Load a model and paint one picture in a few steps.

    Raises:
        ValueError: If the picture is of one colour, as of weights that are not finite.
    """
    import numpy as np

    base_of(run)
    painter = generator_of(run)
    few = painter.settings.model_copy(update={"num_inference_steps": STEPS, "batch_size": 1, "hires_scale": 1.0})
    with in_place(run, name, folder):
        picture = next(replace(painter, settings=few).paint([run.config.subject.filled_instance_prompt], [0]))
    if np.asarray(picture).std() < 1:
        raise ValueError("its picture is of one colour, as of weights that are not finite")
