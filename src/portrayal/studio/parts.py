"""How far each part of a run is, and what it has left: from the run's events, its estimate and what is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from portrayal import Run
from portrayal.studio.files import read_json
from portrayal.studio.lanes import Lane

PARTS = (
    ("prepare", "prepare photos"),
    ("class_images", "paint class images"),
    ("train.unet", "train full UNet"),
    ("train.lora", "train LoRAs"),
    ("steps", "find best steps"),
    ("generate", "paint scenes"),
    ("control", "paint to control images"),
    ("evaluate", "judge"),
    ("final", "train on all photos"),
    ("report", "write report"),
)
"""The parts of a run in their order, by the names of `estimate.json`."""


@dataclass(frozen=True)
class StageView:
    """One part of a run.

    Attributes:
        name: Such as `train.lora`; see :data:`PARTS`.
        title: What a person calls it.
        state: Whether it is done, under way, or to come.
        done: Of what is under way in it: pictures, steps, photos.
        total: Of how many; 0 where nobody can say.
        share: How much of the whole part is done, 0 to 1.
        rate: Of `done` a second, since it began; nothing before there is one.
        seconds_left: Of the whole part; nothing where nobody can say.
        seconds: What it took; of a part under way, so far.
    """

    name: str
    title: str
    state: Literal["waiting", "running", "done"]
    done: int = 0
    total: int = 0
    share: float = 0.0
    rate: float | None = None
    seconds_left: float | None = None
    seconds: float = 0.0


def stages_of(
    run: Run, events: Sequence[Mapping[str, Any]], live: Mapping[str, Any], lanes: Sequence[Lane], *, finished: bool
) -> list[StageView]:
    """The parts of the run, each with how far it is."""
    expected = read_json(run.folder / "estimate.json").get("stages", [])
    estimated = {row["name"]: row["seconds"] for row in expected if isinstance(row, dict)}
    began, ended = spans(events)
    present = {*began, *ended, *estimated, "prepare", "report"}
    names = [name for name, _ in PARTS if name in present]
    current = part_of(str(live.get("stage", ""))) if live else ""
    reached = max((names.index(name) for name in (*ended, current) if name in names), default=0)
    views = []
    for place, (name, title) in enumerate((name, title) for name, title in PARTS if name in names):
        running = name == current and not finished
        over = finished or (not running and name in ended and (place < reached or name not in began))
        seconds = ended.get(name, 0.0) + (max(0.0, live.get("time", 0) - live.get("started", 0)) if running else 0.0)
        share = 1.0 if over else share_of(run, name, events, live if running else {}, lanes)
        views.append(
            StageView(
                name,
                title,
                "done" if over else "running" if running else "waiting",
                int(live.get("done", 0)) if running else 0,
                int(live.get("total", 0)) if running else 0,
                share,
                live_rate(live) if running else None,
                0.0 if over else left(estimated.get(name), share, seconds),
                round(seconds, 1),
            )
        )
    return views


def spans(events: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Parts that are begun and not ended, with when; and seconds of those that ended, all their stages together."""
    began: dict[str, float] = {}
    starts: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for event in events:
        stage, time = str(event.get("stage", "")), float(event.get("time", 0))
        part = part_of(stage)
        if event.get("kind") == "started":
            starts[stage], began[part] = time, time
        elif event.get("kind") == "finished":
            seconds[part] = seconds.get(part, 0.0) + time - starts.pop(stage, time)
            if not any(part_of(other) == part for other in starts):
                began.pop(part, None)
    return began, seconds


def part_of(stage: str) -> str:
    """The part of a run that a stage belongs to, as `estimate.json` names it."""
    if stage.endswith(".final"):
        return "final"
    kind = stage.split(".")[0]
    return kind if kind != "train" else "train.unet" if stage.startswith("train.unet") else "train.lora"


def share_of(run: Run, name: str, events: Sequence[Any], live: Mapping[str, Any], lanes: Sequence[Lane]) -> float:
    """How much of a part is done."""
    if name.startswith("train."):
        mine = [one for one in lanes if (one.name == "unet") == (name == "train.unet") and one.name != "final"]
        steps = sum(one.total * one.trainings for one in mine)
        return sum(one.step * one.trainings for one in mine) / steps if steps else 0.0
    if name == "steps":
        return sum(read_share(run, model) for model in run.config.methods) / len(run.config.methods)
    whole = {"generate": len(run.trials) + 1, "final": 2}
    if name == "control":
        whole["control"] = len(run.config.control.kinds) * min(3, 1 + len(run.config.methods))
    ended = {event["stage"] for event in events if event.get("kind") == "finished" and part_of(event["stage"]) == name}
    under_way = live["done"] / live["total"] if live.get("total") else 0.0
    if live.get("stage") == "evaluate.cuts":
        return float(under_way)  # the rest of its part hardly counts
    return min(1.0, (len(ended) + under_way) / whole.get(name, max(1, len(ended) + 1)))


def read_share(run: Run, model: str) -> float:
    """How much of a model's readings are there: they are looked at while it trains, or afterwards."""
    if (run.model_folder(model) / "curve.json").is_file():
        return 1.0
    trials = [trial.name for trial in run.trials.values() if trial.model == model]
    read = sum(1 for trial in trials for _ in run.model_folder(trial).glob("steps/*/heldout.json"))
    return min(1.0, read / (len(trials) * run.config.study.readings))


def left(estimated: float | None, share: float, seconds: float) -> float | None:
    """Seconds that a part has left: at its own pace once a tenth is done, before that as was reckoned."""
    if share > 0.1 and seconds > 1:  # of one that has not begun there are none
        return seconds / share * (1 - share)
    return None if estimated is None else estimated * (1 - share)


def live_rate(live: Mapping[str, Any]) -> float | None:
    """Done a second of what is under way."""
    passed, since = live.get("time", 0) - live.get("started", 0), live.get("done", 0) - live.get("first", 0)
    return since / passed if passed > 0 and since > 0 else None


def whole(stages: Sequence[StageView]) -> float | None:
    """Seconds that all parts have left; nothing where one cannot be told."""
    found = [stage.seconds_left for stage in stages if stage.state != "done"]
    return sum(one or 0.0 for one in found) if any(one is not None for one in found) else None
