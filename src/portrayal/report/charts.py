"""The charts: likeness, course, held-out loss by timestep, training loss, lightness; drawn from values alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from portrayal.report.palette import Colour
from portrayal.report.record import Model, TrainingLog
from portrayal.report.scores import CurveScores, Interval, Scores
from portrayal.report.svg import INK, LINE, MUTED, Chart, draw_chart
from portrayal.report.wording import MINUS, fixed

Palette = dict[str, Colour]
_WIDTH = 5.2
_MOST_POINTS = 400
_MOST_ON_A_LINE = 5
_MOST_UPRIGHT = 7


def identity_chart(scores: Scores, models: Sequence[Model], palette: Palette) -> Chart | None:
    """Likeness of each model with its interval, between the bands of a stranger and of real photos."""
    measured = [(model, model.scores.identity) for model in models if model.scores.identity is not None]
    if not measured:
        return None
    levels = [("real photos", scores.identity_real), ("a stranger", scores.identity_stranger)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for label, level in levels:
            _band(axes, label, level)
        for place, (model, identity) in enumerate(measured):
            _trainings(axes, place, model.scores.trainings, palette[model.name].light)
            _point(axes, place, identity, palette[model.name].light, above=len(measured) > _MOST_UPRIGHT)
        _name_below(axes, [model.label for model, _ in measured])
        axes.set_xlim(-0.5, len(measured) - 0.35)
        axes.margins(y=0.12)
        axes.set_ylabel("likeness (cosine)")
        axes.grid(axis="y", linewidth=0.5)
        axes.yaxis.set_major_formatter(minus_formatter("{:.2g}"))

    shown = ", ".join(f"{model.label} {fixed(identity.mean)}" for model, identity in measured)
    reference = ", ".join(f"{label} {fixed(level.mean)}" for label, level in levels if level is not None)
    alt = f"Likeness to the person: {shown}" + (f"; for comparison {reference}." if reference else ".")
    return draw_chart("identity", alt, (_WIDTH, 4.1 if len(measured) > _MOST_UPRIGHT else 3.3), draw, palette)


def _name_below(axes: Axes, labels: Sequence[str]) -> None:
    """Labels on one line; of many, word below word; of very many, turned."""
    stacked = _MOST_ON_A_LINE < len(labels) <= _MOST_UPRIGHT
    shown = [label.replace(" ", "\n") for label in labels] if stacked else labels
    axes.set_xticks(range(len(labels)), shown, rotation=90 if len(labels) > _MOST_UPRIGHT else 0)


def _band(axes: Axes, label: str, level: Interval | None) -> None:
    if level is None:
        return
    if level.low is not None and level.high is not None:
        axes.axhspan(level.low, level.high, facecolor=MUTED, alpha=0.16, linewidth=0)
    axes.axhline(level.mean, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{label}\n{fixed(level.mean)}",
        (1.01, level.mean),
        xycoords=("axes fraction", "data"),
        va="center",
        color=MUTED,
        fontsize=9,
    )


def _point(axes: Axes, place: int, value: Interval, colour: str, *, above: bool) -> None:
    """A mean with its interval, and its number beside it or above."""
    top = value.mean
    if value.low is not None and value.high is not None:
        axes.plot([place, place], [value.low, value.high], color=colour, linewidth=2.6, solid_capstyle="butt")
        top = value.high
    axes.plot(place, value.mean, "o", color=colour, markersize=7.5)
    text, offset = fixed(value.mean), "offset points"
    if above:
        axes.annotate(text, (place, top), (0, 5), textcoords=offset, ha="center", fontsize=8.5)
    else:
        axes.annotate(text, (place, value.mean), (8, 0), textcoords=offset, ha="left", va="center", fontsize=9.5)


def _trainings(axes: Axes, place: int, values: Sequence[float], colour: str) -> None:
    """Each training as a faint dot left of the mean: the luck that the interval holds."""
    if len(values) > 1:
        axes.scatter([place - 0.18] * len(values), values, s=16, color=colour, alpha=0.45, linewidths=0)


def course_chart(models: Sequence[Model], palette: Palette) -> Chart | None:
    """Held-out loss and likeness over the steps; the step used is a dot, the onset of overfitting a ring."""
    courses = [(model, model.scores.curve) for model in models if model.scores.curve is not None]
    courses = [(model, curve) for model, curve in courses if len(curve.steps) > 2]
    if not courses:
        return None
    likeness = any(one is not None for _, curve in courses for one in curve.identity)

    def draw(figure: Figure) -> None:
        panels = list(figure.subplots(2 if likeness else 1, 1, sharex=True, squeeze=False).flat)
        for model, curve in courses:
            change = [100 * float(np.expm1(one.mean)) for one in curve.loss]
            _course(panels[0], curve, change, palette[model.name].light, model.label, onset=True)
            if likeness:
                means = [float("nan") if one is None else one.mean for one in curve.identity]
                _course(panels[1], curve, means, palette[model.name].light, model.label, onset=False)
        panels[0].axhline(0, color=MUTED, linewidth=1)
        panels[0].set_ylabel("loss on unseen photos")
        panels[0].yaxis.set_major_formatter(minus_formatter("{:+.3g} %"))
        if likeness:
            panels[1].set_ylabel("likeness (cosine)")
            panels[1].yaxis.set_major_formatter(minus_formatter("{:.2g}"))
        for axes in panels:
            axes.grid(axis="y", linewidth=0.5)
            axes.margins(y=0.12)
        panels[-1].set_xlabel("step")
        add_legend(figure, panels[0])

    said = "; ".join(
        f"{model.label}: best at step {curve.best_step}"
        + (f", overfits from {curve.overfitting_from}" if curve.overfitting_from is not None else "")
        for model, curve in courses
    )
    alt = f"Loss on unseen photos and likeness over the steps. {said}."
    return draw_chart("course", alt, (_WIDTH, 4.6 if likeness else 2.8), draw, palette)


def _course(axes: Axes, curve: CurveScores, values: Sequence[float], colour: str, label: str, *, onset: bool) -> None:
    axes.plot(curve.steps, values, "-", color=colour, linewidth=1.8, label=label)
    at = dict(zip(curve.steps, values, strict=True))
    axes.plot(curve.best_step, at[curve.best_step], "o", color=colour, markersize=7)
    if onset and curve.overfitting_from is not None:
        axes.plot(
            curve.overfitting_from,
            at[curve.overfitting_from],
            "o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.6,
        )


def control_chart(kind: str, kept: str, scores: Scores, models: Sequence[Model], palette: Palette) -> Chart | None:
    """Agreement with the control image, and likeness, over its strength; the base is the ceiling of the first."""
    measured = [
        (model, row.at)
        for model in models
        for row in scores.control
        if (row.kind, row.model) == (kind, model.name) and len(row.at) > 1 and row.at[-1].agreement is not None
    ]
    if not measured:
        return None

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for model, strengths in measured:
            colour = palette[model.name].light
            for axes, of in ((left, "agreement"), (right, "identity")):
                found = [(one.scale, value) for one in strengths if (value := getattr(one, of)) is not None]
                if found and not (of == "identity" and model.kind == "base"):
                    scales, values = zip(*found, strict=True)
                    axes.plot(scales, [one.mean for one in values], "o-", color=colour, linewidth=1.8, markersize=4.5,
                              label=model.label)  # fmt: skip
                    axes.fill_between(scales, [one.mean if one.low is None else one.low for one in values],
                                      [one.mean if one.high is None else one.high for one in values],
                                      color=colour, alpha=0.12, linewidth=0)  # fmt: skip
        left.set_ylabel(kept)
        right.set_ylabel("likeness (cosine)")
        for axes in (left, right):
            axes.set_ylim(
                max(axes.get_ylim()[0], -0.05), min(axes.get_ylim()[1], 1.05)
            )  # neither leaves 0 to 1 by much
            axes.set_xlabel("strength of the control image")
            axes.grid(axis="y", linewidth=0.5)
            axes.yaxis.set_major_formatter(minus_formatter("{:.2g}"))
        add_legend(figure, left)

    alt = f"{kept.capitalize()} and likeness over the strength of the control image."
    return draw_chart(f"control-{kind}", alt, (_WIDTH * 1.25, 3.0), draw, palette)


def add_legend(figure: Figure, axes: Axes) -> None:
    """Name the models above a chart, in as many columns as its width has room for."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 4 if max(map(len, labels), default=0) <= 10 else 3  # as of `LoRA 32 at 4e-3`
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        handlelength=1.4,
        columnspacing=1.4,
        labelcolor=INK,
    )


def timestep_chart(models: Sequence[Model], palette: Palette) -> Chart | None:
    """Held-out loss against the base, in percent, for each range of timesteps."""
    measured = [model for model in models if model.scores.per_timestep and model.kind != "base"]
    if not measured:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.annotate("the base", (0, 0), (2, 4), xycoords=("axes fraction", "data"), textcoords="offset points",
                      color=MUTED, fontsize=9)  # fmt: skip
        for model in measured:
            bins = model.scores.per_timestep
            middles = [(bin_.low + bin_.high) / 2 for bin_ in bins]
            change = [100 * float(np.expm1(bin_.log_ratio)) for bin_ in bins]
            axes.plot(middles, change, "o-", color=palette[model.name].light, label=model.label, linewidth=1.8,
                      markersize=4.5)  # fmt: skip
        axes.set_ylabel("held-out loss, change from base")
        axes.set_xlabel("timestep: little noise, fine detail  →  much noise, layout")
        axes.yaxis.set_major_formatter(minus_formatter("{:+.3g} %"))
        axes.set_xlim(0, max(bin_.high for model in measured for bin_ in model.scores.per_timestep))
        axes.margins(y=0.12)
        axes.grid(axis="y", linewidth=0.5)
        add_legend(figure, axes)

    names = ", ".join(model.label for model in measured)
    alt = f"Change of the held-out loss from the base over the timesteps, for {names}."
    return draw_chart("timesteps", alt, (_WIDTH, 3.3), draw, palette)


def training_chart(models: Sequence[Model], palette: Palette) -> Chart | None:
    """Training loss of each model: single steps faint, their moving mean bold, one panel per model."""
    logs = [(model, model.log) for model in models if model.log is not None]
    if not logs:
        return None
    columns = min(2, len(logs))
    lines = -(-len(logs) // columns)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        panels = list(grid.flat)
        positive = all(loss > 0 for _, log in logs for loss in log.losses)
        for axes, (model, log) in zip(panels, logs, strict=False):
            _training_panel(axes, log, palette[model.name].light)
            axes.set_title(model.label, loc="left", fontsize=9.5, color=INK)
            if positive:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(10))
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(minus_formatter("{:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.grid(axis="y", linewidth=0.5)
        for axes in panels[len(logs) :]:
            axes.remove()
        figure.supxlabel("step", fontsize=9, color=MUTED)
        figure.supylabel("training loss", fontsize=9, color=MUTED)

    alt = f"Training loss over the steps for {', '.join(model.label for model, _ in logs)}."
    return draw_chart("training", alt, (_WIDTH, 0.6 + 1.55 * lines), draw, palette)


def _training_panel(axes: Axes, log: TrainingLog, colour: str) -> None:
    steps, losses = np.asarray(log.steps), np.asarray(log.losses)
    stride = -(-len(steps) // _MOST_POINTS)
    axes.plot(steps[::stride], losses[::stride], color=colour, alpha=0.3, linewidth=0.7)
    axes.plot(steps[::stride], moving_mean(losses)[::stride], color=colour, linewidth=2.2)


def moving_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred mean over a tenth of the series; at the ends over what there is."""
    half = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    mean: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return mean


def lightness_chart(
    photos: Sequence[float], painted: Sequence[tuple[Model, Sequence[float]]], palette: Palette
) -> Chart | None:
    """Lightness of every picture as a dot, a row for the photos and one for each model."""
    lines = [("Photos", photos, INK)] if photos else []
    lines += [(model.label, values, palette[model.name].light) for model, values in painted if values]
    if len(lines) < 2:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        if photos:
            low, high = np.percentile(photos, [10, 90])
            axes.axvspan(low, high, facecolor=MUTED, alpha=0.14, linewidth=0)
        for place, (_, values, colour) in enumerate(lines):
            _dots(axes, place, np.asarray(values), colour)
        axes.set_yticks(range(len(lines)), [label for label, _, _ in lines], color=INK)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.set_xlabel("darker  ←  mean lightness L* of a picture  →  lighter")
        axes.grid(axis="x", linewidth=0.5, color=LINE)

    alt = "Mean lightness: " + ", ".join(f"{label} {fixed(float(np.mean(values)), 1)}" for label, values, _ in lines)
    return draw_chart("lightness", f"{alt}.", (_WIDTH, 0.7 + 0.48 * len(lines)), draw, palette)


def _dots(axes: Axes, place: int, values: NDArray[np.float64], colour: str) -> None:
    """Dots spread up and down in a fixed rhythm, so that near ones stay apart, and a bar at their mean."""
    order = np.argsort(values, kind="stable")
    offsets = np.empty(len(values))
    offsets[order] = np.resize([0.0, 0.16, -0.16, 0.08, -0.08], len(values))
    axes.scatter(values, place + offsets, s=20, color=colour, alpha=0.55, linewidths=0)
    axes.plot([values.mean()] * 2, [place - 0.34, place + 0.34], color=colour, linewidth=2.4, solid_capstyle="round")


def minus_formatter(pattern: str) -> FuncFormatter:
    """Ticks by a pattern, with a minus sign instead of a hyphen."""
    return FuncFormatter(lambda value, _: pattern.format(value).replace("-", MINUS).replace("+0 ", "0 "))
