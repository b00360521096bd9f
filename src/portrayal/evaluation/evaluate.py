"""From what a run has made to its scores: measure every model in the same cells, then let the verdict speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portrayal.config import Config
from portrayal.evaluation.comparisons import AXES
from portrayal.evaluation.evidence import Evidence
from portrayal.evaluation.judge import Judge, Look, Measured
from portrayal.evaluation.rows import interval_json, model_json
from portrayal.evaluation.verdict import Margins, ModelEvidence, decide
from portrayal.models.encoders import Encoders


def look_at_all(evidence: Evidence, judge: Judge) -> dict[str, list[Measured]]:
    """What every training of every model is worth, by the model's name; the base comes first."""
    base_losses = {name: found for one in evidence.models[0].trainings for name, found in one.losses.items()}
    measured: dict[str, list[Measured]] = {painted.name: [] for painted in evidence.models}
    total = sum(len(painted.trainings) for painted in evidence.models)
    for painted in evidence.models:
        for training in painted.trainings:
            measured[painted.name].append(judge.training(training, base_losses))
            evidence.progress(sum(map(len, measured.values())), total)
    return measured


def evidence_of(evidence: Evidence, measured: Mapping[str, Sequence[Measured]]) -> list[ModelEvidence]:
    """What the verdict is drawn from."""
    diverged = {one.trial.model for one in evidence.diverged}
    return [
        ModelEvidence(
            one.name,
            one.kind,
            one.rank,
            tuple(found.training for found in measured[one.name]),
            one.learning_rate,
            one.name in diverged,
        )
        for one in evidence.models
    ]


def margins_of(config: Config) -> Margins:
    """What is too small to matter, by the settings."""
    return Margins(**{axis: getattr(config.evaluation, f"margin_{axis}") for axis in AXES})


def lost_models(evidence: Evidence) -> list[tuple[int, float | None]]:
    """Rank and learning rate of the LoRAs of which a training diverged."""
    return [*{one.trial.model: (one.rank, one.learning_rate) for one in evidence.diverged}.values()]


def score(
    evidence: Evidence, encoders: Encoders, *, base_name: str, known: dict[bytes, Look] | None = None
) -> dict[str, Any]:
    """Scores and verdict of a run, as `scores.json` holds them.

    Args:
        evidence: What was painted and measured.
        encoders: What judges it.
        base_name: Of the base.
        known: What these encoders have seen of pictures already; what they see now is added.
    """
    config, judge = evidence.config, Judge(evidence, encoders, known)
    measured = look_at_all(evidence, judge)
    models = evidence_of(evidence, measured)
    levels = judge.levels()
    control = [judge.control(made) for made in evidence.controlled]
    margins = margins_of(config)
    curves = {one.name: one.curve for one in evidence.models if one.curve is not None}
    verdict = decide(models, margins, levels=levels, control=control, curves=curves, diverged=lost_models(evidence))
    return {
        "schema": 2,
        "base": base_name,
        "class_noun": config.subject.class_noun,
        "instance_prompt": config.subject.filled_instance_prompt,
        "encoders": {
            "identity": encoders.identity.as_json() if encoders.identity else None,
            "prompt": encoders.prompt.as_json() if encoders.prompt else None,
            "notes": list(encoders.notes),
        },
        "study": {
            "folds": [list(part) for part in evidence.heldout],
            "trainings": {name: len(found) for name, found in measured.items() if name != "base"},
        },
        "diverged": [
            {
                "name": one.trial.name,
                "model": one.trial.model,
                "rank": one.rank,
                "learning_rate": one.learning_rate,
                "step": one.step,
            }
            for one in evidence.diverged
        ],
        "levels": {
            "identity_real": interval_json(levels.identity_real),
            "identity_stranger": interval_json(levels.identity_stranger),
            "colour_photos": {name: float(np.mean(values)) for name, values in judge.photo_colours.items()},
        },
        "models": [
            model_json(painted, found, measured[painted.name], levels, judge)
            for painted, found in zip(evidence.models, models, strict=True)
        ],
        "pictures": judge.pictures,
        "control": [found.as_json() for found in control],
        "verdict": verdict.as_json(),
    }
