"""The form of all settings, made from the config's schema, and the plan that follows from what was chosen."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from portrayal import Config, PortrayalError, UsageError, load_config
from portrayal.studio.projects import Project, as_toml

Kind = Literal["text", "whole", "number", "yes", "choice", "choices", "list", "table"]

HIDDEN = frozenset(
    {"recipe", "control.reference", "control.ready_made", "prepare.drop", "prepare.keep", "prepare.crop"}
    | {"method.lora.rank"}
)
"""Settings that have places of their own on the page, that only a file of this machine can be meant by, or that a study
gives each LoRA itself."""

SOURCES = frozenset(
    {"base.name", "base.config", "base.vae", "evaluation.identity", "control.controlnet", "generation.scenes"}
)
"""Settings that may be a path of this machine: what a page sends must not be one."""


@dataclass(frozen=True)
class Field:
    """One setting of the form.

    Attributes:
        section: Such as `training` or `training.optimizer`; empty for what stands at the top.
        key: The dotted key.
        label: The key's last part, with spaces.
        help: Its docstring.
        kind: `text`; `whole` or `number`, with bounds; `yes` (or no); `choice` of one, `choices` of several; `list` of
            texts or numbers, with commas; `table` of names and texts, as TOML.
        choices: What may be chosen.
        minimum: Least number; nothing where there is none.
        maximum: Greatest number.
        default: Its value where nothing is said.
        optional: Whether it may be left empty.
        numbers: Whether a `list` holds numbers.
    """

    section: str
    key: str
    label: str
    help: str
    kind: Kind
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    default: Any = None
    optional: bool = False
    numbers: bool = False


@cache
def fields(recipe: str | None = None) -> tuple[Field, ...]:
    """Every setting, in the order of the config.

    Args:
        recipe: What the defaults are those of; nothing means the config's own.
    """
    schema = Config.model_json_schema()
    defaults = (load_config(recipe) if recipe else Config()).model_dump(mode="json")
    return tuple(fields_of(schema, schema, "", defaults))


def fields_of(schema: Mapping[str, Any], whole: Mapping[str, Any], section: str, values: Any) -> Iterator[Field]:
    """The settings of a section and of those below it."""
    for name, described in schema["properties"].items():
        key = f"{section}.{name}" if section else name
        inner = resolved(described, whole)
        if "properties" in inner:
            yield from fields_of(inner, whole, key, values[name])
        elif key not in HIDDEN and "const" not in inner:
            yield field_of(section, key, described, inner, values[name])


def resolved(described: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """A description with what it refers to."""
    if "$ref" in described:
        found: Mapping[str, Any] = whole["$defs"][described["$ref"].rsplit("/", 1)[1]]
        return found
    return described


def field_of(section: str, key: str, described: Mapping[str, Any], inner: Mapping[str, Any], default: Any) -> Field:
    """One setting."""
    ways = [way for way in inner.get("anyOf", [inner]) if way.get("type") != "null"]
    optional = len(ways) < len(inner.get("anyOf", [inner]))
    way = next((one for one in ways if one.get("type") == "object"), ways[0]) if default_is_table(default) else ways[0]
    items = (way.get("prefixItems") or [way.get("items", {})])[0]
    kind: Kind = "text"
    match way.get("type"):
        case "boolean":
            kind = "yes"
        case "integer":
            kind = "whole"
        case "number":
            kind = "number"
        case "array":
            kind = "choices" if "enum" in items else "list"
        case "object":
            kind = "table"
        case _:
            kind = "choice" if "enum" in way else "text"
    return Field(
        section,
        key,
        key.rsplit(".", 1)[-1].replace("_", " "),
        " ".join(str(described.get("description", inner.get("description", ""))).split()),
        kind,
        tuple(map(str, way.get("enum") or items.get("enum") or ())),
        way.get("minimum", way.get("exclusiveMinimum")),
        way.get("maximum", way.get("exclusiveMaximum")),
        default,
        optional,
        items.get("type") in ("integer", "number"),
    )


def default_is_table(default: Any) -> bool:
    """Whether a setting that may be a text or a table is a table."""
    return isinstance(default, dict)


@dataclass(frozen=True)
class Parsed:
    """What a form says.

    Attributes:
        overrides: Settings that differ from the defaults, by dotted key.
        errors: What cannot be meant, by dotted key; what concerns several settings stands under an empty key.
    """

    overrides: dict[str, Any]
    errors: dict[str, str]


def parse(values: Mapping[str, Any], recipe: str | None = None) -> Parsed:
    """Read a form.

    Args:
        values: What stands in the fields, by dotted key: texts, numbers, booleans or lists.
        recipe: What its defaults are those of.
    """
    known = {one.key: one for one in fields(recipe)}
    overrides: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for key, value in values.items():
        if key not in known:
            errors[key] = "There is no such setting."
            continue
        try:
            read = read_value(known[key], value)
            if read != known[key].default and read is not None:
                checked(key, read, recipe)
                overrides[key] = read
        except (UsageError, ValueError) as error:
            errors[key] = str(error).splitlines()[0].removeprefix(f"{key}: ")
    if not errors:
        try:
            load_config(recipe, [f"{key}={as_toml(value)}" for key, value in overrides.items()])
        except UsageError as error:
            errors[""] = error.cause
    return Parsed(overrides, errors)


def checked(key: str, value: Any, recipe: str | None) -> None:
    """Refuse a value that cannot be meant alone, and paths of this machine.

    Raises:
        UsageError: Why.
    """
    if key in SOURCES and any(is_path(text) for text in (value.values() if isinstance(value, dict) else [value])):
        raise UsageError(f"{key}: files of this machine cannot be named here.", "Start the run by the command line.")
    try:
        load_config(recipe, [f"{key}={as_toml(value)}"])
    except UsageError as error:
        if error.cause.startswith(key):  # else it may go with other settings of the form
            raise


def is_path(text: object) -> bool:
    """Whether a text could be a path; hub ids have one slash, and no dots at the start."""
    text = str(text)
    rooted = text.startswith(("/", "~", ".", "\\")) or ":" in text[:3] or "\\" in text
    return rooted or text.count("/") > 1 or text.endswith((".safetensors", ".onnx", ".toml")) or os.path.lexists(text)


def read_value(one: Field, value: Any) -> Any:
    """What stands in a field, as the config wants it; nothing where it was left empty.

    Raises:
        ValueError: If it is no number, or no table.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        if one.optional or one.kind in ("list", "choices"):
            return [] if one.kind in ("list", "choices") and not one.optional else None
        return "" if one.kind == "text" else None
    match one.kind:
        case "yes":
            return value if isinstance(value, bool) else str(value).lower() in ("true", "yes", "on", "1")
        case "whole" | "number":
            return read_number(value, whole=one.kind == "whole")
        case "list" | "choices":
            parts = (
                value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
            )
            texts = [str(part).strip() for part in parts if str(part).strip()]
            return [read_number(text, whole=False) for text in texts] if one.numbers else texts
        case "table":
            return value if isinstance(value, dict) else read_table(str(value))
        case _:
            return str(value).strip()


def read_number(value: Any, *, whole: bool) -> int | float:
    """A number, however it was typed."""
    try:
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    if whole and number != int(number):
        raise ValueError(f"{value!r} is no whole number")
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def read_table(text: str) -> dict[str, Any]:
    """Lines of `name = "text"`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f'write lines of name = "text" ({error})') from None


def table_text(values: Mapping[str, Any]) -> str:
    """A table as a form shows it."""
    return "\n".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


@dataclass(frozen=True)
class Download:
    """A model that a run would fetch."""

    name: str
    hub_id: str
    job: str
    megabytes: float
    licence: str


@dataclass(frozen=True)
class Outlook:
    """What a run would take.

    Attributes:
        minutes: Of it all; nothing where the base is not here yet.
        memory_gib: GPU memory at its fullest; nothing without a GPU.
        disk_gib: At its fullest.
        downloads: What it would fetch first.
        machine: What it would run on.
        base: Name of the base.
        reason: Why this base.
        models: Steps of each model.
        trainings: How often each is trained.
        pictures: Pictures of scenes.
        notes: What to know.
        error: Why it could not be run; empty if it could.
        fix: What to do about that.
    """

    minutes: float | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None
    downloads: tuple[Download, ...] = ()
    machine: str = ""
    base: str = ""
    reason: str = ""
    models: Mapping[str, int] | None = None
    trainings: Mapping[str, int] | None = None
    pictures: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""
    fix: str = ""


def plan(project: Project) -> Outlook:
    """What the run of a project would take on this machine. Takes seconds the first time: ask the desk for it."""
    import portrayal

    settings = project.settings
    try:
        downloads = needed(load_config(project.recipe, settings))
        if any(one.job.startswith("base") for one in downloads):
            return Outlook(downloads=downloads, base=project.choices.base)
        made = portrayal.make_plan(project.recipe, settings)
        downloads, told = needed(made.config), made.as_json()  # now that it is known which base
        estimated = made.estimate(len(project.photos) or 15)
    except PortrayalError as error:
        return Outlook(error=error.cause, fix=error.remedy)
    return Outlook(
        estimated.seconds / 60,
        estimated.peak_gib,
        told["disk_gib"],
        downloads,
        estimated.machine.name,
        told["base"]["name"],
        told["base"]["reason"],
        told["models"],
        told["trainings"],
        told["pictures"],
        (*made.notes, *estimated.notes),
    )


def needed(config: Config) -> tuple[Download, ...]:
    """What a run with these settings would fetch."""
    import portrayal

    return tuple(Download(**one) for one in portrayal.models_needed(config))
