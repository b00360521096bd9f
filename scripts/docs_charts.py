"""Draw the charts of docs/: `python -m scripts.docs_charts`; a test fails when they are stale."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from portrayal.report.svg import INK, LINE, MUTED, Chart, draw_chart

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docs" / "images" / "rules.svg"
RESULTS = ROOT / "benchmarks" / "results" / "verdict.json"
ACCENT = "#2a6fb5"
AGREES, LOTS, AGAIN = "names a rank the verdict leaves", "drawing lots would", "names the same rank again"


def rules_chart() -> Chart:
    """How often two rules read off the training loss name a rank that the verdict leaves, and the same one again."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"]["rules"]

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


def main() -> None:
    """Draw them anew."""
    RULES.write_bytes(rules_chart().content)
    print(RULES)


if __name__ == "__main__":
    main()
