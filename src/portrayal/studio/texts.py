"""Every text of the page, in English and Russian: chosen by what the browser asks for, numbers and plurals included.

What the rest of the package says comes in English. Where it knows how it was made (:class:`portrayal.Said`), it is said
again by the templates of `sentences.ru.toml`, and settings are explained by `settings.ru.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from portrayal import Said

FOLDER = Path(__file__).with_name("texts")
LANGUAGES = {"en": "English", "ru": "Русский"}

NAME = re.compile(r"\{(\w+)(?::(\w+))?\}")
FIGURE = re.compile(r"[+−-]?\d+(?:\.\d+)?(?: ?%)?")

Entry = str | Mapping[str, str]


@lru_cache
def entries(language: str, kind: str = "") -> dict[str, Entry]:
    """The texts of a language by key, such as `train.pause`; a plural, or what is declined, is a table of forms.

    Args:
        language: A key of :data:`LANGUAGES`.
        kind: `sentences.` for what the rest of the package says; nothing for the page's own texts.
    """
    sections = tomllib.loads((FOLDER / f"{kind}{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{key}": text for section, texts in sections.items() for key, text in texts.items()}


@lru_cache
def settings(language: str) -> dict[str, dict[str, str]]:
    """`label` and `help` of each setting by its full name; nothing in English, for there they are the config's own."""
    path = FOLDER / f"settings.{language}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


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
        text = self.form(self._entries[key], values)
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text

    def form(self, entry: Entry, values: Mapping[str, Any], wanted: str = "") -> str:
        """The form of an entry: of a plural the one that `n` wants, of what is declined the one that is wanted."""
        if isinstance(entry, str):
            return entry
        if "other" in entry:
            return entry.get(plural_form(self.language, values["n"])) or entry["other"]
        return entry.get(wanted) or entry["nom"]

    def said(self, words: str) -> str:
        """What the package said, in this language; in English where it cannot be said again: see :meth:`can_say`."""
        return self.again(words) if self.language != "en" and self.can_say(words) else words

    def can_say(self, words: str) -> bool:
        """Whether words are in this language, or can be: whether all of them have templates that they fill."""
        if self.language == "en":
            return True
        try:
            return isinstance(words, Said) and bool(self.again(words))
        except (KeyError, TypeError, ValueError):
            return False

    def again(self, words: str | int, wanted: str = "") -> str:
        """Words by the templates of this language.

        Args:
            words: What was said, or a value in it.
            wanted: The form in which they stand, such as `gen`.

        Raises:
            KeyError: If a template or a value is missing.
        """
        if isinstance(words, int):
            return str(words)
        if not isinstance(words, Said):
            return self.figure(words) if FIGURE.fullmatch(words) else words
        parts = [self.again(part, wanted) for part in words.parts]
        match words.key:
            case "paragraph":
                return " ".join(part[:1].upper() + part[1:] for part in parts)
            case "clauses":
                return "; ".join(parts)
            case "listed":
                *most, last = parts
                return f"{', '.join(most)} {self('common.and')} {last}" if most else last
        template = self.form(entries(self.language, "sentences.")[words.key], words.values, wanted)
        return NAME.sub(lambda found: self.again(words.values[found[1]], found[2] or ""), template)

    def figure(self, text: str) -> str:
        """A figure as the language writes it: `−0.5 %`, `−0,5 %`."""
        return text.replace(".", ",").replace("-", "−").replace(" ", "").replace("%", "\N{NO-BREAK SPACE}%")

    def setting(self, key: str) -> Mapping[str, str]:
        """`label` and `help` of a setting, by its full name; nothing where they are the config's own."""
        return settings(self.language).get(key, {})

    def has(self, key: str) -> bool:
        """Whether there is a text of that key."""
        return key in self._entries

    def number(self, value: float, digits: int = 0) -> str:
        """A number as the language writes it: `1.25`, `1,25`; a true minus, which 0 has not."""
        text = f"{round(value, digits) + 0.0:.{digits}f}"
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
