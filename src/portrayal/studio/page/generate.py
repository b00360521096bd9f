"""The seventh screen: paint anything with the models, held to a picture if wanted; a gallery that knows how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from portrayal import UsageError, read_settings
from portrayal.studio.controls import accept_control
from portrayal.studio.desk import control_seen
from portrayal.studio.files import below
from portrayal.studio.forms import fields
from portrayal.studio.jobs import Failure
from portrayal.studio.page.asked import Action, Asked, Outcome, Values, Wrong, number
from portrayal.studio.page.models import models_of
from portrayal.studio.page.uploaded import uploaded
from portrayal.studio.projects import Project
from portrayal.studio.watch import run_of
from portrayal.studio.worker import ensure_worker

KINDS = ("canny", "openpose", "depth", "softedge")
OF_POCKET = ("canny", "openpose")
"""Kinds of control that the embedded base has a ControlNet for."""

NEWEST = 60
"""Pictures in the gallery."""


@dataclass(frozen=True)
class Shown:
    """One picture of the gallery, with all it was made with."""

    id: str
    name: str
    small: str
    large: str
    file: str
    prompt: str
    model: str
    seed: str
    rows: tuple[tuple[str, str], ...]


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    models, run, job = models_of(asked.mine), run_of(asked.mine), asked.job("paint")
    if run is None or not models:
        return {"models": []}
    painting, kinds = run.config.generation, OF_POCKET if run.config.base.name == "pocket" else KINDS
    form = form_of(models, painting, kinds) | {
        key: value for key, value in outcome.values.items() if isinstance(value, str)
    }
    working = job is not None and not job.ended
    control, painted = control_view(asked, form), newest(asked)
    return {
        "models": ["base", *models],
        "scenes": [(name.replace("_", " "), prompt) for name, prompt in painting.scenes.items()],
        "form": form,
        "control": control,
        "control_kinds": kinds,
        "samplers": next(one.choices for one in fields(None) if one.key == "generation.sampler"),
        "pictures": [shown(asked, path) for path in (painted or scenes(asked, models[0]))],
        "painted": bool(painted),
        "working": working_text(asked) if working else "",
        "failed": job.error if job and job.state == "failed" else None,
        "poll": 1000 if working else 700 if control and not (control["seen"] or control["error"]) else 0,
    }


def form_of(models: list[str], painting: Any, kinds: tuple[str, ...]) -> dict[str, str]:
    """What the form holds at first: the run's own settings."""
    return {
        "prompts": "",
        "model": models[0],
        "count": "4",
        "strength": "1",
        "seed": "0",
        "negative": painting.negative_prompt,
        "steps": str(painting.num_inference_steps),
        "guidance": f"{painting.guidance_scale:g}",
        "sampler": painting.sampler,
        "control": "",
        "control_kind": kinds[0],
        "control_scale": "1",
    }


def working_text(asked: Asked) -> str:
    """What is said of a job that paints, or waits."""
    job = asked.job("paint")
    assert job is not None
    if job.state == "queued":
        return asked.t("generate.waiting")
    count = int(job.arguments.get("count", 1)) * len(job.arguments.get("prompts", ()))
    return asked.t("generate.painting", n=count)


def control_view(asked: Asked, form: Mapping[str, str]) -> dict[str, str] | None:
    """The picture that others are held to and what the model will see of it; nothing without one."""
    name, kind = form["control"], form["control_kind"]
    if not name:
        return None
    given = asked.picture(control_path(asked.mine, name), 512)
    seen = control_seen(asked.mine, name, kind)
    shown = asked.picture(seen, 512) if isinstance(seen, Path) else ""
    return {"name": name, "given": given, "seen": shown, "error": seen.message if isinstance(seen, Failure) else ""}


def control_path(project: Project, name: str) -> Path:
    """Where a picture that was handed in is kept.

    Raises:
        UsageError: If there is no such picture.
    """
    path = below(project.folder / "controls", name)
    if path.suffix != ".png" or not path.is_file():
        raise UsageError("There is no such picture to hold to.", "Choose it again.")
    return path


def newest(asked: Asked) -> list[Path]:
    """The pictures that were painted to order, the newest first."""
    folder = asked.mine.run_folder / "pictures"
    found = [
        path for path in folder.glob("*/*.png") if path.parent.name != "controls" and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)[:NEWEST]


def scenes(asked: Asked, model: str) -> list[Path]:
    """The scenes of the study by a model: what there is to see before anything was ordered."""
    return sorted((asked.mine.run_folder / "images" / model).glob("*/0.png"))


@lru_cache(maxsize=1024)
def told(path: Path, _: int) -> Mapping[str, Any]:
    """What a picture tells of how it was made, read again when the file changes."""
    return read_settings(path) or {}


def shown(asked: Asked, path: Path) -> Shown:
    """One picture with its settings."""
    t, made = asked.t, told(path, path.stat().st_mtime_ns)
    model = asked.model(str(made.get("model", "")) or path.parent.name)
    rows = [
        (t("generate.prompt_row"), made.get("prompt")),
        (t("generate.negative"), made.get("negative_prompt")),
        (t("generate.model"), model),
        (t("generate.strength"), made.get("lora_strength")),
        (t("generate.seed"), made.get("seed")),
        (t("generate.steps"), made.get("num_inference_steps")),
        (t("generate.sampler"), made.get("sampler")),
        (t("generate.guidance"), made.get("guidance_scale")),
        (t("generate.size"), f"{made.get('width')} × {made.get('height')}"),
        *((t("generate.control_row"), f"{one.get('kind')} {one.get('scale'):g}") for one in made.get("controls", ())),
    ]
    return Shown(
        "-".join(path.relative_to(asked.mine.run_folder).with_suffix("").parts).replace(".", "-"),
        path.relative_to(asked.mine.run_folder).as_posix(),
        asked.picture(path, 384),
        asked.picture(path, 1024),
        asked.file(path),
        str(made.get("prompt", "")),
        model,
        str(made.get("seed", "")),
        tuple((name, str(value)) for name, value in rows if value not in (None, "")),
    )


def typed(values: Values) -> dict[str, str]:
    """What stands in the form, to be shown again."""
    names = ("prompts", "model", "count", "strength", "seed", "negative", "steps", "guidance", "sampler")
    return {name: str(values[name]) for name in (*names, "control", "control_kind", "control_scale") if name in values}


def paint(asked: Asked, values: Values) -> Outcome:
    """Have pictures painted."""
    prompts = [line.strip() for line in str(values.get("prompts", "")).splitlines() if line.strip()]
    if not prompts:
        return Outcome(wrong=Wrong(asked.t("generate.no_prompt")), values=typed(values))
    arguments: dict[str, Any] = {
        "prompts": prompts,
        "models": [str(values.get("model", ""))],
        "count": number(values, "count", 4),
        "seed": number(values, "seed", 0),
        "strength": number(values, "strength", 1.0),
        "settings": {
            "generation.negative_prompt": str(values.get("negative", "")),
            "generation.num_inference_steps": number(values, "steps", 25),
            "generation.guidance_scale": number(values, "guidance", 7.5),
            **({"generation.sampler": str(values["sampler"])} if values.get("sampler") else {}),
        },
    }
    if values.get("control"):
        path = control_path(asked.mine, str(values["control"]))
        arguments["controls"] = [path.relative_to(asked.mine.folder).as_posix()]
        kind, scale = str(values.get("control_kind", KINDS[0])), number(values, "control_scale", 1.0)
        arguments["control_kinds"] = [f"{kind}:{scale:g}"]
    asked.queue.submit(asked.mine, "paint", arguments)
    ensure_worker(asked.queue.root, asked.queue.recipe)
    return Outcome(values=typed(values))


def control(asked: Asked, values: Values) -> Outcome:
    """Take a picture that others are to be held to."""
    with uploaded(values) as files:
        name = accept_control(asked.mine, files[0], files[0].name)
    return Outcome(values=typed(values) | {"control": name})


def look(asked: Asked, values: Values) -> Outcome:
    """Show what the model will see of the picture, of another kind."""
    return Outcome(values=typed(values))


def uncontrol(asked: Asked, values: Values) -> Outcome:
    """Paint without a picture to hold to."""
    return Outcome(values=typed(values) | {"control": ""})


def use(asked: Asked, values: Values) -> Outcome:
    """Fill the form with what a picture was made with."""
    name = str(values.get("picture", ""))
    shown_now = [*newest(asked), *(path for model in models_of(asked.mine)[:1] for path in scenes(asked, model))]
    path = next((one for one in shown_now if one.relative_to(asked.mine.run_folder).as_posix() == name), None)
    made = told(path, path.stat().st_mtime_ns) if path else {}
    keys = {"prompts": "prompt", "model": "model", "seed": "seed", "strength": "lora_strength", "sampler": "sampler"}
    keys |= {"negative": "negative_prompt", "steps": "num_inference_steps", "guidance": "guidance_scale"}
    found = {
        field: f"{made[key]:g}" if isinstance(made[key], float) else str(made[key])
        for field, key in keys.items()
        if key in made
    }
    return Outcome(values=found | {"count": "1"}, refill=True)


ACTIONS: dict[str, Action] = {
    "paint": paint,
    "control": control,
    "look": look,
    "uncontrol": uncontrol,
    "use": use,
}
