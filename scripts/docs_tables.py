"""Put measured figures into pages of docs/: `python -m scripts.docs_tables`; a test fails when they are stale."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"


def rows_of(name: str, key: str) -> list[dict[str, Any]]:
    """The rows that a benchmark wrote."""
    found: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["figures"][key]
    return found


def planted() -> str:
    """Precision and recall of each finding."""
    lines = ["| finding | planted | precision | recall |", "|---|---|---|---|"]
    for row in rows_of("planted_photos", "findings"):
        kind = str(row["finding"]).replace("_", " ")
        lines.append(f"| {kind} | {row['planted']} | {row['precision']:.2f} | {row['recall']:.2f} |")
    return "\n".join(lines)


def captions() -> str:
    """Identity and obedience with one caption for all, and with the captioner's."""
    lines = ["| model | identity | lowest person | scene | colour of the clothes |", "|---|---|---|---|---|"]
    for row in rows_of("captions", "rows"):
        identity = f"{row['identity']:.2f} | {row['identity, lowest person']:.2f}"
        lines.append(f"| {row['model']} | {identity} | {row['scene']:.0%} | {row['clothes colour']:.0%} |")
    return "\n".join(lines)


def pay() -> str:
    """Identity after training on the planted sets as they are, and as the check advises."""
    lines = ["| photos | trained on | identity | real photos among each other | scene |", "|---|---|---|---|---|"]
    for row in rows_of("photos_pay", "rows"):
        identity = f"{row['identity']:.2f} | {row['of real photos']:.2f}"
        lines.append(f"| {row['photos']} | {row['photos used']:.0f} | {identity} | {row['scene']:.0%} |")
    return "\n".join(lines)


def speed() -> str:
    """Seconds and memory of making many large photos ready."""
    lines = ["| way | photos | seconds | photos a second | peak memory |", "|---|---|---|---|---|"]
    for row in rows_of("photos_speed", "ways"):
        figures = f"{row['seconds']:.0f} | {row['photos/s']:.1f} | {row['peak memory (MiB)']} MiB"
        lines.append(f"| {row['way']} | {row['photos']} | {figures} |")
    return "\n".join(lines)


def packs(name: str) -> str:
    """Steps a second of packs of LoRAs."""
    lines = ["| LoRAs in a batch | ms a step | steps/s of all | times one alone | peak GiB |", "|---|---|---|---|---|"]
    for row in rows_of(name, "packs"):
        figures = f"{row['ms a step']:.0f} | {row['steps/s of all']:.1f} | {row['times one alone']:.1f}"
        lines.append(f"| {row['LoRAs']} | {figures} | {row['peak GiB'] or '–'} |")
    return "\n".join(lines)


PAGES = {
    "photos.md": {"planted": planted, "captions": captions, "pay": pay, "speed": speed},
    "training.md": {"gpu": partial(packs, "lora_packs"), "cpu": partial(packs, "lora_packs_cpu")},
}
"""Of each page the tables by their names."""


def page(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A page with fresh tables."""
    for name, table in tables.items():
        place = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        text = place.sub(lambda _, table=table: table() + "\n", text)  # type: ignore[misc]
    return text


def main() -> None:
    """Rewrite the tables."""
    for name, tables in PAGES.items():
        file = DOCS / name
        file.write_text(page(file.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
