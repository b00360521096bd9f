"""The photos of a project, what the last check said of each, and what a person chose for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from portrayal import Said, UsageError, check_photos, load_config
from portrayal.studio.files import locked, read_json, write_json
from portrayal.studio.projects import WORKSHOP, Choices, Project
from portrayal.studio.uploads import INDEX, known_photo, view_path

CHECK = "check.json"


@dataclass(frozen=True)
class PhotoView:
    """One photo of a project as a page shows it.

    Attributes:
        name: Its file's name.
        id: First digits of its content's hash; it keeps them for life.
        view: A small upright picture of it, without EXIF.
        width: Of the upright photo, in pixels.
        height: Of the upright photo.
        crop: Left, top and side of the square that is trained on; the middle one before there was a check.
        by_hand: Whether that square was chosen by hand.
        left_out: Whether it is left out.
        kept: Whether it is trained on whatever was found.
        verdict: What the check advises; nothing before there was one, or if it cannot be read.
        findings: Kind and message of what was found, each with its remedy.
    """

    name: str
    id: str
    view: Path
    width: int
    height: int
    crop: tuple[int, int, int]
    by_hand: bool = False
    left_out: bool = False
    kept: bool = False
    verdict: Literal["keep", "fix", "drop"] | None = None
    findings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Contact:
    """The photos of a project and what to know of them all together.

    Attributes:
        photos: By name.
        remarks: Sentences, each with its remedy.
        checked: Whether all that is there has been looked at, with the settings as they are.
        fit: Whether the set trains well as it is.
    """

    photos: tuple[PhotoView, ...]
    remarks: tuple[str, ...] = ()
    checked: bool = False
    fit: bool = False


def drop(project: Project, name: str) -> None:
    """Leave a photo out.

    Raises:
        UsageError: If there is no such photo, or the run has been started.
    """
    known_photo(project, name)
    choices = project.choices
    project.choose(drop=[*without(choices.drop, name), name], keep=without(choices.keep, name))


def keep(project: Project, name: str) -> None:
    """Train on a photo whatever was found.

    Raises:
        UsageError: If there is no such photo, or the run has been started.
    """
    known_photo(project, name)
    choices = project.choices
    project.choose(keep=[*without(choices.keep, name), name], drop=without(choices.drop, name))


def without(names: Sequence[str], name: str) -> list[str]:
    """Names but one."""
    return [other for other in names if other != name]


def crop(project: Project, name: str, square: tuple[int, int, int] | None) -> None:
    """Choose the square of a photo by hand, or let it be chosen again.

    Args:
        project: The project.
        name: The photo's name.
        square: Left, top and side in pixels of the upright photo; nothing lets it be chosen.

    Raises:
        UsageError: If there is no such photo, or the square does not lie in it.
    """
    width, height = known_photo(project, name)["size"]
    crops = {other: found for other, found in project.choices.crop.items() if other != name}
    if square is not None:
        left, top, side = (round(number) for number in square)
        if side < 8 or left < 0 or top < 0 or left + side > width or top + side > height:
            raise UsageError(f"The square does not lie in the {width}×{height} pixels of {name}.")
        crops[name] = [left, top, side]
    project.choose(crop=crops)


def contact(project: Project) -> Contact:
    """The photos of a project and the advice on the set, by the last check."""
    index, told, choices = read_json(project.folder / INDEX), read_json(project.folder / CHECK), project.choices
    current = told.get("of") == inputs_of(project)
    found = told.get("photos", {})
    rows = tuple(
        photo_view(project, name, row, found.get(name, {}) | {"said": told.get("said")}, choices)
        for name, row in sorted(index.items())
    )
    remarks = tuple(retold(told, one) for one in told.get("remarks", ()))
    return Contact(rows, remarks, current, current and bool(told.get("fit")))


def photo_view(project: Project, name: str, row: dict[str, Any], told: dict[str, Any], choices: Choices) -> PhotoView:
    """One photo, with what was found of it and chosen for it."""
    width, height = row["size"]
    side = min(width, height)
    left, top, side = choices.crop.get(name) or told.get("crop") or ((width - side) // 2, (height - side) // 2, side)
    return PhotoView(
        name,
        row["id"],
        view_path(project, row["id"]),
        width,
        height,
        (left, top, side),
        name in choices.crop,
        name in choices.drop,
        name in choices.keep,
        told.get("verdict"),
        tuple((kind, retold(told, message)) for kind, message in told.get("findings", ())),
    )


def check(project: Project) -> Contact:
    """Look at every photo and at the set, and keep what was found. Takes seconds: ask the desk for it."""
    of = inputs_of(project)
    last = read_json(project.folder / CHECK)
    if project.photos and not project.started and last.get("of") != of:
        found = check_photos(project.photos_folder, load_config(project.recipe, project.settings))
        rows: dict[str, dict[str, Any]] = {}
        for one in found.photos:
            left, top, width, height = found.frames[one.file].cut
            findings = [(finding.kind, finding.message) for finding in one.findings]
            rows[one.file] = {"verdict": one.verdict, "findings": findings, "crop": [left, top, min(width, height)]}
        earlier = last.get("photos", {})
        for finding in found.left_out:
            unusable = {"findings": [(finding.kind, finding.message)]}
            rows[finding.file] = earlier.get(finding.file, {}) if finding.kind == "dropped" else unusable
        messages = [finding.message for one in found.photos for finding in one.findings]
        messages += [finding.message for finding in found.left_out]
        said = (last.get("said") or {}) | said_in([*found.remarks.remarks, *messages])
        told = {"of": of, "photos": rows, "remarks": list(found.remarks.remarks), "fit": found.fit, "said": said}
        with locked(project.root / WORKSHOP):
            write_json(project.folder / CHECK, told)
    return contact(project)


def said_in(words: Iterable[str]) -> dict[str, Any]:
    """How each sentence was made, by its English text, where that is known."""
    return {one: one.told() for one in words if isinstance(one, Said)}


def retold(told: Mapping[str, Any], text: str) -> str:
    """A sentence of a check that was kept, with how it was made where that is known."""
    return Said.retold(text, (told.get("said") or {}).get(text))


def inputs_of(project: Project) -> dict[str, Any]:
    """What a check depends on: the photos, and the settings they would be trained with."""
    chosen = asdict(project.choices)
    settings = {key: chosen[key] for key in ("base", "class_noun", "overrides", "drop", "keep", "crop")}
    ids = sorted(row["id"] for row in read_json(project.folder / INDEX).values())
    return {"photos": ids, **settings}
