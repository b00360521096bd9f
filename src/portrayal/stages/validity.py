"""Read off a run what its models were trained on and judged by, and refuse scores that would be no measurement."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.errors import PortrayalError
from portrayal.run import Run
from portrayal.stages.data import class_image_seeds
from portrayal.stages.generate import class_pictures, scene_pictures
from portrayal.stages.shared import FINAL, dataset_of
from portrayal.stages.steps import sample_pictures, samples_folder

if TYPE_CHECKING:
    from portrayal.evaluation.evidence import Evidence, PaintedTraining
    from portrayal.evaluation.validity import Check, TrainingFacts


def check_validity(run: Run, evidence: Evidence) -> list[Check]:
    """Check what the scores of a run rest on.

    Raises:
        PortrayalError: If a statement does not hold: an error of ours, or of a run whose files were changed.
    """
    from portrayal.evaluation.validity import Facts, check

    trained = [one for model in evidence.models if model.kind != "base" for one in model.trainings]
    facts = Facts(
        [training_facts(run, one) for one in trained],
        [photos_of(run, part) for part in evidence.heldout],
        [photos_of(run, part) for part in evidence.training],
        image_seeds(run),
        {one.trial.name: cells_of(run, one) for model in evidence.models for one in model.trainings},
    )
    checks = check(facts)
    for broken in (one for one in checks if not one.holds):
        raise PortrayalError(
            f"{run.folder} cannot be judged: it does not hold that {lower_first(broken.statement)} "
            f"({'; '.join(broken.violations)})",
            "If no file of the run was changed by hand, this is an error in Portrayal: please report it. "
            f"Delete {run.folder / 'models'} and run the same command again to train anew.",
        )
    return checks


def check_final(run: Run) -> None:
    """Check that the model for use was trained on every photo.

    Raises:
        PortrayalError: If it was not.
    """
    from portrayal.evaluation.validity import listed

    meant = photos_of(run, [photo.id for photo in dataset_of(run).photos if photo.use != "judging"])
    used = photos_of(run, method_of(run, FINAL)["photos"])
    if used != meant:
        raise PortrayalError(
            f"{run.model_folder(FINAL)} was not trained on all photos: {listed(used ^ meant)}.",
            "This is an error in Portrayal: please report it.",
        )


def training_facts(run: Run, painted: PaintedTraining) -> TrainingFacts:
    """What a training was trained on and judged by."""
    from portrayal.evaluation.validity import TrainingFacts

    trial, described = painted.trial, method_of(run, painted.trial.name)
    readings = read(run.model_folder(trial.name) / "readings.json")
    return TrainingFacts(
        trial.name,
        trial.model,
        (trial.fold, trial.seed),
        photos_of(run, described["photos"]),
        described["seed"],
        photos_of(run, painted.losses),
        photos_of(run, {name for reading in readings.values() for name in reading["photos"]}),
    )


def photos_of(run: Run, squares: Iterable[str]) -> frozenset[str]:
    """The photos that crops were cut from: near and far crops of one photo count as one."""
    photo_ids = {photo.id: photo.photo_id for photo in dataset_of(run).photos}
    return frozenset(photo_ids[square] for square in squares)


def image_seeds(run: Run) -> dict[str, list[int]]:
    """Seeds of a run's images by what they are for."""
    training = run.config.training
    num_class_images = training.num_class_images if training.prior_loss_weight else 0
    return {
        "choosing": [one.seed for one in sample_pictures(run, samples_folder(run, "any"))],
        "judging": [one.seed for one in scene_pictures(run, "any")],
        "class": [one.seed for one in class_pictures(run, "any")],
        "class images": class_image_seeds(range(num_class_images)),
    }


def cells_of(run: Run, painted: PaintedTraining) -> list[tuple[str, str, int]]:
    """Where a training is judged: place of the image, prompt and seed, in order."""
    images = run.folder / "images" / painted.trial.name
    return [
        (str(one.path.relative_to(images)), one.prompt, one.seed) for one in scene_pictures(run, painted.trial.name)
    ]


def method_of(run: Run, name: str) -> dict[str, Any]:
    """How a model was trained."""
    return read(run.model_folder(name) / "method.json")


def read(path: Path) -> dict[str, Any]:
    """Read JSON."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def lower_first(sentence: str) -> str:
    """A sentence as part of another."""
    return sentence[0].lower() + sentence[1:].rstrip(".")
