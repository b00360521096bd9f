"""Every text of the page, in English and Russian: chosen by what the browser asks for, numbers and plurals included."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("texts")
LANGUAGES = {"en": "English", "ru": "Русский"}

Entry = str | Mapping[str, str]


@lru_cache
def entries(language: str) -> dict[str, Entry]:
    """The texts of a language by key, such as `train.pause`; a plural is a table of forms."""
    sections = tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{key}": text for section, texts in sections.items() for key, text in texts.items()}


def choose_language(asked: Sequence[str], chosen: str | None = None) -> str:
    """The language to speak: the one a person chose, else the first of the browser's that is spoken, else English.

    Args:
        asked: Tags such as `ru-RU`, the most wanted first.
        chosen: What a person chose on the page.
    """
    tags = [tag.split(";")[0].strip().lower().split("-")[0] for tag in [chosen or "", *asked]]
    return next((tag for tag in tags if tag in LANGUAGES), "en")


def plural_form(language: str, number: float) -> str:
    """Which form of a noun a count wants: `one` or `other`; in Russian `one`, `few` or `many`, `other` of fractions."""
    if language != "ru":
        return "one" if number == 1 else "other"
    if number != int(number):
        return "other"
    last, last_two = int(number) % 10, int(number) % 100
    if last == 1 and last_two != 11:
        return "one"
    return "few" if 2 <= last <= 4 and not 12 <= last_two <= 14 else "many"


class Texts:
    """The texts of one language.

    Args:
        language: A key of :data:`LANGUAGES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._entries = entries(language)

    def __call__(self, key: str, /, **values: Any) -> str:
        """A text, its `{names}` filled in; other braces, as in `{subject}`, stay.

        Raises:
            KeyError: If there is no such text.
        """
        text = self._entries[key]
        if isinstance(text, Mapping):
            form = plural_form(self.language, values["n"])
            text = text.get(form) or text["other"]
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def has(self, key: str) -> bool:
        """Whether there is a text of that key."""
        return key in self._entries

    def number(self, value: float, digits: int = 0) -> str:
        """A number as the language writes it: `1.25`, `1,25`; a true minus."""
        text = f"{value:.{digits}f}"
        return (text.replace(".", ",") if self.language == "ru" else text).replace("-", "−")

    def percent(self, share: float) -> str:
        """A share as a percentage, with the space that Russian wants."""
        return f"{self.number(100 * share)}{chr(160) if self.language == 'ru' else ''}%"

    def size(self, gib: float) -> str:
        """`620 MiB` or `3.4 GiB`."""
        mib, whole = ("МиБ", "ГиБ") if self.language == "ru" else ("MiB", "GiB")
        if gib < 1:
            return f"{self.number(max(1, gib * 1024) if gib else 0)} {mib}"
        return f"{self.number(gib, 1)} {whole}"

    def duration(self, seconds: float) -> str:
        """`40 s`, `3.5 min`, `12 min`, `1.4 h`."""
        if seconds < 90:
            return self("time.seconds", n=self.number(seconds))
        minutes = seconds / 60
        if minutes < 90:
            return self("time.minutes", n=self.number(minutes, 0 if minutes >= 10 else 1))
        return self("time.hours", n=self.number(minutes / 60, 1))
