"""Results of benchmarks: figures with the settings, machine and commit they were taken on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portrayal.run import versions, write_json

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What this machine is, as far as speeds depend on it."""
    import torch

    cpu = next((line for line in cpu_lines() if line.startswith("model name")), "").partition(":")[2].strip()
    found: dict[str, Any] = {"cpu": cpu or platform.processor(), "cpus": len(os.sched_getaffinity(0))}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def cpu_lines() -> list[str]:
    """What Linux says of its processors; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def commit() -> str:
    """The commit of the figures, with `+` when files were changed since; `PORTRAYAL_COMMIT` says it of a copy."""
    if "PORTRAYAL_COMMIT" in os.environ:
        return os.environ["PORTRAYAL_COMMIT"]
    folder = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], cwd=folder, check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed else "")


def save(name: str, figures: Mapping[str, Any] | Sequence[Any], settings: Mapping[str, Any]) -> Path:
    """Write `benchmarks/results/NAME.json`."""
    path = RESULTS / f"{name}.json"
    record = {
        "benchmark": name,
        "figures": figures,
        "settings": settings,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(path, record)
    return path


def earlier(name: str) -> Any:
    """Figures that a benchmark took before on this commit and machine, to add to; nothing if there are none."""
    path = RESULTS / f"{name}.json"
    found = read(path) if path.is_file() else {}
    same = found.get("commit") == commit() and found.get("machine") == machine()
    return found["figures"] if same else None


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    headings = list(rows[0])
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        print("| " + " | ".join(cells) + " |")


def read(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))
