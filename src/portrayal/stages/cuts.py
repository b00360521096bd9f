"""Cut the recommended LoRA to lower ranks and judge each cut like the whole one; nothing is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.config import LoraMethod, Trial
from portrayal.errors import UsageError
from portrayal.run import Event, Progress, Run, write_bytes, write_json
from portrayal.stages.evaluate import gather
from portrayal.stages.export_models import in_precision
from portrayal.stages.generate import class_pictures, scene_pictures
from portrayal.stages.publish import saved_layers
from portrayal.stages.shared import (
    checked_name,
    encoders_of,
    generator_of,
    in_place,
    judged_trials,
    looks_of,
    silent,
    stage,
)

if TYPE_CHECKING:
    from PIL import Image

    from portrayal.evaluation.comparisons import ModelEvidence
    from portrayal.evaluation.cuts import Cut
    from portrayal.evaluation.evidence import PaintedModel, PaintedTraining
    from portrayal.evaluation.judge import Judge

CUTS = "cuts.json"
STAGE = "evaluate.cuts"
WORK = ".cuts.work.tmp"
"""In `models`: the weights of the cut at hand. By its name a run clears it away after a process was killed."""


def cut_recommended(run: Run, scores: Mapping[str, Any], *, progress: Progress = silent) -> None:
    """Keep `cuts.json` of the recommended model; of a full UNet, and of a LoRA that was trained once, there is none.

    One training does not say what a cut costs another, and the LoRA that is used is another: see `study.final`.

    Args:
        run: An evaluated run.
        scores: Its scores.
        progress: Called with every event.
    """
    model = scores["verdict"]["recommended"]
    times = sum(trial.model == model for trial in judged_trials(run))
    if times < 2 or not isinstance(run.config.methods[model], LoraMethod):
        (run.folder / CUTS).unlink(missing_ok=True)  # of a model that was recommended before
        return
    measure_cuts(run, model, progress=progress)


def measure_cuts(run: Run, model: str, *, progress: Progress = silent) -> dict[str, Any] | None:
    """Judge a LoRA of a run at half, a quarter and an eighth of its rank, in the cells it was judged in itself.

    Each of its trainings is cut, and generates the same scenes and class images at the same seeds, kept in memory.
    Held-out losses of a cut are not measured, which would take as long as the images: it has those of the whole LoRA,
    and no cut is judged by them.

    Args:
        run: A run whose models have generated their images.
        model: The recommended model.
        progress: Called with every event.

    Returns:
        What `cuts.json` holds: `model`, its `rank` and `megabytes`, `cuts`, the rank `offered` or None, and that in a
        `sentence`, with how it is `said`. There are no cuts where no encoder measures likeness, and no sentence. None
        for a full UNet, which has no rank.

    Raises:
        UsageError: If the run has no such model, or the model has not generated its images.
    """
    method = run.config.methods[checked_name(model, run.config.methods)]
    if not isinstance(method, LoraMethod):
        return None
    path, inputs = run.folder / CUTS, cut_inputs(run, model)
    if run.finished(STAGE, inputs) and path.is_file():
        progress(Event(STAGE, "skipped"))
        return dict(json.loads(path.read_text(encoding="utf-8")))
    with stage(run, STAGE, inputs, progress) as tick:
        path.unlink(missing_ok=True)  # of another model, or of other weights
        found = cuts_json(run, model, method.rank, judged_cuts(run, model, method.rank, tick, progress))
        write_json(path, found)
    return found


def cut_inputs(run: Run, model: str) -> list[str]:
    """What cuts depend on: the trainings with when they were made, and names of the images they are held against."""
    trials = [trial.name for trial in judged_trials(run) if trial.model == model]
    made = [run.model_folder(name) / "method.json" for name in trials]
    judged = [run.folder / "images" / part / name for name in ("base", *trials) for part in (".", "class")]
    images = [path for folder in judged for path in folder.rglob("*.png")]
    return [
        model,
        *(f"{path.parent.name} {path.stat().st_mtime_ns}" for path in made),
        *sorted(str(path.relative_to(run.folder)) for path in images),
    ]


def cuts_json(run: Run, model: str, rank: int, cuts: tuple[Cut, ...]) -> dict[str, Any]:
    """What `cuts.json` holds."""
    from portrayal.evaluation.cuts import sentence_of, smallest
    from portrayal.models.methods import LORA_FILE

    offered = smallest(cuts)
    name = next(trial.name for trial in judged_trials(run) if trial.model == model)
    megabytes = megabytes_of(run.model_folder(name) / LORA_FILE)
    sentence = sentence_of(cuts, megabytes) if cuts else None
    return {
        "model": model,
        "rank": rank,
        "megabytes": megabytes,
        "cuts": [cut.as_json() for cut in cuts],
        "offered": None if offered is None else offered.rank,
        "sentence": sentence,
        "said": None if sentence is None else sentence.told(),
    }


def judged_cuts(
    run: Run, model: str, rank: int, tick: Callable[[int, int], None], progress: Progress
) -> tuple[Cut, ...]:
    """The cuts of a LoRA, largest first."""
    from portrayal.evaluation.cuts import cut_ranks, judge_cuts
    from portrayal.evaluation.evaluate import margins_of
    from portrayal.evaluation.judge import Judge

    evidence = gather(run, lambda *_: None, progress)
    whole = next((one for one in evidence.models if one.name == model), None)
    if whole is None:
        raise UsageError(f"{model} has no images to judge.", f"Generate them: portrayal generate {run.folder}")
    encoders = encoders_of(run)
    if encoders.identity is None:
        return ()
    judge, ranks = Judge(evidence, encoders, looks_of(run)), cut_ranks(rank)
    bases = evidence.models[0].trainings
    losses = {name: found for one in bases for name, found in one.losses.items()}
    judge.training(bases[0], losses)  # the others are compared with it
    bench = Bench(run, judge, losses, tick, len(ranks) * len(whole.trainings))
    uncut = bench.measured(whole, rank, whole.trainings)
    cuts = [bench.measured(whole, lower, bench.cut(whole, lower)) for lower in ranks]
    return judge_cuts(uncut, cuts, bench.megabytes, margins_of(run.config))


@dataclass
class Bench:
    """Generates with cuts and measures them, one training at a time.

    Attributes:
        run: The run.
        judge: What measures; it has seen the base.
        losses: Held-out losses of the base, by photo.
        tick: Called with (images generated, images in all).
        trainings: How many trainings are cut, over all ranks.
        done: Images generated so far.
        megabytes: Size of a cut's file, by rank.
    """

    run: Run
    judge: Judge
    losses: Mapping[str, Any]
    tick: Callable[[int, int], None]
    trainings: int
    done: int = 0
    megabytes: dict[int, float] = field(default_factory=dict)

    def measured(self, whole: PaintedModel, rank: int, trainings: Iterable[PaintedTraining]) -> ModelEvidence:
        """What is measured of a LoRA at a rank."""
        from portrayal.evaluation.comparisons import ModelEvidence

        found = tuple(self.judge.training(one, self.losses).training for one in trainings)
        return ModelEvidence(f"{whole.name} at rank {rank}", "lora", rank, found, whole.learning_rate)

    def cut(self, whole: PaintedModel, rank: int) -> Iterator[PaintedTraining]:
        """Each training of a LoRA cut to a rank, with what it generated."""
        for training in whole.trainings:
            with work_folder(self.run) as folder:
                self.megabytes[rank] = megabytes_of(write_cut(self.run, training.trial, rank, folder))
                *scenes, of_class = self.images(training.trial, folder)
            yield replace(training, pictures=partial(list, scenes), of_class=partial(list, of_class))

    def images(self, trial: Trial, folder: Path) -> list[list[Image.Image]]:
        """What weights in a folder generate, scene by scene; last, of the class."""
        wanted = [*scene_pictures(self.run, trial.name), *class_pictures(self.run, trial.name)]
        found, each = list[Any](), self.run.config.generation.num_images_per_scene
        with (
            in_place(self.run, trial.name, folder),
            # One call, as for the whole LoRA: an image depends a little on its batch.
            closing(generator_of(self.run).paint([one.prompt for one in wanted], [one.seed for one in wanted])) as made,
        ):
            for image in made:
                found.append(image)
                self.done += 1
                self.tick(self.done, self.trainings * len(wanted))
        return [found[start : start + each] for start in range(0, len(found), each)]


@contextmanager
def work_folder(run: Run) -> Iterator[Path]:
    """A hidden folder of the run that is gone afterwards, whatever happens."""
    folder = run.folder / "models" / WORK
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_cut(run: Run, trial: Trial, rank: int, folder: Path) -> Path:
    """Write a training's LoRA at a lower rank, as diffusers reads it and in the number format of the whole one."""
    from safetensors.torch import save

    from portrayal.formats.kohya import sorted_metadata
    from portrayal.formats.lora import to_diffusers
    from portrayal.formats.lora_rank import lower_rank
    from portrayal.models.methods import LORA_FILE

    layers = lower_rank(saved_layers(run, trial.name, trial.model), rank).layers
    stored = {path: in_precision(layer, run.config.training.save_precision) for path, layer in layers.items()}
    write_bytes(folder / LORA_FILE, sorted_metadata(save(*to_diffusers(stored))))
    return folder / LORA_FILE


def megabytes_of(path: Path) -> float:
    """Size of a file in millions of bytes."""
    return round(path.stat().st_size / 1e6, 3)
