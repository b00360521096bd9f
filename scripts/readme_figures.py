"""Put measured figures into README.md and README.ru.md: `python -m scripts.readme_figures`; a test fails when stale."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.results import figures_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = "pocket_demo_quick"
PLACE = re.compile(r"(?<=<!-- demo-figures -->\n).*?(?=<!-- /demo-figures -->)", re.DOTALL)
HEADLINE = re.compile(r"(?<=<!-- headline -->\n).*?(?=<!-- /headline -->)", re.DOTALL)
RUSSIAN = ROOT / "README.ru.md"
HEADLINES = {
    README: "Measured on {people} drawn people who are in no recipe's trials: the recommended LoRA falls short of the "
    "best of nine by {regret} in likeness on average, and by more than 0.05 in {over} of {studies} studies; the chance "
    "that was stated for the leader was {stated} on average, and it was the best in {right} of them.\n",
    RUSSIAN: "Измерено на {people} нарисованных людях, которых нет в пробах ни одного рецепта: рекомендованная LoRA "
    "уступает лучшей из девяти в сходстве на {regret} в среднем, а больше чем на 0,05 — в {over} из {studies} "
    "исследований; названная вероятность того, что лидер лучший, была в среднем {stated}, и лучшим он был в {right} "
    "случаев.\n",
}
"""By page what its headline says."""


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


def promise() -> dict[str, str]:
    """What was measured of the recommendation, as texts."""
    found = figures_of("rate_rules")
    ours = next(row for row in found["constant"]["rules"] if row["rule"] == "Portrayal's verdict")
    total = next(row for row in found["chances"] if row["stated"] == "all")
    shares = {"over": ours["regret over 0.05"], "stated": total["mean stated"], "right": total["truly the best"]}
    return {
        "people": str(found["constant"]["people"]),
        "studies": str(total["studies"]),
        "regret": f"{ours['mean regret']:.3f}",
    } | {name: share.replace("%", " %") for name, share in shares.items()}


def headline(page: Path, said: Mapping[str, str]) -> str:
    """The headline's sentence; numbers of the Russian page have a decimal comma."""
    comma = page == RUSSIAN
    return HEADLINES[page].format(**{name: text.replace(".", ",") if comma else text for name, text in said.items()})


def main() -> None:
    """Rewrite table and headlines."""
    for page in HEADLINES:
        text = page.read_text(encoding="utf-8")
        text = HEADLINE.sub(lambda _, page=page: headline(page, promise()), text)  # type: ignore[misc]
        if page == README:
            text = PLACE.sub(lambda _: table(figures_of(RESULTS)), text)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
