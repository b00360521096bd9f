"""Measure the models of a run and draw the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.config import LoraMethod, Method, Trial
from portrayal.errors import UsageError
from portrayal.run import DIVERGED, Event, Progress, Run, write_json
from portrayal.stages.data import painted_class_images
from portrayal.stages.generate import class_pictures, scene_pictures
from portrayal.stages.shared import (
    base_of,
    dataset_of,
    encoders_of,
    judged_trials,
    looks_of,
    silent,
    stage,
    tell,
    trained_models,
    with_article,
)
from portrayal.stages.steps import base_losses, curve_of_model
from portrayal.stages.validity import check_validity

if TYPE_CHECKING:
    from PIL import Image

    from portrayal.evaluation.evidence import Diverged, PaintedModel
    from portrayal.evaluation.sweep import ControlledPictures
    from portrayal.photos import PreparedPhoto

MAX_STRANGERS = 40


def measure(run: Run, *, progress: Progress = silent) -> dict[str, Any]:
    """Measure every painted model in the same cells and draw the verdict; returns what `scores.json` holds.

    Raises:
        UsageError: If no pictures have been painted.
    """
    from portrayal.evaluation.evaluate import score

    inputs = evaluated_files(run)
    written = all((run.folder / name).is_file() for name in ("scores.json", "looks.json"))
    if run.finished("evaluate", inputs) and written:
        progress(Event("evaluate", "skipped"))
        return scores_of(run)
    with stage(run, "evaluate", inputs, progress) as tick:
        evidence = gather(run, tick, progress)
        checks = check_validity(run, evidence)
        scores = score(evidence, encoders_of(run), base_name=base_of(run).source.name, known=looks_of(run))
        scores["checks"] = [one.as_json() for one in checks]
        write_json(run.folder / "looks.json", scores.pop("pictures"))
        write_json(run.folder / "scores.json", scores)
    for note in scores["encoders"]["notes"]:
        tell(run, Event("evaluate", "note", message=note), progress)
    return scores


def evaluated_files(run: Run) -> list[str]:
    """What scores depend on: names of the pictures, and the trainings with when they were made."""
    trained = {trial.name: run.model_folder(trial.name) / "method.json" for trial in judged_trials(run)}
    trained |= {name: run.model_folder(name) / DIVERGED for name in run.trials if run.has_diverged(name)}
    judged = [folder for name in ("base", *trained) for folder in (name, f"class/{name}")]
    images = run.folder / "images"
    pictures = [path for name in (*judged, "control") for path in (images / name).rglob("*.png")]
    return [
        *(f"{name} {path.stat().st_mtime_ns}" for name, path in trained.items()),
        *sorted(str(path.relative_to(run.folder)) for path in pictures),
    ]


def gather(run: Run, tick: Callable[[int, int], None], progress: Progress) -> Any:
    """Collect what a run is judged by."""
    from portrayal.evaluation.evidence import Evidence
    from portrayal.generation.pictures import load_pictures

    config, dataset = run.config, dataset_of(run)
    if not all_painted(run, "base"):
        raise UsageError(f"{run.folder} has no pictures to judge.", f"Paint them: portrayal generate {run.folder}")
    partly = {trial.model for trial in judged_trials(run) if not all_painted(run, trial.name)}
    trials = [trial for trial in judged_trials(run) if trial.model not in partly]
    splits = sorted({(trial.fold, trial.seed) for trial in trials}) or [(0, 0)]
    bases = [Trial("base", "base", fold, seed) for fold, seed in splits]
    models = []
    for name in ["base", *config.methods]:
        found = [trial for trial in [*bases, *trials] if trial.model == name]
        if found:
            models.append(painted_model(run, name, found))
    noun = with_article(config.subject.class_noun)

    def photos(found: Sequence[PreparedPhoto]) -> dict[str, Image.Image]:
        pictures = load_pictures([dataset.image_path(photo) for photo in found])
        return dict(zip([photo.id for photo in found], pictures, strict=True))

    folds = range(config.study.folds)
    painted_by_base = models[0].trainings[0].pictures()
    return Evidence(
        config,
        models,
        [prompt.replace("{subject}", noun) for prompt in config.generation.scenes.values()],
        [photos(dataset.heldout(fold)) for fold in folds],
        [photos(dataset.training(fold)) for fold in folds],
        strangers(run, painted_by_base, progress),
        control_evidence(run),
        tick,
        diverged_trainings(run),
    )


def diverged_trainings(run: Run) -> list[Diverged]:
    """The LoRA trainings that could not go on."""
    from portrayal.evaluation.evidence import Diverged

    found = []
    for trial in run.trials.values():
        method = run.config.methods[trial.model]
        if isinstance(method, LoraMethod) and run.has_diverged(trial.name):
            step = json.loads((run.model_folder(trial.name) / DIVERGED).read_text(encoding="utf-8"))["step"]
            found.append(Diverged(trial, method.rank, shown_rate(run, method), step))
    return found


def shown_rate(run: Run, method: Method | None) -> float | None:
    """The learning rate of a LoRA, where the study has several."""
    several = len(run.config.study.learning_rates) > 1
    return method.learning_rate if several and isinstance(method, LoraMethod) else None


def painted_model(run: Run, name: str, trials: Sequence[Trial]) -> PaintedModel:
    """A model with what each of its trainings painted, read when it is looked at: there may be a thousand pictures."""
    from portrayal.evaluation.evidence import PaintedModel, PaintedTraining
    from portrayal.generation.pictures import load_pictures

    config, trainings = run.config, []
    for trial in trials:

        def pictures(trial: Trial = trial) -> list[list[Image.Image]]:
            return [load_pictures(scene_paths(run, trial.name, scene)) for scene in config.generation.scenes]

        def of_class(trial: Trial = trial) -> list[Image.Image]:
            return load_pictures([picture.path for picture in class_pictures(run, trial.name)])

        trainings.append(PaintedTraining(trial, losses_of(run, trial), pictures, of_class))
    method = config.methods.get(name)
    curve = curve_of_model(run, name) if method else None
    rank = method.rank if isinstance(method, LoraMethod) else None
    rate = shown_rate(run, method)
    return PaintedModel(name, method.kind if method else "base", rank, trainings, curve, rate)


def losses_of(run: Run, trial: Trial) -> dict[str, Any]:
    """Held-out losses of a training at its chosen step, by photo, each `(T, N)`."""
    if trial.model == "base":
        losses = base_losses(run)
    else:
        path = run.model_folder(trial.name) / "heldout.json"
        losses = json.loads(path.read_text(encoding="utf-8"))["losses"]
    return {photo.id: losses[photo.id] for photo in dataset_of(run).heldout(trial.fold)}


def strangers(run: Run, base_pictures: list[list[Any]], progress: Progress) -> list[Any]:
    """Other people of the class: class images where they exist, the base's own pictures otherwise."""
    training = run.config.training
    if training.prior_loss_weight == 0:
        return [picture for row in base_pictures for picture in row]
    return painted_class_images(run, min(MAX_STRANGERS, training.num_class_images), progress)


def scene_paths(run: Run, name: str, scene: str) -> list[Path]:
    """Where the pictures of a scene lie."""
    return [run.image_path(name, scene, number) for number in range(run.config.generation.num_images_per_scene)]


def all_painted(run: Run, name: str) -> bool:
    """Whether every picture of a training is there; one that is painted in part is left out."""
    return all(picture.path.is_file() for picture in [*scene_pictures(run, name), *class_pictures(run, name)])


def control_evidence(run: Run) -> list[ControlledPictures]:
    """The pictures held to control images, as far as they are painted."""
    from portrayal.evaluation.sweep import ControlledPictures
    from portrayal.generation.pictures import load_pictures

    settings, made = run.config.control, []
    for kind in settings.kinds:
        for name in trained_models(run):
            paths = {scale: controlled_paths(run, kind, name, scale) for scale in settings.scales}
            if all_controlled(run, kind, name):
                (image,) = load_pictures([control_path(run, kind)])
                pictures = {scale: load_pictures(row) for scale, row in paths.items()}
                made.append(ControlledPictures(kind, name, image, pictures))
    return made


def all_controlled(run: Run, kind: str, name: str) -> bool:
    """Whether a control image and a model's pictures held to it are there at all strengths."""
    scales = run.config.control.scales
    pictures = [path for scale in scales for path in controlled_paths(run, kind, name, scale)]
    return all(path.is_file() for path in (control_path(run, kind), *pictures))


def control_path(run: Run, kind: str) -> Path:
    """Where the control image of a kind lies."""
    return run.folder / "images" / "control" / kind / "control.png"


def controlled_paths(run: Run, kind: str, name: str, scale: float) -> list[Path]:
    """Where a model's pictures of a kind at a strength lie; those of strength 0 are of no kind."""
    where = run.folder / "images" / "control"
    folder = where / kind / name / f"{scale:g}" if scale else where / "without" / name
    return [folder / f"{number}.png" for number in range(run.config.control.num_images)]


def scores_of(run: Run) -> dict[str, Any]:
    """What `scores.json` holds.

    Raises:
        UsageError: If the run has not been evaluated.
    """
    path = run.folder / "scores.json"
    if not path.is_file():
        raise UsageError(f"{run.folder} has no scores.", f"Evaluate it first: portrayal evaluate {run.folder}")
    return dict(json.loads(path.read_text(encoding="utf-8")))
