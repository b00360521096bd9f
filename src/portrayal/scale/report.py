"""The report of a batch: one page of HTML, and Markdown, from its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from portrayal.report import wording
from portrayal.report.build import TEMPLATES
from portrayal.report.palette import Colour
from portrayal.report.svg import INK, LINE, MUTED, Chart, draw_chart
from portrayal.scale.storage import RECORDS, Store
from portrayal.scale.summary import Json

FILTERS = ("fixed", "signed_percent", "duration", "counted", "plain", "markdown")
OURS = Path(__file__).with_name("templates")
ACCENT = Colour("--accent", "#b8481a", "#f2935c")
MOST_PICTURES = 60


def write_summary(store: Store, summary: Json) -> None:
    """Write `batch.html` and `batch.md` beside the runs, and the chart's file that the latter shows."""
    chart = likeness_chart(summary)
    environment = Environment(
        loader=FileSystemLoader([OURS, TEMPLATES]),
        autoescape=True,  # names come from people
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(wording, name) for name in FILTERS}
    context = {"summary": summary, "chart": chart, "records": RECORDS, "shown": shown(summary)}
    for ending in ("html", "md"):
        page = environment.get_template(f"batch.{ending}.j2").render(context).rstrip() + "\n"
        store.write(f"batch.{ending}", page.encode())
    if chart is not None:
        store.write(f"{RECORDS}/likeness.svg", chart.content)


def shown(summary: Json) -> list[Json]:
    """The subjects with pictures: those of a small batch all, of a large one the ends of the scale."""
    rows = [row for row in summary["rows"] if row["pictures"]]
    if len(rows) <= MOST_PICTURES:
        return rows
    ranked = sorted(rows, key=lambda row: row["normalised"] or 0.0)
    return [*ranked[: MOST_PICTURES // 2], *ranked[-(MOST_PICTURES // 2) :]]


def likeness_chart(summary: Json) -> Chart | None:
    """Likeness of every subject as a dot, a row for each model; those out of line are named."""
    lines = [(name, one["values"]) for name, one in summary["identity"].items() if one]
    if not lines:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, (_, values) in enumerate(lines):
            offsets: Any = np.resize([0.0, 0.16, -0.16, 0.08, -0.08], len(values))
            axes.scatter(values, place + offsets, s=22, color=ACCENT.light, alpha=0.5, linewidths=0)
            axes.plot([float(np.median(values))] * 2, [place - 0.34, place + 0.34], color=INK, linewidth=2.2)
        axes.set_yticks(range(len(lines)), [name for name, _ in lines], color=INK)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.axvline(1, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("a stranger  0  ←  likeness  →  1  the person's own photos")
        axes.grid(axis="x", linewidth=0.5, color=LINE)

    said = ", ".join(f"{name} {wording.fixed(float(np.median(values)))}" for name, values in lines)
    alt = f"Likeness of each subject by each model, from a stranger (0) to their own photos (1). Medians: {said}."
    return draw_chart("likeness", alt, (6.6, 0.8 + 0.55 * len(lines)), draw, {"accent": ACCENT})
