"""Train the models of a run: each trial of its study, and at the end the recommended model on all photos."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from portrayal.config import Config, LoraMethod, Trial
from portrayal.errors import TrainingDivergedError
from portrayal.estimate.costs import relative_cost
from portrayal.files import drop_folder
from portrayal.live import Requests
from portrayal.planning import loras_at_once
from portrayal.processes import ALONE, Processes, deal, here
from portrayal.randomness import derived_seed
from portrayal.run import Event, Progress, Run, fingerprint, write_json
from portrayal.stages.cuts import CUTS
from portrayal.stages.data import encode_together, num_photos, training_data
from portrayal.stages.onlook import onlooker_of, steps_of
from portrayal.stages.publish import publish_model, published
from portrayal.stages.rounds import begin_next_round
from portrayal.stages.shared import (
    FINAL,
    alone,
    base_of,
    checked_name,
    curve_path,
    shared_stage,
    silent,
    tell,
    trained,
)
from portrayal.stages.steps import choose_steps

if TYPE_CHECKING:
    from portrayal.training.onlooker import Onlooker
    from portrayal.training.task import Task, TrainingData

MOST_NAMED = 4
"""Models that a title names each."""


@alone
def train(run: Run, models: Sequence[str] = (), *, progress: Progress = silent, live: bool = False) -> None:
    """Train the models that are not trained yet, and choose the best step of each.

    Each is trained on every fold of the study; of a study that could have more trainings than it is allowed, see
    `study.max_trainings`, every LoRA on the first fold and the best on the others.

    Args:
        run: A prepared run.
        models: Names such as `unet` or `lora-64`; nothing means all of the study.
        progress: Called with every event.
        live: Look at the readings of each training as it goes on, not when it is done: the same, sooner seen.

    Raises:
        UsageError: If the study has no model of that name.
        TrainingDivergedError: If the loss of every training stops being finite.
    """
    chosen = [checked_name(name, run.config.methods) for name in models] or list(run.config.methods)
    train_planned(run, chosen, progress, live=live)
    while not models and begin_next_round(run, progress):
        going_on = dict.fromkeys(run.trials[name].model for name in run.rounds[-1])
        train_planned(run, [*going_on], progress, live=live)
    if all(run.has_diverged(name) for name in run.trials):
        raise TrainingDivergedError(
            f"Every training of {run.folder} diverged: its loss stopped being finite.",
            "Set lower learning rates: method.lora.learning_rate, method.unet.learning_rate or study.learning_rates.",
        )


def train_planned(run: Run, chosen: Sequence[str], progress: Progress, *, live: bool) -> None:
    """Train what the rounds so far have planned for some models, and choose the best step of each."""
    trials = [trial for trial in run.trials.values() if trial.model in chosen]
    processes = here()
    if processes.first:
        drop_curves(run, chosen)
    shares = processes.agree(shared_out(run, trials, processes))
    if not all(trained(run, trial.name) for trial in trials):
        encode_together(run, progress)
    for names, owner in shares:
        if owner in (None, processes.rank):
            if all(trained(run, name) for name in names):
                progress(Event(f"train.{title_of(names)}", "skipped"))
            train_together(run, names, progress, processes if owner is None else ALONE, live=live)
    processes.wait()
    choose_steps(run, chosen, progress)
    for name in chosen if processes.first else ():
        if not run.has_diverged(name) and not published(run, name, name):
            publish_model(run, name, name, num_photos(run, 0))
    processes.wait()


def drop_curves(run: Run, models: Sequence[str]) -> None:
    """Let the curve of a model go of which a training is done anew: all are then, for it is drawn over all of them."""
    for trial in (run.config.trials[name] for name in run.rounds[0]):
        if trial.model in models and not trained(run, trial.name):
            curve_path(run, trial.model).unlink(missing_ok=True)


def clear(run: Run, name: str) -> None:
    """Let go of what is left of a training that is done anew, and of what was painted with it."""
    drop_folder(run.model_folder(name))
    if name != FINAL:
        (run.folder / CUTS).unlink(missing_ok=True)  # which may be of its earlier weights
    images = run.folder / "images"
    for folder in [
        *(images / kind / name for kind in ("", "class", "steps", "now")),
        *images.glob(f"control/*/{name}"),
    ]:
        drop_folder(folder)


def shared_out(run: Run, trials: Sequence[Trial], processes: Processes) -> list[tuple[list[str], int | None]]:
    """Which trials train together, and the process that trains them; nothing means all, who share their steps.

    What trains together does not depend on the processes where `study.loras_at_once` says how many LoRAs do; else a
    batch holds no more than gives every process a share.
    """
    from portrayal.training.sharing import shares_steps

    config, most = run.config, loras_at_once(run.config)
    loras = sum(isinstance(config.methods[trial.model], LoraMethod) for trial in trials)
    if config.study.loras_at_once is None:
        most = min(most, max(1, math.ceil(loras / processes.count)))
    packs = together(trials, config, most, begun(run))
    models = [config.methods[config.trials[names[0]].model] for names in packs]
    shared = [shares_steps(method, config, processes.count) for method in models]
    costs = [
        0.0 if is_shared or all(trained(run, name) for name in names) else relative_cost(config, method, len(names))
        for names, method, is_shared in zip(packs, models, shared, strict=True)
    ]
    owners = deal(costs, processes.count)
    found = zip(packs, shared, owners, strict=True)
    return [(names, None if is_shared else owner) for names, is_shared, owner in found]


def train_final(run: Run, model: str, last_step: int, *, progress: Progress = silent) -> None:
    """Train a model of the study once more, on all photos and up to a step."""
    from portrayal.training import trainer
    from portrayal.training.sharing import shares_steps
    from portrayal.training.task import Task

    method = run.config.methods[model]
    processes = here() if shares_steps(method, run.config, here().count) else ALONE
    if processes is ALONE and not here().first:
        return
    folder, settings = run.model_folder(FINAL), {"model": model, "step": last_step}
    work = folder.with_name(f".{FINAL}.training")
    if run.finished(f"train.{FINAL}", settings) and trained(run, FINAL):
        if processes.first and not published(run, FINAL, model):
            publish_model(run, FINAL, model, num_photos(run, None))
        progress(Event(f"train.{FINAL}", "skipped"))
        return
    if processes.first:
        clear(run, FINAL)  # of another model, or to another step
    with (
        onlooking(run, live=False) as onlooker,
        shared_stage(run, f"train.{FINAL}", settings, progress, processes, stops=False) as tick,
    ):
        task = Task(FINAL, method, training_data(run, None, progress), folder, last_step=last_step)
        tell = teller(run, f"train.{FINAL}", progress)
        trainer.train(base_of(run), [task], run.config, work, tick, tell, processes, onlooker)
        if processes.first:
            publish_model(run, FINAL, model, num_photos(run, None))


def together(trials: Sequence[Trial], config: Config, most: int, begun: Sequence[list[str]] = ()) -> list[list[str]]:
    """Which trials share a batch: those that have begun so, further LoRAs `most` at once, each full UNet alone.

    Photos of one shape can share a batch whatever fold they are from; of several shapes, each fold has its own turns.
    """
    begun = [pack for pack in begun if set(pack) <= {trial.name for trial in trials}]
    fresh = [trial for trial in trials if not any(trial.name in pack for pack in begun)]
    loras = [trial for trial in fresh if isinstance(config.methods[trial.model], LoraMethod)]
    alone = [[trial.name] for trial in fresh if trial not in loras]
    by_split = [list(group) for _, group in groupby(loras, lambda trial: (trial.seed, trial.fold))]
    sharing = by_split if config.prepare.shape == "bucket" else [loras]
    packs = [group[start : start + most] for group in sharing for start in range(0, len(group), most)]
    return [*alone, *begun, *([trial.name for trial in pack] for pack in packs)]


def title_of(names: Sequence[str]) -> str:
    """`lora-8+16+32`, or with how many trainings: what trials that share a batch are called together."""
    if len(names) == 1:
        return names[0]
    models = list(dict.fromkeys(name.split(".")[0] for name in names))
    if len(models) > MOST_NAMED:
        return f"loras, {len(names)} trainings"
    title = "+".join([models[0], *(name.removeprefix("lora-") for name in models[1:])])
    return title if len(names) == len(models) else f"{title}, {len(names)} trainings"


def work_folder(run: Run, names: Sequence[str]) -> Path:
    """Where trials that share a batch keep what is only needed until the end."""
    name = names[0] if len(names) == 1 else f"pack-{fingerprint(list(names))}"
    return run.folder / "models" / f".{name}.training"


def begun(run: Run) -> list[list[str]]:
    """Packs that were interrupted: they go on as they are, whatever fits into memory now."""
    found = sorted((run.folder / "models").glob(".pack-*.training/names.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def train_together(
    run: Run, names: Sequence[str], progress: Progress, processes: Processes = ALONE, *, live: bool = False
) -> None:
    """Train what is not trained yet of trials that share a batch, with all processes that share its steps."""
    from portrayal.training import trainer

    missing = [name for name in names if not trained(run, name)]
    if not missing:
        drop_folder(work_folder(run, names))  # interrupted between the last model and this
        return
    if not work_folder(run, names).is_dir():  # nothing to go on from: those that are there need not ride along
        names = missing
        for name in missing if processes.first else ():
            clear(run, name)
    work = work_folder(run, names)
    if len(names) > 1:
        write_json(work / "names.json", list(names))
    settings = {name: run.config.methods[run.config.trials[name].model].model_dump() for name in names}
    data = {fold: training_data(run, fold, progress) for fold in {run.config.trials[name].fold for name in names}}
    with (
        onlooking(run, live=live) as onlooker,  # before the stage is seen: what was asked of another is forgotten
        shared_stage(run, f"train.{title_of(names)}", settings, progress, processes, stops=False) as tick,
    ):
        tasks = [task_of(run, run.config.trials[name], data) for name in names]
        tell = teller(run, f"train.{title_of(names)}", progress)
        trainer.train(base_of(run), tasks, run.config, work, tick, tell, processes, onlooker)


@contextmanager
def onlooking(run: Run, *, live: bool) -> Iterator[Onlooker | None]:
    """Who looks on while a training goes on, and takes requests; nobody where several processes share the work."""
    if here().count > 1:
        yield None
        return
    requests = Requests(run.folder)
    requests.open()
    try:
        yield onlooker_of(run, requests, live=live)
    finally:
        requests.close()


def teller(run: Run, name: str, progress: Progress) -> Callable[[str], None]:
    """Logs and shows notes of a stage."""
    return lambda message: tell(run, Event(name, "note", message=message), progress)


def task_of(run: Run, trial: Trial, data: Mapping[int, TrainingData]) -> Task:
    """What the trainer is told of a trial."""
    from portrayal.training.task import Task

    first = trial.fold == trial.seed == 0
    seed = run.config.seed if first else derived_seed(run.config.seed, "trial", trial.fold, trial.seed)
    method = run.config.methods[trial.model]
    end, steps = steps_of(run, trial)
    keeps_rate = isinstance(method, LoraMethod) and len(run.config.study.learning_rates) > 1
    folder = run.model_folder(trial.name)
    return Task(trial.name, method, data[trial.fold], folder, seed, steps, end, keeps_rate)
