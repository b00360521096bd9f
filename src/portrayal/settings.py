"""From recipes and `section.key=value` texts to a config, with every mistake named beside what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from portrayal.config import ORIGINAL_SCENES, Config, Section
from portrayal.errors import UsageError, known, nearest
from portrayal.limits import bounded_text, bounded_toml, on_disk

LARGEST_SETTINGS = 1 << 18
"""Bytes of a settings file."""
SCENES = "scenes"
"""The file beside the recipes that lists the scenes."""

EFFORTS = {
    "quick": (
        "study.learning_rates=[1.0]",
        "study.folds=1",
        "study.unet_folds=1",
        "study.seeds=1",
        "study.readings=3",
        "study.final=false",
    ),
    "balanced": (),
    "thorough": ("study.folds=5", "study.unet_folds=5", "study.seeds=3", "study.max_trainings=45"),
}


def effort_settings(effort: str) -> list[str]:
    """How large a study is, as `section.key=value` texts: `quick`, `balanced` (as the settings are) or `thorough`.

    Raises:
        UsageError: If it is none of these.
    """
    if effort not in EFFORTS:
        raise UsageError(f"There is no effort {effort!r}; {nearest(effort, EFFORTS) or known(EFFORTS)}")
    return [*EFFORTS[effort]]


def recipe_folder() -> Path:
    """Where the recipes lie: in the installed package, or at the top of a checkout."""
    packaged = Path(__file__).parent / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml") if path.stem != SCENES)


def load_config(recipe: str | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe and change single settings.

    Args:
        recipe: Name of a shipped recipe, path of a TOML file, or nothing for the defaults.
        overrides: `section.key=value` texts; the value is read as TOML, or taken as a string.

    Raises:
        UsageError: If there is no such recipe, or a key or value cannot be meant.
    """
    values: dict[str, Any] = read_recipe(recipe) if recipe else {}
    if recipe:
        values.setdefault("recipe", recipe)
    with_scenes(values)
    for text in overrides:
        if text.startswith("generation.scenes."):  # one scene more, or another prompt for one: the others stay
            values.setdefault("generation", {}).setdefault("scenes", dict(ORIGINAL_SCENES))
        set_value(values, text)
        with_scenes(values)
    return validate(values)


def with_scenes(values: dict[str, Any]) -> None:
    """Put the scenes of a file in the place of its name.

    Raises:
        UsageError: If there is no such file, or it is no TOML.
    """
    generation = values.get("generation")
    if isinstance(generation, dict) and isinstance(generation.get("scenes"), str):
        generation["scenes"] = read_scenes(generation["scenes"])


def read_scenes(name: str) -> Any:
    """The scenes of a TOML file, by path or by shipped name: pairs of name and prompt, on their own or as `scenes`."""
    shipped = recipe_folder() / f"{name}.toml"
    path = shipped if name == SCENES and shipped.is_file() else Path(name).expanduser()
    if on_disk(path) != "file":
        raise UsageError(
            f"generation.scenes: there is no file {name!r}.", "Give a TOML file of scenes; recipes/scenes.toml is one."
        )
    values = read_toml(path)
    return values.get("scenes", values)


def read_recipe(recipe: str) -> dict[str, Any]:
    """The raw values of a recipe, by shipped name or by path."""
    shipped = recipe_folder() / f"{recipe}.toml"
    path = shipped if on_disk(shipped) == "file" else Path(recipe)
    if on_disk(path) != "file":
        raise UsageError(f"There is no recipe {recipe!r}.", nearest(recipe, recipe_names()) or known(recipe_names()))
    return read_toml(path)


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file."""
    try:
        return bounded_toml(bounded_text(path, LARGEST_SETTINGS))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", "Mend that line and try again.") from error


def set_value(values: dict[str, Any], text: str) -> None:
    """Apply one `section.key=value` to nested values, in place."""
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} is not of the form section.key=value.", "For example: --set seed=7")
    *sections, last = key.strip().split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {text!r}: {section} is a value, not a section.")
        values = inner
    values[last] = parse_value(raw.strip())


def parse_value(raw: str) -> Any:
    """A TOML value, or the text itself when it is none."""
    try:
        read = bounded_toml(f"value = {raw}")
    except ValueError:
        return raw
    return read["value"] if len(read) == 1 else raw  # a text of several lines may look like several settings


def validate(values: Mapping[str, Any]) -> Config:
    """Build the config, or say for each wrong key or value what is wrong with it."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        # Of a list whose items are wrong, pydantic also says that it is too short.
        wrong = {problem["loc"][:-1] for problem in error.errors()}
        told = [one for one in error.errors() if not (one["type"] == "too_short" and one["loc"] in wrong)]
        lines = [explain(dict(problem)) for problem in told]
        raise UsageError("\n".join(lines), "See `portrayal run --help` and the recipes for what can be set.") from error


def with_one_rate(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run, one from before studies had several learning rates as it was meant then."""
    study = values.get("study")
    if not isinstance(study, dict) or "learning_rates" in study:
        return values
    study = study | {"learning_rates": [1.0]}
    method = values.get("method")
    lora = method.get("lora") if isinstance(method, dict) else None
    if study.get("lora_scale") == "equal" and isinstance(lora, dict) and "alpha" in lora:
        study["lora_scale"] = "constant"
    return values | {"study": study}


def explain(problem: Mapping[str, Any]) -> str:
    """One line for one problem that pydantic found: the key's path, what is wrong, the nearest name."""
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *sections, key = (str(part) for part in problem["loc"])
        section = section_at(sections)
        return f"{path}: unknown key; {nearest(key, section.model_fields) or known(section.model_fields)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{path}: {message} (got {problem['input']!r})" if path else message


def section_at(path: Iterable[str]) -> type[Section]:
    """The section class at a path of keys."""
    section: type[Section] = Config
    for key in path:
        annotation = section.model_fields[key].annotation if key in section.model_fields else None
        candidates = [annotation, *get_args(annotation)]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), section)
    return section
