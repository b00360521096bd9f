"""Numbers, dates and names as a person reads them. Pure functions of values; the templates use them as filters."""

from __future__ import annotations

import re
from datetime import datetime

from markupsafe import Markup, escape

from portrayal.report.scores import Interval
from portrayal.sentences import megabytes_text, rate_text

MINUS = "\N{MINUS SIGN}"
ABSENT = "–"
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip


def fixed(value: float | None, digits: int = 2) -> str:
    """``-0.5`` as ``−0.50``; nothing as a dash."""
    if value is None:
        return ABSENT
    rounded = f"{value:.{digits}f}"
    return (rounded if float(rounded) else f"{0:.{digits}f}").replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """Like :func:`fixed`, with a plus sign before what is above zero."""
    shown = fixed(value, digits)
    return f"+{shown}" if value is not None and value > 0 and float(shown) else shown


def percent(value: float | None, digits: int = 0) -> str:
    """``0.123`` as ``12 %``."""
    return ABSENT if value is None else f"{fixed(100 * value, digits)} %"


def signed_percent(value: float | None, digits: int = 1) -> str:
    """``0.123`` as ``+12.3 %``."""
    return ABSENT if value is None else f"{signed(100 * value, digits)} %"


def chance(value: float | None) -> str:
    """``0.123`` as ``12 %``; never quite sure."""
    return ABSENT if value is None else percent(min(max(value, 0.01), 0.99))


def rate(value: float | None) -> str:
    """A learning rate as people write it: ``2e-3``, ``1.5e-4``."""
    return ABSENT if value is None else rate_text(value)


def lora_title(rank: int, learning_rate: float | None = None) -> str:
    """``LoRA 32``, or ``LoRA 32 at 1e-4`` where there are several learning rates."""
    return f"LoRA {rank}" if learning_rate is None else f"LoRA {rank} at {rate(learning_rate)}"


def unbroken(value: object) -> Markup:
    """Escaped text in which no line ends within a learning rate."""
    return Markup(re.sub(r"\b\d+(?:\.\d+)?e-\d+\b", r'<span class="unbroken">\g<0></span>', str(escape(value))))


def between(interval: Interval | None, digits: int = 2, scale: float = 1.0) -> str:
    """The interval alone, ``0.81 to 0.85``; empty where only a mean is known."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"{fixed(scale * interval.low, digits)} to {fixed(scale * interval.high, digits)}"


def long_date(value: str) -> str:
    """``2026-08-03T10:00:00Z`` as ``3 August 2026``; what is not a date stays as it is."""
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        return value
    return f"{date.day} {_MONTHS[date.month - 1]} {date.year}"


def duration(seconds: float | None) -> str:
    """``750`` as ``12 min 30 s``."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{fixed(seconds, 1 if seconds < 10 else 0)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def large(value: float | None) -> str:
    """``12750000`` as ``12.8 million``."""
    if value is None:
        return ABSENT
    if value >= 1e6:
        return f"{fixed(value / 1e6, 1)} million"
    return f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """A file size, with as many digits as it deserves."""
    return ABSENT if value is None else f"{megabytes_text(value)} MB"


def counted(count: int, noun: str) -> str:
    """``3 photos``, ``1 photo``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def with_article(noun: str) -> str:
    """``a woman``, ``an old man``."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def words(name: str) -> str:
    """``learning_rate`` as ``learning rate``."""
    return re.sub(r"[_\s]+", " ", name).strip()


def slug(name: str) -> str:
    """A name as part of a file name: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"


def plain(value: object) -> str:
    """A setting as text: ``True`` as ``yes``, a list with commas, a small number without zeros."""
    match value:
        case None:
            return ABSENT
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(plain(item) for item in value) or ABSENT
        case dict():
            return ", ".join(f"{words(str(key))} {plain(item)}" for key, item in value.items()) or ABSENT
        case _:
            return str(value)


def flat(content: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Rows of (label, text) for a table of settings; nested tables become ``outer · inner``."""
    found: list[tuple[str, str]] = []
    for key, value in content.items():
        label = f"{prefix}{words(str(key))}"
        if isinstance(value, dict):
            found += flat(value, f"{label} · ")
        else:
            found.append((label, plain(value)))
    return found


def html_in_markdown(value: object) -> Markup:
    """Escape text for an attribute of an HTML tag in a Markdown table: on one line, without column bars."""
    return Markup(str(escape(" ".join(str(value).split()))).replace("|", "&#124;"))


def markdown(value: object) -> str:
    """Escape text for Markdown: on one line, with its marks taken literally (``<`` and ``&`` are autoescape's)."""
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", " ".join(str(value).split()))
