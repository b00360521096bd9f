"""What the benchmarks wrote, for the docs to quote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def record_of(name: str) -> dict[str, Any]:
    """What a benchmark wrote: figures, settings, machine, commit."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def figures_of(name: str) -> dict[str, Any]:
    """All that a benchmark found."""
    found: dict[str, Any] = record_of(name)["figures"]
    return found


def rows_of(name: str, key: str) -> list[dict[str, Any]]:
    """The rows that a benchmark wrote."""
    found: list[dict[str, Any]] = figures_of(name)[key]
    return found


def taken(name: str, *, gpus: str = "One") -> str:
    """On which GPU, or how many of them, figures were taken, and of which commit."""
    found = record_of(name)
    return f"{gpus} {found['machine']['gpu']}, commit {found['commit'][:7]}."
