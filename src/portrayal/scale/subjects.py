"""Who is to be studied: a folder of folders of photos, or a table of subjects with settings of their own."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portrayal.errors import UsageError, known, nearest
from portrayal.limits import on_disk

COLUMNS = {"base": "base.name", "class": "subject.class_noun"}
"""Columns that stand for a setting; others of that kind are named in full, such as `study.ranks`."""
OWN_COLUMNS = ("photos", "name", "recipe", "consent")
YES, NO = ("yes", "true", "1"), ("no", "false", "0")
NAME = re.compile(r"[\w][\w .+-]*")


@dataclass(frozen=True)
class Study:
    """One subject by one recipe: a run to be.

    Attributes:
        name: Of its run's folder.
        photos: Folder or archive of its photos.
        recipe: What its settings start from; nothing chooses by base and GPU.
        settings: `section.key=value` texts on top.
        consent: Whether the subject agreed, as stated; `None` is not stated.
    """

    name: str
    photos: Path
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    consent: bool | None = None

    def arguments(self, out: Path) -> list[str]:
        """The command that does it, after `portrayal`."""
        words = ["run", str(self.photos), "--out", str(out), "--json"]
        words += ["--recipe", self.recipe] if self.recipe else []
        words += [word for setting in self.settings for word in ("--set", setting)]
        return words + (["--consent"] if self.consent else [])


def read_studies(
    subjects: Path, recipes: Sequence[str] = (), settings: Sequence[str] = (), *, consent: bool | None = None
) -> list[Study]:
    """Every subject by every recipe.

    Args:
        subjects: A folder that holds a folder or archive of photos for each subject; or a CSV or TOML table with
            `photos` (from the table's folder on) and perhaps `name`, `recipe`, `class`, `base`, `consent` and settings
            by their full names. In TOML each subject is a `[[subject]]`.
        recipes: For subjects that name none; several make several studies of each subject.
        settings: `section.key=value` texts for all; a table's own come after them.
        consent: What is stated of subjects of whom the table says nothing.

    Raises:
        UsageError: If there are none, two have one name, or a column cannot be meant.
    """
    if on_disk(subjects) == "folder":
        rows: list[dict[str, Any]] = [{"photos": path} for path in folders_of(subjects)]
    elif on_disk(subjects) == "file" and subjects.suffix.lower() in (".csv", ".toml"):
        rows = list(read_table(subjects))
    else:
        raise UsageError(f"{subjects} is no folder of subjects and no table.", "Give a folder, a .csv or a .toml file.")
    studies = [
        study_of(row, recipe, settings, consent, several=len(recipes) > 1)
        for row in rows
        for recipe in recipes_of(row, recipes)
    ]
    names = [study.name for study in studies]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{subjects}: several subjects are called {twice[0]}.", "Give each a `name` of its own.")
    if not studies:
        raise UsageError(f"{subjects} holds no subjects.", "It should hold a folder of photos for each of them.")
    return studies


def recipes_of(row: Mapping[str, Any], recipes: Sequence[str]) -> Sequence[str | None]:
    """A subject's own recipe, else those for all, else what base and GPU choose."""
    return [row["recipe"]] if row.get("recipe") else recipes or [None]


def folders_of(subjects: Path) -> list[Path]:
    """The subjects of a folder: its folders and archives."""
    found = [path for path in sorted(subjects.iterdir()) if not path.name.startswith(".")]
    taken = [path for path in found if path.is_dir() or path.suffix.lower() == ".zip"]
    if found and not taken:
        raise UsageError(
            f"{subjects} holds files, and no folder of a subject.",
            f"For one subject: portrayal run {subjects}; for many, give each a folder in it.",
        )
    return taken


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a CSV or TOML table, photos as whole paths, settings as `section.key=value` texts."""
    for number, row in enumerate(csv_rows(path) if path.suffix.lower() == ".csv" else toml_rows(path), start=1):
        where = f"{path}, subject {number}"
        if not row.get("photos"):
            raise UsageError(f"{where}: there is no `photos`.", "Say where the photos lie, from the table's folder on.")
        unknown = [key for key in row if key not in (*OWN_COLUMNS, *COLUMNS) and "." not in key and key != "seed"]
        if unknown:
            columns = [*OWN_COLUMNS, *COLUMNS, "seed"]
            raise UsageError(f"{where}: no column {unknown[0]!r}; {nearest(unknown[0], columns) or known(columns)}")
        settings = [f"{COLUMNS.get(key, key)}={text(value)}" for key, value in row.items() if key not in OWN_COLUMNS]
        found: dict[str, Any] = {key: str(row[key]) for key in ("name", "recipe") if key in row}
        if "consent" in row:
            found["consent"] = agreed(str(row["consent"]), where)
        yield found | {"photos": path.parent / str(row["photos"]), "settings": settings}


def csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a CSV file; empty cells are as if they were not there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row:
                    raise UsageError(
                        f"{path}, line {reader.line_num}: more cells than columns.", "Quote what has commas."
                    )
                yield {key.strip(): value.strip() for key, value in row.items() if key and value and value.strip()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid CSV: {error}.", "Save it as CSV in UTF-8.") from error


def toml_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The `[[subject]]` tables of a TOML file, settings by their full names."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", "Mend that line and try again.") from error
    subjects = values.get("subject")
    if not isinstance(subjects, list) or not all(isinstance(one, dict) for one in subjects) or len(values) > 1:
        raise UsageError(f"{path} should hold [[subject]] tables, and nothing else.", "One for each subject.")
    for subject in subjects:
        yield dict(flattened(subject))


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted names."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def text(value: Any) -> str:
    """A value as `--set` reads it: text of a CSV cell as it stands, else as TOML, which reads JSON's lists too."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def agreed(said: str, where: str) -> bool:
    """What a table says of consent."""
    if said.lower() in YES:
        return True
    if said.lower() in NO:
        return False
    raise UsageError(f"{where}: consent is {said!r}.", "Say yes or no.")


def study_of(
    row: Mapping[str, Any], recipe: str | None, settings: Sequence[str], consent: bool | None, *, several: bool
) -> Study:
    """The study of a row by a recipe."""
    photos = Path(row["photos"])
    name = row.get("name") or (photos.stem if photos.suffix.lower() == ".zip" else photos.name)
    name += f".{Path(recipe).stem}" if several and recipe and not row.get("recipe") else ""
    if not NAME.fullmatch(name) or name == "batch":
        raise UsageError(f"{name!r} cannot name a run's folder.", "Give the subject a `name` of letters and digits.")
    return Study(name, photos, recipe, (*settings, *row.get("settings", ())), row.get("consent", consent))
