"""What a chart shows is what was measured: its numbers are read back out of the drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from portrayal.report.charts import (
    add_legend,
    control_chart,
    course_chart,
    identity_chart,
    lightness_chart,
    moving_mean,
    timestep_chart,
    training_chart,
)
from portrayal.report.palette import Colour, colours
from portrayal.report.record import Model, TrainingLog
from portrayal.report.scores import (
    ControlScores,
    CurveScores,
    Interval,
    ModelScores,
    Scores,
    Strength,
    TimestepBin,
)
from portrayal.report.svg import INK, MUTED, draw_chart
from tests.report.drawn import Panel, read


def model(name: str, log: TrainingLog | None = None, **measured: Any) -> Model:
    kind, _, rank = name.partition("-")
    return Model(ModelScores(name, kind, int(rank) if rank else None, **measured), True, {}, log)


def palette_of(models: Sequence[Model]) -> dict[str, Colour]:
    return colours(tuple(models))


def drawn(chart: Any, **options: bool) -> list[Panel]:
    assert chart is not None
    return read(chart.content, **options)


def near(value: float, of: float = 1.0) -> Any:
    """As exact as a drawing of a few hundred units is."""
    return pytest.approx(value, abs=0.004 * of)


def test_likeness_stands_at_its_model_with_its_interval_and_trainings() -> None:
    models = [
        model("base", identity=Interval(0.1, 0.05, 0.18)),
        model("unet", identity=Interval(0.62, 0.5, 0.7)),
        model("lora-8", identity=Interval(0.5, 0.42, 0.6), trainings=(0.44, 0.56)),
    ]
    levels = Scores(identity_real=Interval(0.8, 0.74, 0.86), identity_stranger=Interval(0.07, 0.02, 0.12))
    palette = palette_of(models)
    chart = identity_chart(levels, models, palette)
    (panel,) = drawn(chart)
    assert list(panel.x.ticks) == ["Base", "Full UNet", "LoRA 8"]
    assert list(panel.x.ticks.values()) == sorted(panel.x.ticks.values())
    for one in models:
        interval, (dots, lines) = one.scores.identity, panel.of(palette[one.name].light)
        assert interval is not None
        (mean,) = (dot for dot in dots if dot.size > 3)
        assert panel.x.label(mean.x) == one.label
        assert mean.y == near(interval.mean)
        (bar,) = lines
        assert {panel.x.label(x) for x, _ in bar.points} == {one.label}
        assert [y for _, y in sorted(bar.points, key=lambda point: point[1])] == [
            near(interval.low),
            near(interval.high),
        ]
        trained = sorted(dot.y for dot in dots if dot.size < 3)
        assert trained == [near(value) for value in one.scores.trainings]
    assert [(low[1], high[1]) for low, high in panel.areas] == [(near(0.74), near(0.86)), (near(0.02), near(0.12))]
    assert {"real photos", "0.80", "a stranger", "0.07"} <= panel.texts.keys()
    assert panel.y.value(panel.texts["real photos"][1]) == pytest.approx(0.8, abs=0.05)
    assert panel.y.value(panel.texts["a stranger"][1]) == pytest.approx(0.07, abs=0.05)
    assert chart is not None
    wanted = "Base 0.10, Full UNet 0.62, LoRA 8 0.50; for comparison real photos 0.80, a stranger 0.07."
    assert chart.alt == f"Likeness to the person: {wanted}"


def curve_of(losses: Sequence[float], likeness: Sequence[float | None], best: int, onset: int | None) -> CurveScores:
    steps = tuple(range(0, 100 * len(losses), 100))
    identity = tuple(None if value is None else Interval(value) for value in likeness)
    return CurveScores(steps, tuple(map(Interval, losses)), identity, 200, onset, best)


def test_the_course_shows_the_loss_in_percent_and_where_it_is_best() -> None:
    """Log ratios -0.05, -0.1, 0.02 are -4.88 %, -9.52 %, +2.02 %."""
    models = [
        model("lora-8", curve=curve_of([0.0, -0.05, -0.1, 0.02], [None, 0.3, 0.5, 0.55], 200, 300)),
        model("lora-64", curve=curve_of([0.0, -0.02, -0.2, -0.21], [None, 0.2, 0.3, 0.4], 300, None)),
    ]
    palette = palette_of(models)
    loss, likeness = drawn(course_chart(models, palette))
    assert "%" in next(iter(loss.y.ticks))
    for one in models:
        curve = one.scores.curve
        assert curve is not None
        percent = [100 * math.expm1(interval.mean) for interval in curve.loss]
        dots, (line,) = loss.of(palette[one.name].light)
        assert [x for x, _ in line.points] == [near(step, 300) for step in curve.steps]
        assert [y for _, y in line.points] == [near(value, 20) for value in percent]
        (best,) = (dot for dot in dots if dot.filled)
        assert best.x == near(curve.best_step, 300)
        assert best.y == near(percent[curve.best_step // 100], 20)
        rings = [dot.x for dot in dots if not dot.filled]
        assert rings == ([near(300, 300)] if curve.overfitting_from else [])
        (dot,), (line,) = likeness.of(palette[one.name].light)
        assert [y for _, y in line.points] == [near(value.mean) for value in curve.identity if value is not None]
        assert (dot.x, dot.y) == (near(curve.best_step, 300), near(line.points[curve.best_step // 100 - 1][1]))


@pytest.mark.parametrize("rate", ["", " at 4e-3", " at 1.5e-4"])
def test_the_names_of_many_models_stay_within_the_chart(rate: str) -> None:
    ends: list[float] = []

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for label in ["Full UNet", *(f"LoRA {rank}{rate}" for rank in (32, 64, 128) * 3)]:
            axes.plot([0, 1], label=label)
        add_legend(figure, axes)
        figure.draw_without_rendering()
        ends.append(figure.legends[0].get_window_extent().x1 / figure.bbox.x1)

    draw_chart("names", "Names.", (5.2, 3.0), draw, {})
    assert ends[0] <= 1


def test_control_is_drawn_over_its_strength_and_the_base_keeps_no_likeness() -> None:
    models = [model("base"), model("lora-8")]
    at = {
        "base": [(0.0, 0.2, 0.05), (0.5, 0.6, 0.06), (1.0, 0.8, 0.07)],
        "lora-8": [(0.0, 0.1, 0.6), (0.5, 0.4, 0.55), (1.0, 0.7, 0.35)],
    }
    rows = [
        ControlScores("canny", name, tuple(
            Strength(scale, Interval(kept, kept - 0.02, kept + 0.02), Interval(alike)) for scale, kept, alike in found
        ))
        for name, found in at.items()
    ]  # fmt: skip
    rows.append(ControlScores("openpose", "lora-8", tuple(Strength(s, Interval(0.99), None) for s in (0.0, 1.0))))
    palette = palette_of(models)
    kept, likeness = drawn(control_chart("canny", "edges kept", Scores(control=tuple(rows)), models, palette))
    assert "edges kept" in kept.texts
    assert "likeness (cosine)" in likeness.texts
    for name, found in at.items():
        _, (line,) = kept.of(palette[name].light)
        assert line.points == [(near(scale), near(value)) for scale, value, _ in found]
    _, (line,) = likeness.of(palette["lora-8"].light)
    assert line.points == [(near(scale), near(value)) for scale, _, value in at["lora-8"]]
    assert likeness.of(palette["base"].light) == ([], [])


def test_the_loss_by_timestep_stands_in_the_middle_of_its_range_in_percent() -> None:
    bins = {"lora-8": (-0.3, -0.1, 0.05), "unet": (-0.2, -0.02, -0.01)}
    edges = (0, 200, 600, 1000)
    models = [
        model("base", per_timestep=(TimestepBin(0, 1000, 0.0),)),
        *(
            model(name, per_timestep=tuple(map(TimestepBin, edges[:-1], edges[1:], ratios)))
            for name, ratios in bins.items()
        ),
    ]
    palette = palette_of(models)
    (panel,) = drawn(timestep_chart(models, palette))
    for name, ratios in bins.items():
        _, (line,) = panel.of(palette[name].light)
        assert line.points == [
            (near(middle, 1000), near(100 * math.expm1(ratio), 40))
            for middle, ratio in zip((100, 400, 800), ratios, strict=True)
        ]
    assert panel.of(palette["base"].light) == ([], [])
    assert panel.of(MUTED)[1][0].points[0][1] == near(0, 40)  # the base's own line
    assert all(label.endswith("%") for label in panel.y.ticks)
    assert any(label.startswith("−") for label in panel.y.ticks)


def test_the_training_loss_of_each_model_stands_in_its_own_panel() -> None:
    steps = tuple(range(1, 31))
    logs = {"lora-8": [0.9 - 0.02 * step for step in steps], "unet": [0.005 + 0.001 * step for step in steps]}
    models = [model(name, TrainingLog(steps, tuple(losses))) for name, losses in logs.items()]
    palette = palette_of(models)
    panels = drawn(training_chart(models, palette), log_y=True)
    for one, panel in zip(models, panels, strict=True):
        assert one.label in panel.texts
        _, (single, smooth) = panel.of(palette[one.name].light)
        losses = logs[one.name]
        assert [y for _, y in single.points] == [pytest.approx(loss, rel=0.01) for loss in losses]
        assert [round(x) for x, _ in single.points] == list(steps)
        mean = moving_mean(np.array(losses))
        found = smooth.points[0][1], smooth.points[-1][1]
        assert found == (pytest.approx(mean[0], rel=0.01), pytest.approx(mean[-1], rel=0.01))


def test_the_moving_mean_is_centred() -> None:
    """Of 40 values over 2 on each side; at the ends over what there is."""
    values = np.zeros(40)
    values[[0, 20]] = 10.0
    found = moving_mean(values)
    assert found[:4].tolist() == [pytest.approx(10 / 3), 2.5, 2.0, 0.0]
    assert found[17:24].tolist() == [0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.0]


def test_lightness_stands_in_the_row_of_its_model() -> None:
    photos = [40.0, 50.0, 60.0]
    painted = [(model("base"), [70.0, 72.0]), (model("lora-8"), [30.0, 34.0, 38.0])]
    palette = palette_of([one for one, _ in painted])
    chart = lightness_chart(photos, painted, palette)
    (panel,) = drawn(chart)
    rows = {"Photos": (INK, photos)} | {one.label: (palette[one.name].light, values) for one, values in painted}
    assert list(panel.y.ticks) == list(rows)
    assert list(panel.y.ticks.values()) == sorted(panel.y.ticks.values())  # the photos are the first from above
    for label, (colour, values) in rows.items():
        dots, (bar,) = panel.of(colour)
        assert sorted(dot.x for dot in dots) == [near(value, 40) for value in values]
        row = panel.y.ticks[label]
        reach = max(abs(dot.y - row) for dot in dots)
        assert reach < 0.2 * abs(panel.y.ticks["Base"] - panel.y.ticks["LoRA 8"])
        assert [x for x, _ in bar.points] == [near(np.mean(values), 40)] * 2
        assert sum(y for _, y in bar.points) / 2 == pytest.approx(row, abs=0.5)
    ((low, high),) = panel.areas
    assert (low[0], high[0]) == (near(42, 40), near(58, 40))  # the middle four fifths of 40, 50, 60
    assert chart is not None
    assert chart.alt == "Mean lightness: Photos 50.0, Base 71.0, LoRA 8 34.0."


def test_ranks_deepen_in_colour_and_every_model_has_its_own() -> None:
    found = palette_of([model(name) for name in ("base", "unet", "lora-8", "lora-32", "lora-64")])
    assert len({colour.light for colour in found.values()}) == 5
    blue = [
        sum(int(found[name].light[at : at + 2], 16) for at in (1, 3, 5)) for name in ("lora-8", "lora-32", "lora-64")
    ]
    assert blue == sorted(blue, reverse=True)
