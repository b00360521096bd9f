"""Sentences that know how they were made, so that what was said once in English can be said in another language.

Whoever has something to say names a template of `sentences.toml` and gives its values. What comes back is the English
text, and is used and recorded as such; a key and values may be kept beside it. Another language brings templates of its
own under the same keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Value = str | int
"""A text (a figure is one: what makes a sentence knows its digits), a count, or another :class:`Said`."""


class Said(str):
    """English words, with the key of their template and the values it was filled with.

    Attributes:
        key: Such as `verdict.only`; see :data:`JOINED` for those without a template.
        values: By the names in the template.
        parts: What was joined.
    """

    key: str
    values: Mapping[str, Value]
    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str, key: str, values: Mapping[str, Value] | None = None, parts: Iterable[str] = ()) -> Said:
        """Words that were made of this."""
        said = cls(text)
        said.key, said.values, said.parts = key, dict(values or {}), tuple(parts)
        return said

    @classmethod
    def by(cls, key: str, /, **values: Value) -> Said:
        """Say something in English.

        Args:
            key: Of a template in `sentences.toml`; one with plural forms is chosen by `n`.
            values: What its `{names}` are filled with.

        Raises:
            KeyError: If there is no such template, or a value is missing.
        """
        template = templates()[key]
        if isinstance(template, Mapping):
            template = template["one" if values["n"] == 1 else "other"]
        return cls.of(template.format_map(values), key, values)

    def told(self) -> dict[str, Any]:
        """What to record beside the text."""
        inner = {name: one.told() if isinstance(one, Said) else one for name, one in self.values.items()}
        parts = [one.told() if isinstance(one, Said) else str(one) for one in self.parts]
        return {"key": self.key} | ({"values": inner} if inner else {}) | ({"parts": parts} if parts else {})

    @classmethod
    def retold(cls, text: str, told: object) -> str:
        """A text and what was recorded beside it; the text alone where nothing was, or nothing that can be meant."""
        made = remade(told)
        return cls.of(text, made.key, made.values, made.parts) if isinstance(made, Said) else text


say = Said.by

JOINED = ("listed", "clauses", "paragraph")
"""Keys of what :func:`listed`, :func:`clauses` and :func:`paragraph` make."""


def say_if_known(key: str, text: str) -> str:
    """A word that has a key, or the word alone: what a model reads from a picture may be new."""
    return say(key) if key in templates() else text


def listed(parts: Iterable[str]) -> Said:
    """``a, b and c``."""
    parts = tuple(parts)
    *most, last = parts
    return Said.of(f"{', '.join(most)} and {last}" if most else last, "listed", parts=parts)


def clauses(parts: Iterable[str]) -> Said:
    """``a; b; c``."""
    parts = tuple(parts)
    return Said.of("; ".join(parts), "clauses", parts=parts)


def paragraph(*parts: str) -> Said:
    """Sentences after each other, each with a capital letter."""
    return Said.of(" ".join(map(capital, parts)), "paragraph", parts=parts)


def capital(words: str) -> str:
    """With a capital first letter."""
    return words[:1].upper() + words[1:]


@cache
def templates() -> Mapping[str, str | Mapping[str, str]]:
    """The English templates by key."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {f"{section}.{key}": one for section, found in tomllib.loads(text).items() for key, one in found.items()}


def remade(told: object) -> str | int | None:
    """What :meth:`Said.told` made, without the English text; nothing if it is none: it has been in a file."""
    if isinstance(told, str | int):
        return told
    if not isinstance(told, Mapping) or not isinstance(key := told.get("key"), str):
        return None
    values, parts = told.get("values", {}), told.get("parts", [])
    if not isinstance(values, Mapping) or not isinstance(parts, list):
        return None
    inner = {str(name): remade(one) for name, one in values.items()}
    joined = [remade(one) for one in parts]
    if None in inner.values() or not all(isinstance(one, str) for one in joined):
        return None
    return Said.of("", key, inner, joined)  # type: ignore[arg-type]  # nothing is None


def rate_text(learning_rate: float) -> str:
    """A learning rate as people write it: `1e-4`, `1.5e-4`."""
    digits, _, exponent = f"{learning_rate:.2e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def megabytes_text(megabytes: float) -> str:
    """Millions of bytes with as many digits as they deserve: `150`, `19.2`, `0.46`, `0.053`."""
    digits = 0 if megabytes >= 100 else 1 if megabytes >= 1 else 2 if megabytes >= 0.1 else 3
    return f"{megabytes:.{digits}f}"
