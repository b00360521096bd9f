"""Draw the charts of docs/: `python -m scripts.docs_charts`; a test fails when they are stale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from portrayal.report.svg import INK, LINE, MUTED, Chart, draw_chart
from scripts.results import rows_of

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docs" / "images" / "rules.svg"
ACCENT = "#2a6fb5"
COSTS = ROOT / "docs" / "images" / "costs.svg"
SWEEPS = {"rank": "rank", "batch": "batch", "resolution": "resolution in pixels", "pack": "LoRAs in a pack"}
UNET = "#c2703d"
AGREES, LOTS, AGAIN = "names a rank the verdict leaves", "drawing lots would", "names the same rank again"


def rules_chart() -> Chart:
    """How often two rules read off the training loss name a rank that the verdict leaves, and the same one again."""
    rows = rows_of("verdict", "rules")

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for place, row in enumerate(rows):
            axes.plot([0, 100], [place, place], color=LINE, linewidth=0.8, zorder=0)
            axes.plot([100 * row[LOTS]] * 2, [place - 0.28, place + 0.28], color=MUTED, linewidth=1.5)
            axes.plot(100 * row[AGAIN], place, "o", markersize=9, color="none", markeredgecolor=ACCENT)
            axes.plot(100 * row[AGREES], place, "o", markersize=6, color=ACCENT)
        axes.set_yticks(range(len(rows)), [f"{row['rule']},\n{row['trained']}" for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.9)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("% of choices")
        axes.tick_params(axis="y", length=0)
        handles = [
            axes.plot([], [], "o", markersize=6, color=ACCENT)[0],
            axes.plot([], [], "|", markersize=10, markeredgewidth=1.5, color=MUTED)[0],
            axes.plot([], [], "o", markersize=9, color="none", markeredgecolor=ACCENT)[0],
        ]
        labels = ["a rank the verdict leaves", "by drawing lots", "the same rank in another training"]
        axes.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.3, 1.16), ncols=3, labelcolor=INK, frameon=False
        )

    told = "; ".join(f"{row['rule']}, {row['trained']}: {100 * row[AGREES]:.0f} %" for row in rows)
    return draw_chart("rules", f"How often a rule names a rank that the verdict leaves: {told}.", (7.4, 3.2), draw, {})


def costs_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    """Seconds and memory of a training step over rank, batch, resolution and LoRAs in a pack.

    Args:
        rows: What `benchmarks.costs` measured.
    """
    kinds = {"unet": ("full UNet", UNET), "lora": ("LoRA", ACCENT)}

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, len(SWEEPS), sharex="col")
        for column, (sweep, title) in enumerate(SWEEPS.items()):
            here = [row for row in rows if row["sweep"] == sweep]
            units = (("seconds_a_step", "s a step"), ("peak_gib", "GiB"))
            for axes, (key, unit) in zip(grid[:, column], units, strict=True):
                for kind, (_, colour) in kinds.items():
                    points = sorted((row[sweep], row[key]) for row in here if row["method"] == kind and row[key])
                    across, up = [x for x, _ in points], [y for _, y in points]
                    axes.plot(across, up, "o-", color=colour, markersize=4, linewidth=1.4)
                axes.set_ylim(0, 1.1 * max((row[key] or 0 for row in here), default=0) or 1)
                axes.grid(axis="y")
                axes.set_ylabel(unit if column == 0 else "")
            if sweep != "resolution":
                axes.set_xscale("log", base=2)
            values = sorted({row[sweep] for row in here})
            axes.set_xticks(values, [str(value) for value in values])
            axes.set_xlabel(title)
        handles = [grid[0, 0].plot([], [], "o-", markersize=4, color=colour)[0] for _, colour in kinds.values()]
        labels = [name for name, _ in kinds.values()]
        figure.legend(handles, labels, loc="outside upper left", ncols=2, labelcolor=INK, frameon=False)

    told = "; ".join(f"{title} {ends(rows, sweep)}" for sweep, title in SWEEPS.items())
    return draw_chart("costs", f"Seconds and GiB of a training step, from least to most: {told}.", (10, 4.4), draw, {})


def ends(rows: Sequence[dict[str, Any]], sweep: str) -> str:
    """The LoRA of a sweep at its ends."""
    here = sorted(
        (row for row in rows if row["sweep"] == sweep and row["method"] == "lora"), key=lambda row: row[sweep]
    )
    said = [f"{row[sweep]}: {row['seconds_a_step']:.3f} s, {row['peak_gib'] or 0:.1f} GiB" for row in here]
    return " to ".join(said[:1] + said[1:][-1:])


def charts() -> dict[Path, Chart]:
    """All charts by their files."""
    return {RULES: rules_chart(), COSTS: costs_chart(rows_of("costs", "rows"))}


def main() -> None:
    """Draw them anew."""
    for path, chart in charts().items():
        path.write_bytes(chart.content)
        print(path)


if __name__ == "__main__":
    main()
