"""Paint a picture again from what it tells of itself, or one like it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from portrayal.errors import UsageError
from portrayal.run import Event, Progress, Run
from portrayal.stages.paint import paint, paint_base, paintable, quoted
from portrayal.stages.shared import silent

LORA_PLACES = (".", "exports", "loras", "models")


def paint_like(
    picture: Path,
    run: Run | None = None,
    *,
    prompts: Sequence[str] = (),
    models: Sequence[str] = (),
    count: int = 1,
    seed: int | None = None,
    base: str | None = None,
    out: Path | None = None,
    loras: Sequence[str] = (),
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> list[Path]:
    """Paint with the settings that are inside a picture; what is given besides takes the place of its own.

    Args:
        picture: A PNG painted by Portrayal.
        run: The run whose models paint; nothing means the one the picture lies in, or none if the base painted it.
        prompts: Instead of its prompt.
        models: Instead of its model.
        count: Pictures, from its seed on.
        seed: Instead of its seed.
        base: Instead of its base, where there is no run.
        out: Folder of the pictures, where there is no run; nothing means beside the picture.
        loras: Instead of its LoRA files; where none are given, its own are looked for beside it and in the run.
        overrides: `generation.…` and `control.…` settings.
        progress: Called with every event; what has changed since the picture was painted comes as notes.

    Raises:
        UsageError: If the picture tells nothing, a model, LoRA or control image of it is not found, or a base or a
            folder is given where there is a run.
        WeightsError: If the base or a ControlNet cannot be had.
    """
    told = settings_of(picture)
    run = run or run_around(picture)
    if run is not None and (base is not None or out is not None):
        raise UsageError(
            f"{picture} is painted again with the base of the run {run.folder}, and into it.",
            "Leave --base and --out out.",
        )
    places = [Path.cwd(), picture.parent, *([run.folder] if run else [])]
    controls = [control_image_of(control, picture, run) for control in told["controls"]]
    ready = ["control.ready_made=true"] if controls else []
    options: dict[str, Any] = {
        "count": count,
        "seed": told["seed"] if seed is None else seed,
        "controls": controls,
        "control_kinds": [
            f"{one['kind']}:{one['scale']:.6f}:{one['start']:.6f}-{one['end']:.6f}" for one in told["controls"]
        ],
        "loras": list(loras) or [found_lora(one, places) for one in told["loras"] if not one["own"]],
        "overrides": [*painting_overrides(told), *ready, *overrides],
        "progress": progress,
    }
    prompts = list(prompts) or [told["prompt"]]
    if run is None:
        if models and list(models) != ["base"]:
            raise UsageError(f"{models[0]} is a model of a run.", "Give the run's folder before --like.")
        if told["model"] != "base" and not models:
            raise UsageError(
                f"{picture} was painted by {told['model']} of a run.", "Give the run's folder before --like."
            )
        return paint_base(prompts, out or picture.parent, base=base or told["base"], **options)
    chosen = list(models) or [told["model"]]
    if chosen[0] not in paintable(run):
        raise UsageError(f"{picture} was painted by {chosen[0]!r}, which {run.folder} does not have.", "Add --model.")
    if run.base_hash and told["base_hash"] and run.base_hash != told["base_hash"]:
        note = f"{run.folder} has another base than painted {picture.name}"
        progress(Event("paint", "note", message=note))
    return paint(run, prompts, chosen, **options)


def settings_of(picture: Path) -> dict[str, Any]:
    """What a picture tells of how it was painted.

    Raises:
        UsageError: If it tells nothing, or not enough.
    """
    from portrayal.formats.png import read_settings
    from portrayal.generation.pictures import PAINTING

    told = read_settings(picture)
    wanted = {"prompt": str, "seed": int, "model": str, "base": str, "base_hash": str, "loras": list, "controls": list}
    wanted |= {"width": int, "height": int}
    if (
        told is None
        or not all(isinstance(told.get(key), kind) for key, kind in wanted.items())
        or not all(key in told for key in PAINTING)
        or not all(isinstance(one, dict) and {"name", "hash", "strength", "own"} <= one.keys() for one in told["loras"])
        or not all(isinstance(one, dict) and one.keys() >= CONTROL_KEYS for one in told["controls"])
        or not all(isinstance(one[key], int | float) for one in told["controls"] for key in ("scale", "start", "end"))
    ):
        raise UsageError(
            f"{picture} does not tell how it was painted.", "Give a PNG that Portrayal painted, as it was written."
        )
    return told


CONTROL_KEYS = {"kind", "scale", "start", "end", "image"}


def painting_overrides(told: dict[str, Any]) -> list[str]:
    """The settings of a picture as `key=value` texts."""
    from portrayal.generation.pictures import PAINTING

    values = {key: told[key] for key in (*PAINTING, "width", "height")}
    return [f"generation.{key}={quoted(value) if isinstance(value, str) else value}" for key, value in values.items()]


def run_around(picture: Path) -> Run | None:
    """The run a picture lies in."""
    for folder in picture.resolve().parents:
        if (folder / "run.json").is_file():
            return Run.open(folder)
    return None


def control_image_of(control: dict[str, Any], picture: Path, run: Run | None) -> Path:
    """The control image that a picture was held to, kept beside it or in its run.

    Raises:
        UsageError: If it is nowhere.
    """
    from PIL import Image

    from portrayal.generation.pictures import image_hash

    folders = [picture.parent / "controls", picture.parent.parent / "controls"]
    found = [folder / f"{str(control['image'])[:16]}.png" for folder in folders]
    found += sorted((run.folder / "images" / "control").glob("*/control.png")) if run else []
    found += [run.folder / "pictures" / "controls" / found[0].name] if run else []
    for path in found:
        if path.is_file():
            with Image.open(path) as image:
                if image_hash(image) == control["image"]:
                    return path
    raise UsageError(
        f"The {control['kind']} control image of {picture} is not where pictures keep theirs.",
        "Give the run's folder before --like.",
    )


def found_lora(lora: dict[str, Any], places: Sequence[Path]) -> str:
    """`FILE:STRENGTH` of a LoRA that a picture names.

    Raises:
        UsageError: If no file of that name, or none with its weights, is found.
    """
    from portrayal.models.lora_files import LoraFile

    name = Path(str(lora["name"])).name
    for place in places:
        for inner in LORA_PLACES:
            for path in (
                place / inner / f"{name}.safetensors",
                place / inner / name / "pytorch_lora_weights.safetensors",
            ):
                if path.is_file() and LoraFile(path).hash == lora["hash"]:
                    return f"{path}:{lora['strength']}"
    raise UsageError(
        f"The LoRA {name} (hash {str(lora['hash'])[:12]}) was not found beside the picture or in its run.",
        f"Give its file: --lora {name}.safetensors:{lora['strength']:g}",
    )
