"""What became of a study: done or failed, how long it took, and of its run what a summary over subjects needs."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from portrayal.errors import PortrayalError

Json = dict[str, Any]
THUMBNAIL = 160
LOST = "lost"
"""The code of a study whose process was lost more often than it is tried again."""


@dataclass(frozen=True)
class Outcome:
    """What became of a study.

    Attributes:
        name: The study's.
        seconds: It took, this time.
        error: `code`, `message` and `fix` of a study that failed; nothing when it is done.
        digest: Of its run; see :func:`digest`.
        tries: How often it was begun: more than once where a process or machine was lost.
        before: Whether it was done before this batch began.
    """

    name: str
    seconds: float = 0.0
    error: Json | None = None
    digest: Json = field(default_factory=dict)
    tries: int = 1
    before: bool = False

    @property
    def done(self) -> bool:
        """Whether the run is whole."""
        return self.error is None

    def as_json(self) -> Json:
        """The outcome as a file keeps it."""
        return asdict(self)


def failure(name: str, error: PortrayalError, seconds: float = 0.0) -> Outcome:
    """A study that failed with one of our errors."""
    said = {"code": error.exit_code, "message": error.cause, "fix": error.remedy}
    return Outcome(name, round(seconds, 1), said)


def lost(name: str, tries: int, why: str, seconds: float = 0.0) -> Outcome:
    """A study whose process was lost again and again."""
    fix = "The same command goes on from its last checkpoint."
    return Outcome(name, round(seconds, 1), {"code": LOST, "message": why, "fix": fix}, tries=tries)


def finished(folder: Path) -> bool:
    """Whether a folder holds a run that came to its end."""
    return all((folder / name).is_file() for name in ("run.json", "scores.json", "stages/report.json", "report.html"))


def digest(folder: Path) -> Json:
    """Of a finished run: scores of each model, the verdict, a photo and a picture, small."""
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    models = {
        model["name"]: {
            "identity": (model["identity"] or {}).get("mean"),
            "normalised": model["identity_normalised"],
            "prompt": (model["prompt"] or {}).get("mean"),
            "gain": model["heldout_gain"]["mean"],
            "step": model.get("step"),
        }
        for model in scores["models"]
    }
    verdict = {key: scores["verdict"][key] for key in ("recommended", "winner", "best_lora", "sentence")}
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    recipe = recipe_of(folder)
    return {
        "models": models,
        "verdict": verdict,
        "class_noun": scores["class_noun"],
        "photos": len(record["photos"]),
        "recipe": recipe,
        "pictures": thumbnails(folder, verdict["recommended"]),
    }


def recipe_of(folder: Path) -> str:
    """Name of the recipe that a run's settings started from."""
    import tomllib

    return str(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")).get("recipe", ""))


def thumbnails(folder: Path, model: str | None) -> list[str]:
    """A photo, and a picture of the first scene by the recommended model: small, as data of an `<img>`."""
    photo = next(iter(sorted((folder / "dataset" / "images").glob("*.png"))), None)
    painters = [name for name in ("final", model) if name]
    painted = [next(iter(sorted((folder / "images" / name).rglob("0.png"))), None) for name in painters]
    return [thumbnail(path) for path in (photo, next(filter(None, painted), None)) if path]


def thumbnail(path: Path) -> str:
    """A small square of a picture as a `data:` address."""
    with Image.open(path) as image:
        small = ImageOps.fit(image.convert("RGB"), (THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    small.save(content, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")
