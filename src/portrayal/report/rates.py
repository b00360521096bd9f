"""The chart of likeness over the learning rate: whether the rank or the rate matters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from portrayal.report.charts import minus_formatter
from portrayal.report.loras import LoraView
from portrayal.report.palette import Colour
from portrayal.report.scores import Interval, Verdict
from portrayal.report.svg import INK, MUTED, Chart, draw_chart
from portrayal.report.wording import fixed, rate

_SIZE = (5.2, 3.7)
_MARKERS = "os^Dv"
_SPREAD = 0.36
"""How far the ranks stand apart at one learning rate, as a share of the way to the next one."""


@dataclass(frozen=True)
class _Point:
    """One LoRA; `x` is its learning rate, a little aside so that the ranks do not hide each other."""

    lora: LoraView
    x: float
    likeness: Interval | None


@dataclass(frozen=True)
class _Line:
    """The LoRAs of one rank, by learning rate."""

    rank: int
    points: tuple[_Point, ...]
    colour: str
    marker: str

    @property
    def measured(self) -> list[tuple[float, Interval]]:
        return [(point.x, point.likeness) for point in self.points if point.likeness is not None]


def rates_chart(loras: Sequence[LoraView], verdict: Verdict, palette: dict[str, Colour]) -> Chart | None:
    """Likeness over the learning rate, a line for each rank; nothing where there is only one rate."""
    rates = sorted({lora.learning_rate for lora in loras if lora.rank and lora.learning_rate})
    if len(rates) < 2:
        return None
    lines = _lines(loras, rates, palette)
    if not any(line.measured for line in lines):
        return None
    best = next((point for line in lines for point in line.points if point.lora.name == verdict.best_lora), None)
    word = "recommended" if best and verdict.recommended == best.lora.name else "best LoRA"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _dress(axes, rates)
        for line in lines:
            _draw_line(axes, line)
        if best is not None and best.likeness is not None:
            _highlight(axes, best.x, best.likeness, word)
        _make_room(axes, lost=any(point.lora.diverged for line in lines for point in line.points))
        _name_the_lost(axes, lines, rates)
        figure.legend(loc="outside upper left", ncols=5, handlelength=2, columnspacing=1.4, labelcolor=INK)

    said = [*_said(lines), *([f"{word}: {best.lora.label}"] if best else [])]
    return draw_chart("rates", f"Likeness over the learning rate. {'; '.join(said)}.", _SIZE, draw, palette)


def _lines(loras: Sequence[LoraView], rates: Sequence[float], palette: dict[str, Colour]) -> list[_Line]:
    """A line for each rank, smallest first."""
    ranks = sorted({lora.rank for lora in loras if lora.rank and lora.learning_rate})
    gap = min(high / low for low, high in pairwise(rates)) ** (_SPREAD / max(1, len(ranks) - 1))
    lines = []
    for place, rank in enumerate(ranks):
        aside = gap ** (place - (len(ranks) - 1) / 2)
        points = tuple(
            _Point(lora, lora.learning_rate * aside, lora.model.scores.identity if lora.model else None)
            for lora in loras
            if lora.rank == rank and lora.learning_rate
        )
        colour = _colour(points, place / max(1, len(ranks) - 1), palette)
        lines.append(_Line(rank, points, colour, _MARKERS[place % len(_MARKERS)]))
    return lines


def _colour(points: Sequence[_Point], share: float, palette: dict[str, Colour]) -> str:
    """That of one of its LoRAs: the first rank's first, the last rank's last, so that the ranks differ the most."""
    models = [point.lora.name for point in points if point.lora.model is not None]
    return palette[models[round(share * (len(models) - 1))]].light if models else MUTED


def _draw_line(axes: Axes, line: _Line) -> None:
    """The means joined, their intervals, and a cross at the lower edge for each that diverged."""
    for x, likeness in line.measured:
        if likeness.low is not None and likeness.high is not None:
            axes.plot([x, x], [likeness.low, likeness.high], color=line.colour, linewidth=1.4, alpha=0.75)
    if line.measured:
        means = [(x, likeness.mean) for x, likeness in line.measured]
        axes.plot(*zip(*means, strict=True), f"{line.marker}-", color=line.colour, linewidth=2, markersize=6,
                  label=f"rank {line.rank}")  # fmt: skip
    lost = [point.x for point in line.points if point.lora.diverged]
    axes.plot(lost, [0.035] * len(lost), "x", color=line.colour, markersize=7, markeredgewidth=2, clip_on=False,
              transform=axes.get_xaxis_transform())  # fmt: skip


def _highlight(axes: Axes, x: float, likeness: Interval, word: str) -> None:
    """A ring around a point, and a word above its interval."""
    axes.plot(x, likeness.mean, "o", markersize=15, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.6)
    top = likeness.mean if likeness.high is None else likeness.high
    axes.annotate(word, (x, top), (0, 9), textcoords="offset points", ha="center", fontsize=9.5, fontweight="bold")


def _name_the_lost(axes: Axes, lines: Sequence[_Line], rates: Sequence[float]) -> None:
    """One word above the crosses of a learning rate, with their ranks."""
    for one in rates:
        lost = [line.rank for line in lines for p in line.points if p.lora.diverged and p.lora.learning_rate == one]
        if lost:
            axes.annotate(
                f"{', '.join(map(str, lost))}\ndiverged",
                (one, 0.035),
                (0, 8),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                color=MUTED,
                fontsize=8.5,
            )


def _dress(axes: Axes, rates: Sequence[float]) -> None:
    """A logarithmic axis with a tick at each rate that was tried."""
    axes.set_xscale("log")
    edge = (rates[-1] / rates[0]) ** (0.5 / len(rates))
    axes.set_xlim(rates[0] / edge, rates[-1] * edge)
    axes.xaxis.set_major_locator(FixedLocator(list(rates)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rate(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("learning rate")
    axes.set_ylabel("likeness (cosine)")
    axes.yaxis.set_major_formatter(minus_formatter("{:.2g}"))
    axes.grid(axis="both", linewidth=0.5)


def _make_room(axes: Axes, *, lost: bool) -> None:
    """Space above for the word at the best, and below for crosses."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - (0.28 if lost else 0.03) * (high - low), high + 0.1 * (high - low))


def _said(lines: Sequence[_Line]) -> Iterable[str]:
    for line in lines:
        measured = (
            f"{fixed(point.likeness.mean)} at {rate(point.lora.learning_rate)}"
            for point in line.points
            if point.likeness is not None
        )
        if line.measured:
            yield f"rank {line.rank}: {', '.join(measured)}"
    lost = [point.lora.label for line in lines for point in line.points if point.lora.diverged]
    if lost:
        yield f"diverged: {', '.join(lost)}"
