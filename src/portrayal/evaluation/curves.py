"""A training as it went on: loss on photos it never saw, likeness, where it is best, from where it learns by heart.

Shapes: P held-out photos, I readings, U units that pictures are resampled by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from portrayal.evaluation.intervals import Floats, Interval, mean_estimate


@dataclass(frozen=True)
class Curve:
    """How one model did at each reading, over all its trainings."""

    steps: tuple[int, ...]
    """Steps of the readings, from 0, the untouched base, to the last."""

    loss: tuple[Interval, ...]
    """Log ratio of the held-out loss to the base's; 0 at step 0."""

    lowest_loss_step: int
    """Where that is lowest."""

    overfitting_from: int | None
    """First step whose held-out loss is surely higher than at its lowest; nothing if there is none."""

    identity: tuple[Interval | None, ...]
    """Likeness of a few pictures to the held-out photos; nothing where it was not measured, as at step 0."""

    best_step: int
    """The step that the model is judged and used at."""

    def as_json(self) -> dict[str, Any]:
        """As in `curve.json` and `scores.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Curve:
        """What :meth:`as_json` gave."""
        intervals = {
            name: tuple(None if one is None else Interval(**one) for one in content[name])
            for name in ("loss", "identity")
        }
        return cls(**{**content, **intervals, "steps": tuple(content["steps"])})


def draw_curve(
    steps: Sequence[int],
    log_ratios: Floats,
    identity: Floats | None,
    *,
    loss_margin: float,
    identity_margin: float,
    alpha: float = 0.05,
) -> Curve:
    """Draw the curve of a model and choose its best step.

    The best step is the last, where the learning rate has come down to zero, unless an earlier one is surely more like
    the person by more than the margin (one-sided t-test, paired, at `alpha` over the number of readings): then that
    one. Without a judge of likeness it is the step with the lowest held-out loss. A training overfits from the first
    reading after its lowest held-out loss from which on to the end the loss is higher by more than the margin, and
    surely so: one-sided t-test over the photos, paired, from the last reading backwards, at `alpha` over the number of
    readings that could have been the lowest.

    Args:
        steps: Steps of the readings, rising, without 0.
        log_ratios: Log of held-out loss over the base's, shape `(P, I)`, seeds and timesteps averaged.
        identity: Likeness of each unit's pictures, shape `(U, I)`, or nothing.
        loss_margin: Rise of the log ratio that is too small to matter.
        identity_margin: Difference of likeness that is too small to matter.
        alpha: Chance of a false alarm.

    Raises:
        ValueError: If the shapes do not fit, or a value is not finite.
    """
    ratios = np.hstack([np.zeros((len(log_ratios), 1)), log_ratios])
    columns = (0, *steps)
    if ratios.shape[1] != len(columns) or not np.isfinite(ratios).all():
        raise ValueError(f"expected finite log ratios of {len(steps)} readings, got shape {log_ratios.shape}")
    if identity is not None and (identity.shape[1:] != (len(steps),) or not np.isfinite(identity).all()):
        raise ValueError(f"expected finite likeness of {len(steps)} readings, got shape {identity.shape}")
    lowest = int(ratios.mean(axis=0).argmin())
    likeness = [None] * len(columns) if identity is None else [None, *(mean_estimate(one) for one in identity.T)]
    return Curve(
        steps=columns,
        loss=tuple(mean_estimate(one).interval() for one in ratios.T),
        lowest_loss_step=columns[lowest],
        overfitting_from=_onset(ratios, columns, lowest, loss_margin, alpha / len(steps)),
        identity=tuple(None if one is None else one.interval() for one in likeness),
        best_step=_best_step(steps, ratios[:, 1:], identity, identity_margin, alpha / len(steps)),
    )


def _best_step(steps: Sequence[int], ratios: Floats, identity: Floats | None, margin: float, alpha: float) -> int:
    if identity is None:
        return steps[int(ratios.mean(axis=0).argmin())]
    leads = [mean_estimate(identity[:, place] - identity[:, -1]) for place in range(len(steps) - 1)]
    better = [place for place, lead in enumerate(leads) if lead.mean > margin and lead.p_value / 2 < alpha]
    return steps[max(better, key=lambda place: leads[place].mean)] if better else steps[-1]


def _onset(ratios: Floats, steps: Sequence[int], lowest: int, margin: float, alpha: float) -> int | None:
    onset = None
    for place in range(len(steps) - 1, lowest, -1):
        rise = mean_estimate(ratios[:, place] - ratios[:, lowest])
        if rise.mean <= margin or rise.p_value / 2 >= alpha:
            break
        onset = steps[place]
    return onset
