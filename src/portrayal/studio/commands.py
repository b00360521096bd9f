"""From a job to the command that does it: `python -m portrayal …`, as a person would type it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal import UsageError
from portrayal.studio.files import below

if TYPE_CHECKING:
    from portrayal.studio.jobs import Job
    from portrayal.studio.projects import Project

MOST_PICTURES = 64
"""Of one job."""

LONGEST_PROMPT = 2000
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
FORM = re.compile(r"[a-z][a-z-]*")
CONTROL_KIND = re.compile(r"[a-z]+(:[0-9.]+)?(:[0-9.]+-[0-9.]+)?")
PAINT = frozenset({"prompts", "models", "count", "seed", "controls", "control_kinds", "settings", "strength"})
EXPORT = frozenset({"forms", "models", "precision", "strength", "rank"})


def command(project: Project, job: Job) -> list[str]:
    """The arguments of `portrayal` that do a job.

    Args:
        project: Its project.
        job: Of kind `run` or `report`, without arguments; or `paint`: `prompts` (texts), `models`, `count` (of each
            prompt), `seed`, `controls` (files below the project's folder), `control_kinds`, `strength` (of the LoRA),
            `settings` (by dotted key, of `generation` and `control`); or `export`: `forms`, `models`, `precision`,
            `strength`, `rank`.

    Raises:
        UsageError: If an argument cannot be meant, consent was not stated, or there is no run to work on.
    """
    match job.kind:
        case "run":
            return run_command(project)
        case "report":
            return ["report", str(started(project)), "--json"]
        case "paint":
            return paint_command(project, known(job.arguments, PAINT))
        case "export":
            return export_command(project, known(job.arguments, EXPORT))


def run_command(project: Project) -> list[str]:
    """The whole job, or what is left of it."""
    if project.made_by_command:
        raise UsageError(
            f"{project.name} was started by a command, and goes on by it: its photos are not here.",
            "Repeat that command; it is in run.json.",
        )
    choices = project.choices
    if not project.photos:
        raise UsageError(f"{project.name} has no photos yet.", "Add ten to twenty.")
    if not choices.consent:
        raise UsageError("Nobody is trained on without their consent.", "Say that the person agreed; ask them first.")
    recipe = [f"--recipe={project.recipe}"] if project.recipe else []
    settings = [f"--set={text}" for text in project.settings]
    where = [str(project.photos_folder), f"--out={project.run_folder}"]
    return ["run", *where, *recipe, *settings, "--consent", "--live", "--json"]


def paint_command(project: Project, asked: Mapping[str, Any]) -> list[str]:
    """Painting with models of the run."""
    from portrayal.studio.projects import as_toml

    prompts, count = texts(asked, "prompts", None), number(asked, "count", 4)
    if not prompts or any(not prompt.strip() or len(prompt) > LONGEST_PROMPT for prompt in prompts):
        raise UsageError(f"Say what to paint, in 1 to {LONGEST_PROMPT} letters.")
    models = texts(asked, "models", MODEL_NAME)
    if not 1 <= count * len(prompts) * max(1, len(models)) <= MOST_PICTURES:
        raise UsageError(f"One order paints 1 to {MOST_PICTURES} pictures.", "Ask for fewer at once.")
    settings = dict(asked.get("settings") or {})
    if any(key.split(".")[0] not in ("generation", "control") or key in PATH_SETTINGS for key in settings):
        raise UsageError("Painting takes settings of generation and control only.")
    if asked.get("strength") is not None:
        settings["generation.lora_strength"] = float(asked["strength"])
    controls = [below(project.folder, text) for text in texts(asked, "controls", None)]
    if missing := [path for path in controls if not path.is_file()]:
        raise UsageError(f"There is no picture {missing[0].name} in this project.")
    return [
        "generate",
        str(started(project)),
        *(f"--prompt={prompt}" for prompt in prompts),
        *(f"--model={name}" for name in models),
        f"--count={count}",
        f"--seed={number(asked, 'seed', 0)}",
        *(f"--control={path}" for path in controls),
        *(f"--control-kind={kind}" for kind in texts(asked, "control_kinds", CONTROL_KIND)),
        *(f"--set={key}={as_toml(value)}" for key, value in settings.items()),
        "--json",
    ]


PATH_SETTINGS = frozenset({"control.reference", "control.controlnet"})
"""Settings of painting that may be paths of the machine's disk: a web page gives none."""


def export_command(project: Project, asked: Mapping[str, Any]) -> list[str]:
    """Files for other tools."""
    forms = texts(asked, "forms", FORM) or ["diffusers", "kohya", "single-file"]
    precision = texts({"precision": [asked["precision"]] if asked.get("precision") else []}, "precision", FORM_OR_BITS)
    return [
        "export",
        str(started(project)),
        f"--to={','.join(forms)}",
        *(f"--model={name}" for name in texts(asked, "models", MODEL_NAME)),
        *(f"--precision={one}" for one in precision),
        *([f"--strength={float(asked['strength'])}"] if asked.get("strength") is not None else []),
        *([f"--rank={number(asked, 'rank', 1)}"] if asked.get("rank") else []),
        "--json",
    ]


FORM_OR_BITS = re.compile(r"[a-z]+[0-9]+")


def started(project: Project) -> Path:
    """The folder of a project's run, which is there."""
    if not project.started:
        raise UsageError(f"{project.name} has no run yet.", "Start it first.")
    return project.run_folder


def known(arguments: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    """The arguments, if all have one of the names."""
    if unknown := sorted(set(arguments) - names):
        raise UsageError(f"There is no argument {unknown[0]!r} of such a job.")
    return arguments


def texts(asked: Mapping[str, Any], key: str, form: re.Pattern[str] | None) -> list[str]:
    """Texts under a key, each of a form; none where nothing is said."""
    value: Sequence[Any] = asked.get(key) or ()
    if isinstance(value, str) or not all(isinstance(one, str) and "\0" not in one for one in value):
        raise UsageError(f"{key}: give a list of texts.")
    if form and (wrong := [one for one in value if not form.fullmatch(one)]):
        raise UsageError(f"{key}: {wrong[0]!r} cannot be meant.")
    return list(value)


def number(asked: Mapping[str, Any], key: str, default: int) -> int:
    """A whole number under a key, not negative."""
    value = asked.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 0:
        raise UsageError(f"{key}: give a whole number, not {value!r}.")
    return int(value)
