"""Projects: one folder for each person, with the photos that were handed in, what was chosen, and the run.

::

    ROOT/NAME/choices.json   what was chosen
    ROOT/NAME/photos/        the photos as they were handed in
    ROOT/NAME/views/         small upright pictures of them, without EXIF
    ROOT/NAME/run/           the run: any command of `portrayal` reads it

A run's own folder in ROOT, made by a command, is a project too: it has no photos to hand in, and everything else.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from portrayal import UsageError, effort_settings
from portrayal.studio.files import below, checked_name, live_of, locked, read_json, write_json

Quality = Literal["quick", "balanced", "thorough"]
State = Literal["new", "photos", "planned", "queued", "running", "paused", "failed", "done"]

WORKSHOP = ".studio"
"""Folder of the queue and of uploads under way, in the root."""

SMALL = "small"
"""Folder of small copies of pictures in there, by project."""

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True)
class Choices:
    """What was chosen for a project.

    Attributes:
        quality: How large its study is.
        base: Name of the base; `auto` chooses by machine.
        class_noun: What the subject is.
        consent: Whether the subject agreed, or is drawn, or an animal.
        overrides: Other settings by dotted key, as :func:`portrayal.studio.forms.parse` gives them.
        settled: Whether the plan was looked at and agreed to.
        drop: Names of photos to leave out.
        keep: Names of photos to train on whatever was found.
        crop: Squares chosen by hand, by the photo's name: left, top and side in pixels of the upright photo.
    """

    quality: Quality = "balanced"
    base: str = "auto"
    class_noun: str = "person"
    consent: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    settled: bool = False
    drop: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    crop: dict[str, list[int]] = field(default_factory=dict)

    def settings(self, photos: Collection[str] = ()) -> list[str]:
        """The choices as `section.key=value` texts, those of single settings last.

        Args:
            photos: Names of the photos that are there; what was chosen for others is forgotten.
        """
        named: dict[str, Any] = {"base.name": self.base, "subject.class_noun": self.class_noun}
        lists = {"drop": self.drop, "keep": self.keep}
        named |= {
            f"prepare.{key}": found for key, names in lists.items() if (found := [*filter(photos.__contains__, names)])
        }
        crops = {name: square for name, square in self.crop.items() if name in photos}
        values = named | self.overrides | ({"prepare.crop": crops} if crops else {})
        return [*effort_settings(self.quality), *(f"{key}={as_toml(value)}" for key, value in values.items())]


def as_toml(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{as_toml(key)} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's texts and numbers are TOML's


@dataclass(frozen=True)
class Project:
    """One project; nothing of it is kept in memory.

    Attributes:
        root: Folder of all projects.
        name: Its folder's name.
        recipe: What its settings start from; nothing chooses by base and machine.
    """

    root: Path
    name: str
    recipe: str | None = None

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.root / self.name

    @property
    def photos_folder(self) -> Path:
        """Where photos that were handed in lie."""
        return self.folder / "photos"

    @property
    def views_folder(self) -> Path:
        """Where small upright pictures of them lie."""
        return self.folder / "views"

    @property
    def run_folder(self) -> Path:
        """Where its run lies, or will lie."""
        return self.folder if (self.folder / "run.json").is_file() else self.folder / "run"

    @property
    def made_by_command(self) -> bool:
        """Whether it is a run's own folder: its photos and settings cannot be changed here."""
        return self.run_folder == self.folder

    @property
    def started(self) -> bool:
        """Whether its run is there: photos and settings are settled then."""
        return (self.run_folder / "run.json").is_file()

    @property
    def choices(self) -> Choices:
        """What was chosen."""
        known = {one.name for one in fields(Choices)}
        return Choices(**{key: value for key, value in read_json(self.folder / "choices.json").items() if key in known})

    def choose(self, **changes: Any) -> Choices:
        """Change choices; what is not named stays.

        Raises:
            UsageError: If the run has been started, or there is no such choice.
        """
        unknown = set(changes) - {one.name for one in fields(Choices)}
        if unknown:
            raise UsageError(f"There is no choice {sorted(unknown)[0]!r}.")
        if self.started:
            raise UsageError(f"{self.name} has been started with its settings.", "Make another project to change them.")
        with locked(self.root / WORKSHOP):
            chosen = Choices(**(asdict(self.choices) | changes))
            chosen.settings()  # raises for what cannot be meant
            write_json(self.folder / "choices.json", asdict(chosen))
        return chosen

    @property
    def photos(self) -> list[Path]:
        """The photos that were handed in, by name."""
        found = self.photos_folder.iterdir() if self.photos_folder.is_dir() else ()
        return sorted(path for path in found if path.suffix not in (".txt", ".caption") and path.name[0] != ".")

    @property
    def settings(self) -> list[str]:
        """What was chosen, as `section.key=value` texts, for the photos that are there."""
        return self.choices.settings([path.name for path in self.photos])

    @property
    def created(self) -> float:
        """When it was made, in Unix seconds."""
        paths = (self.folder / "project.json", self.folder / "run.json", self.folder)
        return next(path.stat().st_mtime for path in paths if path.exists())

    @property
    def picture(self) -> Path | None:
        """The picture that shows it best: one that was painted, else a photo."""
        run = self.run_folder
        places = (run / "images/final", run / "pictures", run / "images/steps", self.views_folder, run / "dataset")
        for folder in places:
            found = (path for path in sorted(folder.rglob("*")) if path.suffix in PICTURES)
            if (first := next(found, None)) is not None:
                return first
        return None

    @property
    def state(self) -> State:
        """How far it is, with its jobs counted in."""
        from portrayal.studio.jobs import Queue

        jobs = [job for job in Queue(self.root).jobs() if job.project == self.name and job.kind == "run"]
        if jobs and not jobs[-1].ended:
            paused: State = "paused" if jobs[-1].state == "paused" else "running"
            return "queued" if jobs[-1].state == "queued" else paused
        if (self.run_folder / "report.html").is_file():
            return "done"
        if jobs and jobs[-1].state == "failed":
            return "failed"
        if self.started:  # by a command, perhaps, which may be at it
            return "running" if live_of(self.run_folder) else "paused"
        return "new" if not self.photos else "planned" if self.choices.settled else "photos"


@dataclass(frozen=True)
class Projects:
    """All projects below one folder.

    Attributes:
        root: The folder; made when the first project is.
        recipe: What settings of new projects start from; nothing chooses by base and machine.
    """

    root: Path
    recipe: str | None = None

    def all(self) -> list[Project]:
        """Every project, the newest first."""
        found = (path for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else iter(())
        projects = [
            Project(self.root, path.name, self.recipe)
            for path in found
            if not path.name.startswith(".")
            and not path.is_symlink()
            and any((path / name).is_file() for name in ("project.json", "run.json"))
        ]
        return sorted(projects, key=lambda project: project.created, reverse=True)

    def create(self, name: str) -> Project:
        """Make an empty project.

        Raises:
            UsageError: If the name cannot be one, or is taken.
        """
        name = checked_name(name)
        folder = self.root / name
        taken = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
        if name.casefold() in (other.casefold() for other in taken):
            raise UsageError(f"There is a project {name!r} already.", f"Take another name, such as {name} 2.")
        write_json(folder / "project.json", {"schema": 1, "created": round(time.time(), 3)})
        return Project(self.root, name, self.recipe)

    def open(self, name: str) -> Project:
        """The project of a name.

        Raises:
            UsageError: If there is none.
        """
        name = checked_name(name)
        found = next((project for project in self.all() if project.name == name), None)
        if found is None or below(self.root, name) != self.root.resolve() / name:
            raise UsageError(f"There is no project {name!r}.")
        return found

    def delete(self, name: str) -> None:
        """Delete everything of a project: photos, run, pictures, jobs with their logs, copies of uploads.

        Raises:
            UsageError: If there is none.
            MachineError: If its work does not stop, or the disk refuses.
        """
        from portrayal.studio.jobs import Queue

        project = self.open(name)
        Queue(self.root).forget(name)
        shutil.rmtree(self.root / WORKSHOP / SMALL / name, ignore_errors=True)
        doomed = self.root / WORKSHOP / f"deleted-{time.time_ns()}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        project.folder.rename(doomed)  # at once gone from sight, whatever happens while it is emptied
        self.sweep()

    def sweep(self) -> None:
        """Remove what deleting left when it was interrupted, and the browser's copies of pictures and uploads."""
        workshop = self.root / WORKSHOP
        leftovers: Iterable[Path] = [*workshop.glob("deleted-*"), workshop / "gradio"]
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=folder.name == "gradio")
