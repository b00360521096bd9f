"""What a request asks for, what comes of it, and the addresses that screens link to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from portrayal.sentences import rate_text
from portrayal.studio.jobs import Job, Queue
from portrayal.studio.projects import Project, Projects, State
from portrayal.studio.texts import Texts

Values = Mapping[str, Any]
"""What a form holds, by the names of its fields, with the data of the button that was pressed."""

LORA_NAME = re.compile(r"lora-(?P<rank>\d+)(-lr(?P<rate>\d+e-?\d+))?")
"""A LoRA of a study; see `Config.methods`."""

STEPS = ("photos", "plan", "train", "compare", "verdict", "generate", "export")
"""The screens of a project, in order."""


@dataclass(frozen=True)
class Wrong:
    """Why an action was not done.

    Attributes:
        cause: What is wrong.
        remedy: What to do about it.
        fields: The same for single fields of a form, by key.
    """

    cause: str
    remedy: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of an action.

    Attributes:
        said: Told in passing.
        go: The screen to go to; nothing stays.
        project: The project to go to, with `go`.
        wrong: Why it was not done.
        values: What the screen should hold on to, such as the fields of a form that was refused.
        refill: Whether what is typed in forms gives way to what the screen says.
    """

    said: str = ""
    go: str | None = None
    project: str | None = None
    wrong: Wrong | None = None
    values: Values = field(default_factory=dict)
    refill: bool = False

    def as_json(self) -> dict[str, Any]:
        """What the browser sends along when it looks again, so that messages and forms stay."""
        return {"wrong": asdict(self.wrong) if self.wrong else None, "values": dict(self.values)}

    @classmethod
    def from_json(cls, told: object) -> Outcome:
        """What :meth:`as_json` made, as far as it can still be meant: it has been outside."""
        kept = told if isinstance(told, Mapping) else {}
        wrong, values = kept.get("wrong"), kept.get("values")
        values = values if isinstance(values, Mapping) else {}
        found: dict[str, Any] = {key: value for key, value in values.items() if isinstance(value, str)}
        rows = values.get("refused")
        found["refused"] = [listed(row) for row in rows if len(listed(row)) == 2] if isinstance(rows, list) else []
        found["settings"] = values["settings"] if isinstance(values.get("settings"), Mapping) else {}
        if not isinstance(wrong, Mapping):
            return cls(values=found)
        fields = wrong.get("fields")
        told_fields = {str(key): str(one) for key, one in fields.items()} if isinstance(fields, Mapping) else {}
        return cls(wrong=Wrong(str(wrong.get("cause")), str(wrong.get("remedy") or ""), told_fields), values=found)


NOTHING = Outcome()


@dataclass(frozen=True)
class Asked:
    """What one request is about.

    Attributes:
        projects: All projects.
        queue: The queue.
        t: The texts in the reader's language.
        screen: `projects`, or one of :data:`STEPS`.
        project: The project of the screen; nothing on `projects`.
        place: Everything the address says, such as the scene that is compared.
    """

    projects: Projects
    queue: Queue
    t: Texts
    screen: str
    project: Project | None
    place: Mapping[str, str]

    @property
    def mine(self) -> Project:
        """The project, on a screen that has one."""
        assert self.project is not None
        return self.project

    @cached_property
    def jobs(self) -> list[Job]:
        """All jobs, read once for a request."""
        return self.queue.jobs()

    @cached_property
    def state(self) -> State:
        """How far the project is."""
        return self.mine.state

    def job(self, *kinds: str) -> Job | None:
        """The project's last job of these kinds."""
        found = [job for job in self.jobs if job.project == self.mine.name and job.kind in kinds]
        return found[-1] if found else None

    def link(self, screen: str, project: str | None = None, **more: str) -> str:
        """The address of a screen, of this project unless another is named."""
        name = project or (self.project.name if self.project else None)
        place = {"project": name, "screen": screen} if name and screen != "projects" else {}
        return "?" + urlencode(place | more) if place else "?"

    def picture(self, path: Path, width: int | None = None, project: Project | None = None) -> str:
        """The address of a picture of the project, no wider than this, that changes when the file does."""
        owner = project or self.mine
        version = f"{path.stat().st_mtime_ns:x}" if path.exists() else "0"
        size = f"w={width}&" if width else ""
        return f"{self.file(path, owner)}?{size}v={version}"

    def file(self, path: Path, project: Project | None = None) -> str:
        """The address of a file of the project."""
        owner = project or self.mine
        return f"/files/{quote(owner.name)}/{quote(path.relative_to(owner.folder).as_posix())}"

    def pair(self, pair: str, side: str) -> str:
        """The address of a picture of a blind pair, which does not tell whose it is."""
        return f"/votes/{quote(self.mine.name)}/{quote(pair)}/{side}"

    def model(self, name: str) -> str:
        """What a model is called: `LoRA, rank 64`, or `LoRA, rank 64, rate 2e-4` in a study of several rates."""
        if name in ("unet", "base", "final"):
            return self.t({"unet": "train.full_unet", "base": "train.base_model", "final": "train.final_model"}[name])
        lora = LORA_NAME.fullmatch(name.partition(".")[0])
        if lora is None:
            return name
        if lora["rate"] is None:
            return self.t("train.lora", rank=lora["rank"])
        return self.t("train.lora_at", rank=lora["rank"], rate=rate_text(float(lora["rate"])))


Action = Callable[[Asked, Values], Outcome]


def listed(value: object) -> list[str]:
    """The texts of a list that came from outside; none if it is no list."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def number(values: Values, key: str, default: float) -> float | int:
    """The number in a field, or what is usual where there is none."""
    try:
        found = float(str(values.get(key, "")).replace(",", "."))
    except ValueError:
        return default
    if not math.isfinite(found):
        return default
    return int(found) if found == int(found) else found


def colour(name: str, ranks: list[str]) -> str:
    """The CSS colour of a model: its kind's, LoRAs deepening with rank."""
    if name in ("unet", "base"):
        return f"var(--model-{name})"
    lora = LORA_NAME.fullmatch(name.partition(".")[0])
    place = ranks.index(lora["rank"]) if lora and lora["rank"] in ranks else None
    return "var(--model-other)" if place is None else f"var(--rank-{min(5, place + 1)})"
