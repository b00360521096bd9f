"""Write docs/settings.md from the docstrings and defaults of `portrayal.config`, and from the recipes.

    python -m scripts.settings_docs

A test says so when the page is stale.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from portrayal.config import Config, Section
from portrayal.settings import recipe_folder, recipe_names

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
SHORT_TYPES = {"boolean": "true, false", "integer": "whole number", "number": "number", "string": "text"}
INTRODUCTION = """\
# Settings

Written by `python -m scripts.settings_docs` from the docstrings in [config](../src/portrayal/config) and the
files in [recipes](../recipes); do not edit.

A run starts from a recipe (`--recipe NAME` or `--recipe FILE.toml`; without one, the recipe that fits the base and the
GPU). `--base` and `--class` set `base.name` and `subject.class_noun`, and each `--set section.key=value` changes one
setting more. A value is read as TOML, or as text if it is none:

```
portrayal run PHOTOS --set study.ranks=[8,16] --set training.snr_gamma=5 --set base.name=pocket --dry-run
```

`--dry-run` prints all settings as they would be used, in TOML: a file to keep, change, and give to `--recipe`. A key
that does not exist is refused and the nearest one named. "–" means unset.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


def page() -> str:
    """The whole page."""
    schema = Config.model_json_schema()
    top = [row(key, entry) for key, entry in schema["properties"].items() if not section_of(Config, key)]
    parts = [INTRODUCTION, heading("The run", Config.__doc__), table(top)]
    for key in Config.model_fields:
        section = section_of(Config, key)
        if section is not None:
            parts += [heading(f"`{key}`", section.__doc__), table(list(rows(section)))]
    return "\n".join([*parts, recipes_table()])


def rows(section: type[Section], prefix: str = "") -> Iterator[str]:
    """A table row for each setting of a section and of the sections inside it."""
    properties = section.model_json_schema()["properties"]
    for key in section.model_fields:
        inner = section_of(section, key)
        if inner is not None:
            yield from rows(inner, f"{prefix}{key}.")
        elif "const" not in properties[key]:
            yield row(f"{prefix}{key}", properties[key])


def row(key: str, entry: Mapping[str, Any]) -> str:
    """One setting."""
    return f"| `{key}` | {shown(entry.get('default'))} | {kind(entry)} | {' '.join(entry['description'].split())} |"


def kind(entry: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    options = [option for option in entry.get("anyOf", [entry]) if option.get("type") != "null"]
    option = options[0]
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    if option["type"] == "array":
        return "list"
    if option["type"] == "object":
        return "name = text"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {option[name]:g}" for name, sign in bounds.items() if name in option]
    return f"{SHORT_TYPES.get(option['type'], option['type'])} {', '.join(limits)}".strip()


def shown(value: Any) -> str:
    """A value as one would write it after `--set`."""
    match value:
        case None:
            return "–"
        case {**pairs}:
            return ", ".join(f"`{name}`" for name in pairs)
        case "":
            return '`""`'
        case str():
            return f"`{value}`"
        case float():
            return f"`{value:g}`"
    return f"`{json.dumps(value)}`"


def section_of(section: type[Section], key: str) -> type[Section] | None:
    """The section that a key of another one holds, if it holds one."""
    annotation = section.model_fields[key].annotation
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Section)), None)


def heading(title: str, text: str | None) -> str:
    """A section's title and its docstring."""
    return f"## {title}\n{(text or '').strip()}\n"


def table(lines: list[str]) -> str:
    """A table of settings."""
    return "\n".join(["| key | default | may be | what |", "|---|---|---|---|", *lines, ""])


def recipes_table() -> str:
    """What each recipe sets, beside one another."""
    names = sorted(recipe_names(), key=lambda name: [int(part or 0) for part in re.split(r"\D+", name)])  # 8 before 24
    files = {name: (recipe_folder() / f"{name}.toml").read_text(encoding="utf-8") for name in names}
    read = {name: flat(tomllib.loads(text)) for name, text in files.items()}
    keys = [key for key in flat(Config().model_dump()) if any(key in values for values in read.values())]
    lines = [
        heading("The recipes", "What they set; everything else has its default. Each file says what it is for."),
        f"| key | {' | '.join(f'[{name}](../recipes/{name}.toml)' for name in read)} |",
        "|---|" + "---|" * len(read),
    ]
    lines += [f"| `{key}` | {' | '.join(shown(values.get(key)) for values in read.values())} |" for key in keys]
    return "\n".join([*lines, ""])


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


if __name__ == "__main__":
    main()
