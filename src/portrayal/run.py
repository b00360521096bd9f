"""A Run: one output folder with its provenance, its events and all that is made from it; files whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from portrayal.config import Config, Trial
from portrayal.errors import RunConflictError, UsageError, nearest
from portrayal.files import UNFINISHED, append_line
from portrayal.files import atomic_folder as atomic_folder
from portrayal.files import atomic_path as atomic_path
from portrayal.files import write_bytes as write_bytes
from portrayal.files import write_json as write_json
from portrayal.files import write_text as write_text
from portrayal.limits import bounded_json, bounded_text, bounded_toml, on_disk
from portrayal.lock import NAME as LOCK
from portrayal.settings import validate, with_one_rate

PACKAGES = ("portrayal", "torch", "diffusers", "transformers", "peft", "accelerate")

ROUNDS = "rounds.json"
"""In `models`: the trainings of each round of a study."""
DIVERGED = "diverged.json"
"""What a training that could not go on leaves in the place of its model."""

Progress = Callable[["Event"], None]


@dataclass(frozen=True)
class Event:
    """One thing that happened: a stage started, moved on, finished, was skipped, or has something to say."""

    stage: str
    """`prepare`, `class_images`, `train.lora-64`, `generate.unet`, …"""

    kind: str
    """`started`, `progress`, `finished`, `skipped` or `note`."""

    done: int = 0
    total: int = 0
    message: str = ""
    """What a person should read."""


def cache_folder() -> Path:
    """Where files that outlive a run lie: `$PORTRAYAL_CACHE`, or `portrayal` in the user's cache folder."""
    given = os.environ.get("PORTRAYAL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given).expanduser() if given else Path(base) / "portrayal"


def fingerprint(value: object) -> str:
    """Sixteen hex digits that change when the JSON form of the value does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Run:
    """One output folder.

    Attributes:
        folder: The folder.
        config: What the run is a function of, besides the photos.
    """

    folder: Path
    config: Config

    @classmethod
    def create(cls, folder: Path, config: Config, provenance: Mapping[str, object]) -> Run:
        """Start a run in a new or empty folder, or go on with the same run.

        Raises:
            RunConflictError: If the folder holds another run, or files that are no run.
        """
        if (folder / "run.json").is_file():
            run = cls.open(folder)
            run.check_same(config, provenance)
            return run
        if folder.is_file() or (folder.is_dir() and not unused(folder, config)):
            raise RunConflictError(
                f"{folder} is not empty and is no run of Portrayal.", "Choose another folder with --out."
            )
        run = cls(folder, config)
        machine = {"system": platform.platform(), "cpus": os.cpu_count()}
        record = {"schema": 1, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": command_line()}
        record |= {"versions": versions(), "machine": machine, "seed": config.seed, **provenance}
        existed = folder.is_dir()
        try:
            write_text(folder / "config.toml", config.to_toml())
            write_json(folder / "run.json", record)  # last: a folder without it is no run
        except BaseException:
            with suppress(OSError):
                (folder / "config.toml").unlink()
            if not existed:
                with suppress(OSError):
                    folder.rmdir()
            raise
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open an existing run.

        Raises:
            UsageError: If the folder holds none, or its files are damaged.
        """
        if on_disk(folder / "run.json") != "file":
            beside = folder.parent.glob("*/run.json") if on_disk(folder.parent) == "folder" else ()
            names = [path.parent.name for path in beside]
            raise UsageError(
                f"{folder} holds no run.", nearest(folder.name, names) or "Start one: portrayal run PHOTOS"
            )
        try:
            values = bounded_toml(bounded_text(folder / "config.toml"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{folder / 'config.toml'} cannot be read: {error}.", "Start anew in another folder."
            ) from error
        return cls(folder, validate(with_one_rate(values)))

    @property
    def rounds(self) -> list[list[str]]:
        """Names of the trainings of each round of the study, as far as it has got: see `stages.rounds`."""
        path = self.folder / "models" / ROUNDS
        later = json.loads(path.read_text(encoding="utf-8"))["rounds"] if path.is_file() else []
        return [self.config.first_round, *later]

    @property
    def trials(self) -> dict[str, Trial]:
        """The trainings of the study by name, those of its rounds so far, in the config's order."""
        planned = {name for chosen in self.rounds for name in chosen}
        return {name: trial for name, trial in self.config.trials.items() if name in planned}

    @property
    def rounds_ended(self) -> bool:
        """Whether no further round follows."""
        if len(self.config.first_round) == len(self.config.trials):
            return True
        path = self.folder / "models" / ROUNDS
        return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8"))["ended"])

    def record_round(self, names: Sequence[str]) -> None:
        """Record the trainings of the next round; none means that the study has ended."""
        later = [*self.rounds[1:], *([list(names)] if names else [])]
        write_json(self.folder / "models" / ROUNDS, {"rounds": later, "ended": not names})

    def check_same(self, config: Config, provenance: Mapping[str, object]) -> None:
        """Refuse to go on with other settings, another base or other photos than the run was started with."""
        differing = differing_keys(self.config.model_dump(mode="json"), config.model_dump(mode="json"))
        recorded = self.provenance
        differing += [key for key in ("base", "photos") if key in provenance and recorded.get(key) != provenance[key]]
        if differing:
            raise RunConflictError(
                f"{self.folder} holds another run; these differ: {', '.join(differing)}.",
                f"Choose another folder, such as --out {free_folder(self.folder)}, or repeat this run's command.",
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """What `run.json` records: command, versions, machine, base, photo ids, consent."""
        path = self.folder / "run.json"
        try:
            return dict(bounded_json(bounded_text(path)))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path} cannot be read: {error}.", "Start anew in another folder.") from error

    @property
    def base_hash(self) -> str:
        """SHA-256 of the base's weights; empty where none is recorded."""
        if not (self.folder / "run.json").is_file():
            return ""
        return str(self.provenance.get("base", {}).get("sha256", ""))

    def record(self, **values: object) -> None:
        """Add to `run.json`."""
        write_json(self.folder / "run.json", self.provenance | values)

    @property
    def dataset_folder(self) -> Path:
        """Where the PreparedDataset lies."""
        return self.folder / "dataset"

    def model_folder(self, name: str) -> Path:
        """Where a model's weights, settings and training record lie."""
        return self.folder / "models" / name

    def has_diverged(self, name: str) -> bool:
        """Whether a training could not go on, and left nothing to generate with."""
        folder = self.model_folder(name)
        return (folder / DIVERGED).is_file() and not (folder / "method.json").is_file()

    def image_path(self, model: str, scene: str, number: int) -> Path:
        """Where a picture of a scene lies."""
        return self.folder / "images" / model / scene / f"{number}.png"

    def finished(self, stage: str, inputs: object) -> bool:
        """Whether a stage has been finished with these inputs."""
        path = self.folder / "stages" / f"{stage}.json"
        return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("inputs") == fingerprint(inputs)

    def mark_finished(self, stage: str, inputs: object, seconds: float) -> None:
        """Remember that a stage has been finished with these inputs."""
        write_json(
            self.folder / "stages" / f"{stage}.json", {"inputs": fingerprint(inputs), "seconds": round(seconds, 2)}
        )

    def log(self, event: Event) -> None:
        """Append an event to `events.jsonl`."""
        record = {"time": round(time.time(), 3), **{key: value for key, value in vars(event).items() if value != ""}}
        append_line(self.folder / "events.jsonl", json.dumps(record))


def unused(folder: Path, config: Config) -> bool:
    """Whether a folder is empty, but for what a run with these settings leaves that was killed as it was begun."""
    for path in folder.iterdir():
        own = path.name == "config.toml" and path.read_bytes() == config.to_toml().encode()
        if not own and path.name != LOCK and not UNFINISHED.fullmatch(path.name):
            return False
    return True


def command_line() -> str:
    """The command as typed, with the program's name instead of its path."""
    name = Path(sys.argv[0]).name
    return shlex.join(["portrayal" if name == "__main__.py" else name, *sys.argv[1:]])


def differing_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Paths of the settings in which two configs differ."""
    paths: list[str] = []
    for key in {**ours, **theirs}:
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            paths += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            paths.append(f"{prefix}{key}")
    return paths


def free_folder(folder: Path) -> Path:
    """The first of `folder-2`, `folder-3`, … that does not exist."""
    number = 2
    while folder.with_name(f"{folder.name}-{number}").exists():
        number += 1
    return folder.with_name(f"{folder.name}-{number}")
