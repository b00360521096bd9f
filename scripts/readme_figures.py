"""Put the demo's figures into README.md: `python -m scripts.readme_figures`; a test fails when they are stale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from scripts.results import figures_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = "pocket_demo_quick"
PLACE = re.compile(r"(?<=<!-- demo-figures -->\n).*?(?=<!-- /demo-figures -->)", re.DOTALL)


def table(figures: dict[str, Any]) -> str:
    """The models' rows, the levels beside them, and the minutes."""
    lines = ["| model | held-out loss | identity | prompt | lightness |", "|---|---|---|---|---|"]
    for row in figures["models"]:
        interval = f"{row['identity']:.2f} ({row['identity low']:.2f} to {row['identity high']:.2f})"
        loss, prompt, lightness = f"{row['held-out loss']:.4f}", f"{row['prompt']:.3f}", f"{row['lightness']:+.1f}"
        lines.append(f"| {row['model']} | {loss} | {interval} | {prompt} | {lightness} |")
    levels = figures["levels"]
    lines.append(f"| strangers | | {levels['identity_stranger']:.2f} | | |")
    lines.append(f"| her real photos | | {levels['identity_real']:.2f} | | |")
    minutes = figures["total_seconds"] / 60
    return "\n".join([*lines, "", f"{minutes:.1f} minutes on two CPU cores. “{figures['verdict']}”", ""])


def main() -> None:
    """Rewrite the table."""
    text = README.read_text(encoding="utf-8")
    README.write_text(PLACE.sub(lambda _: table(figures_of(RESULTS)), text), encoding="utf-8")


if __name__ == "__main__":
    main()
