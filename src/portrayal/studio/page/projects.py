"""The first screen: what exists, with a picture and its state; a new one; deleting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portrayal.studio.page.asked import Action, Asked, Outcome, Values
from portrayal.studio.projects import Project, State


@dataclass(frozen=True)
class Card:
    """One project in the list."""

    name: str
    address: str
    picture: str
    state: State
    photos: int


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    cards = [card(asked, project) for project in asked.projects.all()]
    busy = any(one.state in ("running", "queued") for one in cards)
    return {"cards": cards, "typed": str(outcome.values.get("name", "")), "poll": 4000 if busy else 0}


def card(asked: Asked, project: Project) -> Card:
    """A project as its card shows it."""
    path = project.picture
    picture = asked.picture(path, 480, project) if path else ""
    count = len(project.photos) or len(list((project.run_folder / "dataset" / "images").glob("*.png")))
    return Card(project.name, asked.link("", project.name), picture, project.state, count)


def create(asked: Asked, values: Values) -> Outcome:
    """Make a project and go to its photos."""
    project = asked.projects.create(str(values.get("name", "")))
    return Outcome(go="photos", project=project.name)


def delete(asked: Asked, values: Values) -> Outcome:
    """Delete everything of a project."""
    name = str(values.get("name", ""))
    asked.projects.delete(name)
    return Outcome(said=asked.t("projects.deleted", name=name), go="projects")


ACTIONS: dict[str, Action] = {"create": create, "delete": delete}
