"""One model's row of `scores.json`: from what was measured of its trainings to means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from portrayal.evaluation.comparisons import AXES, Axis, Training, estimate_of
from portrayal.evaluation.evidence import PaintedModel
from portrayal.evaluation.intervals import Interval, mean_estimate
from portrayal.evaluation.judge import Floats, Judge, Measured
from portrayal.evaluation.metrics import heldout_gain, normalised
from portrayal.evaluation.verdict import Levels, ModelEvidence


def model_json(
    painted: PaintedModel, found: ModelEvidence, measured: Sequence[Measured], levels: Levels, judge: Judge
) -> dict[str, Any]:
    """One model's row."""
    identity, real, stranger = level(found, "identity"), levels.identity_real, levels.identity_stranger
    lightness = level(found, "lightness")
    assert lightness is not None
    share = None
    if identity is not None and real is not None and stranger is not None:
        share = normalised(identity.mean, stranger.mean, real.mean)
    colour: dict[str, Any] = {
        name: interval_json(over_folds(measured, [one.colours[name] for one in measured]))
        for name in measured[0].colours
    }
    colour["lightness_difference"] = lightness.mean - float(judge.photo_colours["lightness"].mean())
    losses = [np.mean(found) for found in losses_by_photo(painted).values()]
    gain = level(found, "heldout_loss")
    assert gain is not None
    return {
        "name": painted.name,
        "kind": painted.kind,
        "rank": painted.rank,
        "learning_rate": painted.learning_rate,
        "step": painted.curve.best_step if painted.curve else None,
        "heldout_loss": interval_json(mean_estimate(losses).interval()),
        "heldout_gain": interval_json(heldout_gain(gain)),
        "identity": interval_json(identity),
        "identity_normalised": share,
        "prompt": interval_json(level(found, "prompt")),
        "drift": interval_json(level(found, "drift")),
        "diversity": interval_json(over_folds(measured, [one.diversity for one in measured])),
        "copying": interval_json(over_folds(measured, [one.copying for one in measured])),
        "colour": colour,
        "per_timestep": timestep_bins([one.training.heldout_log_ratios for one in measured]),
        "curve": painted.curve.as_json() if painted.curve else None,
        "trainings": [] if painted.kind == "base" else [training_json(one.training) for one in measured],
    }


def losses_by_photo(painted: PaintedModel) -> dict[str, list[Any]]:
    """Held-out losses of each photo by every training that it was held out of."""
    found: dict[str, list[Any]] = {}
    for training in painted.trainings:
        for photo, values in training.losses.items():
            found.setdefault(photo, []).append(values)
    return found


def training_json(training: Training) -> dict[str, Any]:
    """What one training scored by itself."""
    means = {str(axis): None if (units := training.units(axis)) is None else float(units.mean()) for axis in AXES}
    return {"fold": training.fold, "seed": training.seed} | means


def level(found: ModelEvidence, axis: Axis | Literal["lightness"]) -> Interval | None:
    """Mean of a model on an axis with its interval."""
    units = found.units(axis)
    return None if units is None else estimate_of(units).interval()


def over_folds(measured: Sequence[Measured], grids: Sequence[Floats | None]) -> Interval | None:
    """Mean of what a grid `(S, K)` of each training holds, with its interval; nothing if one was not measured."""
    units = {
        (one.training.fold, one.training.seed): grid.mean(axis=0)
        for one, grid in zip(measured, grids, strict=True)
        if grid is not None
    }
    return estimate_of(units).interval() if len(units) == len(measured) else None


def timestep_bins(
    log_ratios: Sequence[Floats], bins: int = 10, num_train_timesteps: int = 1000
) -> list[dict[str, float]]:
    """Mean log-ratio to the base in ranges of timesteps, over all photos `(P, T)` of all trainings."""
    ratios = np.concatenate(log_ratios)
    strata = ratios.shape[1]
    edges = np.linspace(0, strata, min(bins, strata) + 1).round().astype(int)
    return [
        {
            "timestep_low": int(low * num_train_timesteps / strata),
            "timestep_high": int(high * num_train_timesteps / strata),
            "log_ratio_to_base": float(ratios[:, low:high].mean()),
        }
        for low, high in pairwise(edges)
    ]


def interval_json(interval: Interval | None) -> dict[str, float | None] | None:
    """The JSON of an interval, or null."""
    return None if interval is None else interval.as_json()
