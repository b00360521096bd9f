"""What the parts of a run really took, by its events, beside what was reckoned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portrayal.limits import bounded_json


def whole_stages(log: Path) -> dict[str, float]:
    """Seconds of each part of a run by its `events.jsonl`, without those of which a stage was ever interrupted."""
    began: dict[str, float] = {}
    found: dict[str, float] = {}
    torn = set()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = bounded_json(line)
            name, kind, now = str(event["stage"]), event["kind"], float(event["time"])
        except (ValueError, TypeError, KeyError):  # written as the power went
            continue
        part = part_of(name)
        if kind == "started":
            torn |= {part} if name in began else set()
            began[name] = now
        elif kind == "finished" and name in began:
            found[part] = found.get(part, 0.0) + max(0.0, now - began.pop(name))  # clocks are set back
    return {part: seconds for part, seconds in found.items() if part not in torn | {part_of(name) for name in began}}


def part_of(stage: str) -> str:
    """The part of a run that a stage such as `train.lora-8.fold-2` or `generate.final` belongs to."""
    if stage.endswith(".final"):
        return "final"
    kind = stage.split(".")[0]
    return kind if kind != "train" else "train.unet" if stage.startswith("train.unet") else "train.lora"


def compare(estimated: Mapping[str, Any], took: Mapping[str, float]) -> dict[str, Any]:
    """What each part took beside what was reckoned, and all of them that both know: `off` is the share it took more."""
    rows = {
        stage["name"]: {"seconds": round(took[stage["name"]], 2), "estimated": stage["seconds"]}
        for stage in estimated["stages"]
        if stage["name"] in took
    }
    total = sum(row["seconds"] for row in rows.values())
    reckoned = sum(row["estimated"] for row in rows.values())
    off = round(total / reckoned - 1, 3) if reckoned else None
    return {"seconds": round(total, 1), "estimated": round(reckoned, 1), "off": off, "stages": rows}


def said(took: Mapping[str, Any], *, whole: bool) -> str:
    """`took 412 s, estimated 380 s (8 % more)`."""
    more = "more" if (took["off"] or 0) >= 0 else "less"
    text = f"took {took['seconds']:.0f} s, estimated {took['estimated']:.0f} s ({abs(took['off'] or 0):.0%} {more})"
    return text.replace("%", " %") + ("" if whole else ", of the stages that were timed whole")
