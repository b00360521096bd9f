"""Look at the weights a training kept on its way, choose each model's best step, and let the other steps go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.config import Trial
from portrayal.files import drop_folder, flush_folder
from portrayal.processes import here
from portrayal.run import Event, Progress, Run, write_json
from portrayal.stages.data import heldout_data
from portrayal.stages.shared import base_of, curve_path, dataset_of, encoders_of, generator_of, stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from portrayal.evaluation.curves import Curve
    from portrayal.generation.pictures import Picture

SAMPLES = "steps"


def choose_steps(run: Run, models: Sequence[str], progress: Progress) -> None:
    """Settle the step at which each model is judged and used: one for all its trainings, see `draw_curve`."""
    look_together(run, models)
    for model in models if here().first else ():
        trials = [trial for trial in run.trials.values() if trial.model == model and has_ended(run, trial)]
        if not trials:
            continue
        first = [trial for trial in trials if trial.name in run.rounds[0]]
        if curve_path(run, model).is_file():
            progress(Event(f"steps.{model}", "skipped"))
        else:
            with stage(run, f"steps.{model}", [trial.name for trial in first], progress) as tick:
                write_json(curve_path(run, model), curve_of(run, first, tick).as_json())
        for trial in trials:
            settle(run, trial, curve_of_model(run, model).best_step)


def has_ended(run: Run, trial: Trial) -> bool:
    """Whether a training is done and has not diverged."""
    return (run.model_folder(trial.name) / "method.json").is_file() and not run.has_diverged(trial.name)


def look_together(run: Run, models: Sequence[str]) -> None:
    """Let several processes look at the steps whose curves are to be drawn; each reading is kept."""
    processes = here()
    if processes.count == 1:
        return  # looked at as the curve is drawn
    models = [model for model in models if not curve_path(run, model).is_file()]
    trials = [trial for trial in run.trials.values() if trial.model in models and has_ended(run, trial)]
    readings = [(trial, step) for trial in trials for step in kept_steps(run, [trial])]
    for trial, step in processes.mine(readings):
        read_step(run, trial, step)
    processes.wait()


def curve_of_model(run: Run, model: str) -> Curve:
    """The curve of a model whose step has been chosen."""
    from portrayal.evaluation.curves import Curve

    return Curve.from_json(json.loads(curve_path(run, model).read_text(encoding="utf-8")))


def kept_steps(run: Run, trials: Sequence[Trial]) -> list[int]:
    """Steps of which all trainings of a model have kept the weights: one that was stopped has kept fewer."""
    kept = [{int(path.name) for path in (run.model_folder(trial.name) / "steps").iterdir()} for trial in trials]
    return sorted(set.intersection(*kept))


def read_step(run: Run, trial: Trial, step: int) -> dict[str, Any]:
    """Held-out losses, and the likeness of a picture of each scene, at one step; kept with its weights."""
    from portrayal.models.saved import tuned

    folder = run.model_folder(trial.name) / "steps" / str(step)
    path = folder / "heldout.json"
    if not path.is_file():
        with tuned(base_of(run), folder):
            likeness = likeness_now(run, trial, step) if run.config.study.readings > 1 else None
            write_json(path, {"losses": losses_now(run, trial.fold), "identity": likeness})
    return dict(json.loads(path.read_text(encoding="utf-8")))


def losses_now(run: Run, fold: int) -> dict[str, Any]:
    """Held-out losses of what is in place on the base, by photo, each `(T, N)`."""
    from portrayal.evaluation.heldout import HeldoutGrid, heldout_losses

    settings, (photos, places) = run.config.evaluation, heldout_data(run, fold)
    grid = HeldoutGrid(settings.num_timesteps, settings.num_noises, run.config.seed)
    return dict(zip(photos.ids, heldout_losses(base_of(run), photos, grid, places).tolist(), strict=True))


def base_losses(run: Run) -> dict[str, Any]:
    """Held-out losses of the untouched base on the photos of all folds, read once and kept."""
    path = run.model_folder("base") / "heldout.json"
    if not path.is_file():
        found = [losses_now(run, fold) for fold in range(run.config.study.folds)]
        write_json(path, {"losses": {photo: losses for part in found for photo, losses in part.items()}})
    return dict(json.loads(path.read_text(encoding="utf-8"))["losses"])


def likeness_now(run: Run, trial: Trial, step: int) -> list[float] | None:
    """Likeness of a picture of each scene to the held-out photos; nothing without a judge of likeness."""
    from portrayal.evaluation.metrics import subject_fidelity
    from portrayal.generation.pictures import Weights, load_pictures, paint_missing

    dataset, judge = dataset_of(run), encoders_of(run).identity
    if judge is None:
        return None
    pictures = sample_pictures(run, samples_folder(run, trial.name) / str(step))
    weights = Weights(f"{trial.model} at step {step}", run.base_hash)
    paint_missing(generator_of(run), pictures, weights, lambda *_: None)
    photos = load_pictures([dataset.image_path(photo) for photo in dataset.heldout(trial.fold)])
    painted = load_pictures([picture.path for picture in pictures])
    return list(map(float, subject_fidelity(judge.images(painted), judge.images(photos))))


def sample_pictures(run: Run, folder: Path) -> list[Picture]:
    """A picture of each scene, at the same seed at every step."""
    from portrayal.generation.pictures import Picture, picture_seed

    config = run.config
    return [
        Picture(
            folder / f"{scene}.png",
            prompt.replace("{subject}", config.subject.subject),
            picture_seed(config.seed, f"steps.{scene}", 0),
        )
        for scene, prompt in config.generation.scenes.items()
    ]


def samples_folder(run: Run, name: str) -> Path:
    """Where the pictures of a training's steps lie; those of each model's first training are kept."""
    return run.folder / "images" / SAMPLES / name


def curve_of(run: Run, trials: Sequence[Trial], tick: Callable[[int, int], None]) -> Curve:
    """The curve of a model: each kept step of each of its trainings is looked at."""
    import numpy as np

    from portrayal.evaluation.curves import draw_curve
    from portrayal.evaluation.metrics import log_ratio

    base, settings, steps = base_losses(run), run.config.evaluation, kept_steps(run, trials)
    readings: list[list[dict[str, Any]]] = []
    for number, trial in enumerate(trials):
        readings.append([])
        for place, step in enumerate(steps):
            readings[-1].append(read_step(run, trial, step))
            tick(number * len(steps) + place + 1, len(trials) * len(steps))
    by_photo: dict[str, list[list[float]]] = {}
    for course in readings:
        for photo in course[0]["losses"]:
            losses = np.array([reading["losses"][photo] for reading in course])
            ratios = log_ratio(losses, np.broadcast_to(np.array(base[photo]), losses.shape))
            by_photo.setdefault(photo, []).append(ratios.mean(axis=1).tolist())
    likeness = [[reading["identity"] for reading in course] for course in readings]
    measured = all(one is not None for course in likeness for one in course)
    return draw_curve(
        steps,
        np.array([np.mean(rows, axis=0) for rows in by_photo.values()]),
        units_of(np.array(likeness)) if measured else None,
        loss_margin=settings.margin_heldout_loss,
        identity_margin=settings.margin_identity,
    )


def units_of(likeness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Likeness `(trainings, readings, pictures)` as `(units, readings)`: trainings, or the pictures of the only one."""
    units: NDArray[np.float64] = likeness.mean(axis=2) if len(likeness) > 1 else likeness[0].T
    return units


def keep_readings(folder: Path) -> None:
    """Keep the mean of what was read at each step of a training in `readings.json`, once its other steps go."""
    found = {}
    for path in sorted(folder.glob("steps/*/heldout.json"), key=lambda path: int(path.parent.name)):
        read = json.loads(path.read_text(encoding="utf-8"))
        losses = [mean_of(rows) for rows in read["losses"].values()]
        identity = read["identity"]
        found[path.parent.name] = {
            "loss": mean_of(losses),
            "identity": mean_of(identity) if identity else None,
            "photos": list(read["losses"]),
        }
    write_json(folder / "readings.json", found)


def mean_of(values: Any) -> float:
    """Mean of all numbers of an array."""
    import numpy as np

    return float(np.mean(values))


def settle(run: Run, trial: Trial, step: int) -> None:
    """Put the weights of a step in their model's place; those of the others go, or stay beside it if that is wanted."""
    folder = run.model_folder(trial.name)
    if trial.name != trial.model:  # first: it may have been killed after the steps had gone
        shutil.rmtree(samples_folder(run, trial.name), ignore_errors=True)
    steps = folder / "steps"
    if not steps.is_dir():
        return
    chosen = steps / str(step)
    if chosen.is_dir() and not (folder / "heldout.json").is_file():  # the first that is moved: there if killed half-way
        read_step(run, trial, step)  # of a later round, whose curve was drawn before
        keep_readings(folder)
    for path in sorted(chosen.iterdir()) if chosen.is_dir() else ():
        path.replace(folder / path.name)
    described = json.loads((folder / "method.json").read_text(encoding="utf-8"))
    write_json(folder / "method.json", described | {"step": step})
    flush_folder(folder)
    if run.config.study.keep_readings:
        shutil.rmtree(chosen, ignore_errors=True)
        steps.replace(folder / "readings")
        flush_folder(folder)
    else:
        drop_folder(steps)  # as a whole: half of it would be taken for the steps
