"""Numbers and lists as the sentences of a verdict have them."""

from __future__ import annotations

from collections.abc import Iterable

from portrayal.evaluation.intervals import Interval


def scaled(value: Interval, by: float) -> Interval:
    """The interval in another unit."""
    low = None if value.low is None else by * value.low
    return Interval(by * value.mean, low, None if value.high is None else by * value.high)


def unsure(difference: Interval) -> str:
    """What is added to a difference that could be none."""
    return "" if difference.excludes_zero else " (too close to call)"


def shown(difference: Interval, digits: int, unit: str = "") -> str:
    """``+0.041 (+0.012 to +0.070)``."""
    mean = f"{number(difference.mean, digits, sign=True)}{unit}"
    if difference.low is None or difference.high is None:
        return f"{mean} (no interval)"
    low, high = (number(end, digits, sign=True) for end in (difference.low, difference.high))
    return f"{mean} ({low} to {high}{unit})"


def level(value: Interval, digits: int = 2, unit: str = "") -> str:
    """``0.71 (95 % interval 0.68 to 0.74)``."""
    mean = f"{number(value.mean, digits)}{unit}"
    if value.low is None or value.high is None:
        return f"{mean} (no interval)"
    return f"{mean} (95 % interval {number(value.low, digits)} to {number(value.high, digits)}{unit})"


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """`−0.5`, with a proper minus."""
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    shown = f"{rounded:+.{digits}f}" if sign and rounded else f"{rounded:.{digits}f}"
    return shown.replace("-", "−")


def counted(count: int, noun: str) -> str:
    """`3 seeds`, `1 seed`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def capital(words: str) -> str:
    """With a capital first letter."""
    return words[:1].upper() + words[1:]
