"""What stands around every screen: the steps of the project, the queue, the language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portrayal.studio.jobs import AT_WORK, Job
from portrayal.studio.page.asked import STEPS, Action, Asked, Outcome, Values
from portrayal.studio.texts import LANGUAGES

TONES = {"done": "good", "failed": "bad", "paused": "warn", "running": "busy"}
"""How a state is coloured."""


@dataclass(frozen=True)
class Step:
    """One step of a project in the rail."""

    name: str
    title: str
    address: str
    state: str


@dataclass(frozen=True)
class QueueRow:
    """One job in the queue."""

    id: str
    title: str
    place: int
    working: bool


def view(asked: Asked) -> dict[str, Any]:
    """What the frame shows."""
    at_work = [job for job in asked.jobs if job.state in AT_WORK]
    waiting = [job for job in asked.jobs if job.state == "queued"]
    rows = [QueueRow(job.id, title(asked, job), place, False) for place, job in enumerate(waiting, 1)]
    rows = [*(QueueRow(job.id, title(asked, job), 0, True) for job in at_work), *rows]
    return {
        "steps": steps(asked) if asked.project else [],
        "queue": rows,
        "working": title(asked, at_work[0]) if at_work else "",
        "waiting": len(waiting),
        "languages": LANGUAGES,
        "tones": TONES,
    }


def title(asked: Asked, job: Job) -> str:
    """What a job is called."""
    return asked.t(f"queue.{job.kind}", project=job.project)


def steps(asked: Asked) -> list[Step]:
    """The steps of the project: done, at hand, or to come."""
    project, state = asked.mine, asked.state
    finished = {"photos", "plan"} if project.started or state in ("queued", "running") else set()
    if state == "planned":
        finished = {"photos"}
    if (project.run_folder / "scores.json").is_file():
        finished |= {"train", "compare", "verdict"}
    if any((project.run_folder / "pictures").glob("*/*.png")):
        finished.add("generate")
    if any((project.run_folder / "exports").glob("*")):
        finished.add("export")
    now = next((name for name in STEPS if name not in finished), "")
    return [
        Step(name, asked.t(f"screen.{name}"), asked.link(name), "done" if name in finished else "now" * (name == now))
        for name in STEPS
    ]


def cancel(asked: Asked, values: Values) -> Outcome:
    """Take a job out of the queue, or give up the one at work."""
    asked.queue.cancel(str(values.get("job", "")))
    return Outcome(said=asked.t("queue.cancelled"))


ACTIONS: dict[str, Action] = {"cancel": cancel}
