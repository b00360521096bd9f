"""Measure the models of a run and draw the verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.errors import UsageError
from portrayal.run import Event, Progress, Run, write_json
from portrayal.stages.shared import base_of, dataset_of, silent, stage, tell, trained_models, with_article
from portrayal.stages.train import encoded, painted_class_images

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from portrayal.evaluation.evaluate import ControlledPictures


MAX_STRANGERS = 40


def measure(run: Run, *, progress: Progress = silent) -> dict[str, Any]:
    """Measure every painted model in the same cells and draw the verdict; returns what `scores.json` holds.

    Raises:
        UsageError: If no pictures have been painted.
    """
    from portrayal.evaluation.evaluate import score
    from portrayal.models.encoders import load_encoders

    inputs = evaluated_files(run)
    if run.finished("evaluate", inputs) and (run.folder / "scores.json").is_file():
        progress(Event("evaluate", "skipped"))
        return scores_of(run)
    with stage(run, "evaluate", inputs, progress) as tick:
        evidence = gather(run, tick, progress)
        base = base_of(run)
        scores = score(evidence, load_encoders(base.source, base.device), base_name=base.source.name)
        write_json(run.folder / "scores.json", scores)
    for note in scores["encoders"]["notes"]:
        tell(run, Event("evaluate", "note", message=note), progress)
    return scores


def evaluated_files(run: Run) -> list[str]:
    """What scores depend on: names of the pictures, and the models with when they were trained."""
    pictures = sorted(str(path.relative_to(run.folder)) for path in (run.folder / "images").rglob("*.png"))
    trained = [
        f"{name} {(folder / 'method.json').stat().st_mtime_ns if folder else ''}"
        for name, folder in trained_models(run).items()
    ]
    return trained + pictures


def gather(run: Run, tick: Callable[[int, int], None], progress: Progress) -> Any:
    """Collect what a run is judged by."""
    from portrayal.evaluation.evaluate import Evidence, PaintedModel
    from portrayal.generation.pictures import load_pictures

    config, dataset = run.config, dataset_of(run)
    painted = {name: path for name, path in trained_models(run).items() if all_painted(run, name)}
    if "base" not in painted:
        raise UsageError(f"{run.folder} has no pictures to judge.", f"Paint them: portrayal generate {run.folder}")
    models = []
    for number, (name, folder) in enumerate(painted.items()):
        losses = losses_of(run, name, folder)
        rank = config.methods[name].rank if name.startswith("lora") else None  # type: ignore[union-attr]
        kind = "base" if folder is None else config.methods[name].kind
        rows = [list(load_pictures(scene_paths(run, name, scene))) for scene in config.generation.scenes]
        models.append(PaintedModel(name, kind, rank, losses, rows))
        tick(number + 1, len(painted) + 1)
    noun = with_article(config.subject.class_noun)
    kept = list(load_pictures([dataset.image_path(photo) for photo in dataset.training]))
    heldout = dict(
        zip(
            [photo.id for photo in dataset.heldout],
            load_pictures([dataset.image_path(photo) for photo in dataset.heldout]),
            strict=True,
        )
    )
    return Evidence(
        config,
        models,
        [prompt.replace("{subject}", noun) for prompt in config.generation.scenes.values()],
        heldout,
        kept,
        strangers(run, models[0].pictures, progress),
        control_evidence(run),
    )


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
    """Whether every scene of a model is there; a model that is painted in part is left out."""
    return all(path.is_file() for scene in run.config.generation.scenes for path in scene_paths(run, name, scene))


def control_evidence(run: Run) -> list[ControlledPictures]:
    """The pictures held to control images, as far as they are painted."""
    from portrayal.evaluation.evaluate import ControlledPictures
    from portrayal.generation.pictures import load_pictures

    where, numbers = run.folder / "images" / "control", range(run.config.control.num_images)
    made = []
    for kind in run.config.control.kinds:
        for name in trained_models(run):
            paths = [[where / folder / name / f"{n}.png" for n in numbers] for folder in (kind, "without")]
            if all(path.is_file() for row in paths for path in row):
                (image,) = load_pictures([where / kind / "control.png"])
                made.append(ControlledPictures(kind, name, image, *(list(load_pictures(row)) for row in paths)))
    return made


def losses_of(run: Run, name: str, folder: Path | None) -> NDArray[np.float64]:
    """Held-out losses of a model, shape `(P, T, N)`, read once and kept."""
    import numpy as np

    from portrayal.evaluation.heldout import HeldoutGrid, heldout_losses
    from portrayal.models.methods import tuned

    path = (folder or run.folder / "models" / name) / "heldout.json"  # goes with the model it was read from
    if not path.is_file():
        settings = run.config.evaluation
        grid = HeldoutGrid(settings.num_timesteps, settings.num_noises, run.config.seed)
        (photos,) = encoded(run, "heldout")  # squares all
        with tuned(base_of(run), folder) as base:
            write_json(path, heldout_losses(base, photos, grid).tolist())
    return np.array(json.loads(path.read_text(encoding="utf-8")))


def scores_of(run: Run) -> dict[str, Any]:
    """What `scores.json` holds.

    Raises:
        UsageError: If the run has not been evaluated.
    """
    path = run.folder / "scores.json"
    if not path.is_file():
        raise UsageError(f"{run.folder} has no scores.", f"Evaluate it first: portrayal evaluate {run.folder}")
    return dict(json.loads(path.read_text(encoding="utf-8")))
