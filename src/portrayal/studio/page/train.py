"""The fourth screen: one lane for each model, what goes on, and what to do when it stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from portrayal.studio.lanes import Lane
from portrayal.studio.page.asked import Action, Asked, Outcome, Values, colour
from portrayal.studio.page.curves import curve
from portrayal.studio.parts import StageView
from portrayal.studio.watch import View as Watched
from portrayal.studio.watch import look
from portrayal.studio.worker import ensure_worker

MOST_SAMPLES = 12
"""Pictures in a lane; of more, those at even distances."""

POLL = {"running": 1000, "queued": 1500, "paused": 4000}
"""Milliseconds between two looks, by state."""


@dataclass(frozen=True)
class LaneView:
    """One lane as the template shows it."""

    lane: Lane
    title: str
    colour: str
    curve: Markup
    samples: tuple[tuple[int, str], ...]


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    watched = look(asked.mine)
    ranks = list(dict.fromkeys(str(lane.rank) for lane in watched.lanes if lane.rank is not None))
    return {
        "watched": watched,
        "lanes": [lane_view(asked, lane, ranks) for lane in watched.lanes],
        "stages": [(stage_title(asked, stage), stage) for stage in watched.stages],
        "share": overall(watched.stages),
        "lead": lead(asked, watched),
        "place": 0 if watched.job is None else watched.job.place,
        "poll": POLL.get(watched.state, 0),
    }


def lead(asked: Asked, watched: Watched) -> str:
    """The sentence below the title."""
    if watched.job is not None and watched.job.state in ("pausing", "stopping"):
        return asked.t(f"train.{watched.job.state}")
    known = {"running", "done", "paused", "queued"}
    if watched.state == "failed":
        return ""
    return asked.t(f"train.lead_{watched.state}" if watched.state in known else "train.lead_none")


def stage_title(asked: Asked, stage: StageView) -> str:
    """What a part of the run is called."""
    key = f"train.stage_{stage.name.replace('.', '_')}"
    return asked.t(key) if asked.t.has(key) else stage.title


def overall(stages: list[StageView]) -> float:
    """How much of the whole run is done, by time where that is known."""
    spent = sum(stage.seconds for stage in stages)
    left = [stage.seconds_left for stage in stages if stage.state != "done"]
    if spent and left and all(one is not None for one in left):
        return spent / (spent + sum(one or 0.0 for one in left))
    return sum(stage.share for stage in stages) / len(stages) if stages else 0.0


def lane_view(asked: Asked, lane: Lane, ranks: list[str]) -> LaneView:
    """One lane; of each step, the picture of the first scene."""
    scene = lane.samples[0].scene if lane.samples else ""
    shown = [sample for sample in lane.samples if sample.scene == scene]
    apart = -(-len(shown) // MOST_SAMPLES) or 1
    chosen = [sample for place, sample in enumerate(shown) if (len(shown) - 1 - place) % apart == 0]
    samples = tuple((sample.step, asked.picture(sample.path, 256)) for sample in chosen)
    title = asked.model(lane.name)
    return LaneView(lane, title, colour(lane.name, ranks), curve(asked.t, lane), samples)


def pause(asked: Asked, values: Values) -> Outcome:
    """Interrupt the run so that it can go on."""
    asked.queue.pause(current(asked))
    return Outcome(said=asked.t("train.pausing"))


def resume(asked: Asked, values: Values) -> Outcome:
    """Let the run go on where it was: its paused or failed job, or a new one for a run without any."""
    job = asked.job("run")
    if job is not None and job.state in ("paused", "failed"):
        asked.queue.resume(job.id)
    else:
        asked.queue.submit(asked.mine, "run")
    ensure_worker(asked.queue.root, asked.queue.recipe)
    return Outcome(said=asked.t("train.restarted"), go="train")


def keep(asked: Asked, values: Values) -> Outcome:
    """End the training and keep what it has learned."""
    asked.queue.stop_and_keep(current(asked))
    return Outcome(said=asked.t("train.stopping"))


def sample(asked: Asked, values: Values) -> Outcome:
    """Have every model in training paint a picture."""
    asked.queue.sample_now(current(asked))
    return Outcome(said=asked.t("train.sampling"))


def current(asked: Asked) -> str:
    """The number of the project's run in the queue."""
    job = asked.job("run")
    return job.id if job else ""


ACTIONS: dict[str, Action] = {"pause": pause, "resume": resume, "keep": keep, "sample": sample}
