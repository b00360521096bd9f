"""The second screen: photos dropped in, what was found of each, their crops, who it is, and consent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portrayal.studio import photos, uploads
from portrayal.studio.desk import check
from portrayal.studio.page.asked import NOTHING, Action, Asked, Outcome, Values, listed, number
from portrayal.studio.page.uploaded import uploaded
from portrayal.studio.photos import PhotoView, contact
from portrayal.studio.uploads import Accepted, accept_photos

FEWEST = 3
"""Usable photos without which nothing can be trained."""

NOUNS = ("woman", "man", "person", "girl", "boy", "child", "dog", "cat")


@dataclass(frozen=True)
class Card:
    """One photo as its card shows it: the part that the models will see."""

    photo: PhotoView
    address: str
    style: str
    messages: tuple[str, ...]
    chip: str


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    project = asked.mine
    checked = check(project)
    looking = checked is None
    found = checked or contact(project)
    cards = [card(asked, photo, found.checked) for photo in found.photos]
    usable = [photo for photo in found.photos if not photo.left_out and not unusable(photo, found.checked)]
    choices, why = project.choices, missing(asked, len(usable))
    return {
        "photos": cards or prepared(asked),
        "locked": project.started,
        "looking": looking,
        "remarks": found.remarks if found.checked else (),
        "fit": found.fit,
        "refused": outcome.values.get("refused", ()),
        "noun": choices.class_noun,
        "nouns": NOUNS,
        "consent": choices.consent,
        "ready": not why,
        "why": why or asked.t("photos.ready", n=len(usable) or len(prepared(asked))),
        "poll": 700 if looking else 0,
    }


def missing(asked: Asked, usable: int) -> str:
    """What is still missing before a plan can be made; nothing if it can."""
    choices = asked.mine.choices
    if asked.mine.started:
        return ""
    if usable < FEWEST:
        return asked.t("photos.missing_photos", n=FEWEST - usable)
    if not choices.class_noun.strip():
        return asked.t("photos.missing_noun")
    return "" if choices.consent else asked.t("photos.missing_consent")


def card(asked: Asked, photo: PhotoView, checked: bool) -> Card:
    """A photo as its card shows it."""
    left, top, side = photo.crop
    style = f"width:{100 * photo.width / side:.2f}%;left:{-100 * left / side:.2f}%;top:{-100 * top / side:.2f}%"
    messages = tuple(
        asked.t(f"finding.{kind}") if asked.t.has(f"finding.{kind}") else asked.t.said(message)
        for kind, message in photo.findings
    )
    chip = "left_out" if photo.left_out else "unusable" if unusable(photo, checked) else photo.verdict or ""
    return Card(photo, asked.picture(photo.view), style, messages, chip)


def unusable(photo: PhotoView, checked: bool) -> bool:
    """Whether a photo was looked at and cannot be trained on."""
    return checked and photo.verdict is None and bool(photo.findings)


def prepared(asked: Asked) -> list[Card]:
    """The training pictures of a run that was made by a command: its photos are elsewhere."""
    folder = asked.mine.run_folder / "dataset" / "images"
    if not asked.mine.made_by_command or not folder.is_dir():
        return []
    views = [PhotoView(path.stem, path.stem, path, 1, 1, (0, 0, 1)) for path in sorted(folder.glob("*.png"))]
    return [Card(photo, asked.picture(photo.view), "width:100%;left:0;top:0", (), "") for photo in views]


def add(asked: Asked, values: Values) -> Outcome:
    """Take photos that were dropped in or chosen."""
    t = asked.t
    failed = listed(values.get("failed"))
    with uploaded(values) as files:
        taken: list[Accepted] = accept_photos(asked.mine, [(path, path.name) for path in files]) if files else []
    refused = [(one.name, t.said(one.error)) for one in taken if not one.kept]
    refused += [(name, t("photos.upload_failed")) for name in failed]
    if isinstance(left := values.get("left"), int) and left > 0:
        refused.append((f"+{left}", t("photos.left_over", n=left)))
    added = sum(bool(one.kept) for one in taken)
    return Outcome(said=t("photos.added", n=added) if added else "", values={"refused": refused})


def take_out(asked: Asked, values: Values) -> Outcome:
    """Leave a photo out."""
    photos.drop(asked.mine, str(values.get("name", "")))
    return NOTHING


def put_back(asked: Asked, values: Values) -> Outcome:
    """Use a photo, whatever was found."""
    photos.keep(asked.mine, str(values.get("name", "")))
    return NOTHING


def remove(asked: Asked, values: Values) -> Outcome:
    """Delete a photo from the project."""
    uploads.remove(asked.mine, str(values.get("name", "")))
    return NOTHING


def crop(asked: Asked, values: Values) -> Outcome:
    """Choose a photo's square by hand."""
    left, top, side = (int(number(values, key, 0)) for key in ("left", "top", "side"))
    photos.crop(asked.mine, str(values.get("name", "")), (left, top, side))
    return NOTHING


def uncrop(asked: Asked, values: Values) -> Outcome:
    """Let a photo's square be chosen again."""
    photos.crop(asked.mine, str(values.get("name", "")), None)
    return NOTHING


def subject(asked: Asked, values: Values) -> Outcome:
    """Say who it is, and that they agreed."""
    noun = " ".join(str(values.get("noun", "")).split())[:40]
    asked.mine.choose(consent=bool(values.get("consent")), **({"class_noun": noun} if noun else {}))
    return NOTHING


ACTIONS: dict[str, Action] = {
    "add": add,
    "take_out": take_out,
    "put_back": put_back,
    "remove": remove,
    "crop": crop,
    "uncrop": uncrop,
    "subject": subject,
}
