"""Numbers as the sentences of a verdict have them."""

from __future__ import annotations

from portrayal.evaluation.intervals import Interval
from portrayal.sentences import Said, say


def scaled(value: Interval, by: float) -> Interval:
    """The interval in another unit."""
    low = None if value.low is None else by * value.low
    return Interval(by * value.mean, low, None if value.high is None else by * value.high)


def shown(difference: Interval, digits: int, unit: str = "") -> Said:
    """``+0.041 (+0.012 to +0.070)``."""
    mean = f"{number(difference.mean, digits, sign=True)}{unit}"
    if difference.low is None or difference.high is None:
        return say("number.difference_alone", mean=mean)
    low, high = (number(end, digits, sign=True) for end in (difference.low, difference.high))
    return say("number.difference", mean=mean, low=low, high=f"{high}{unit}")


def level(value: Interval, digits: int = 2, unit: str = "") -> Said:
    """``0.71 (95 % interval 0.68 to 0.74)``."""
    mean = f"{number(value.mean, digits)}{unit}"
    if value.low is None or value.high is None:
        return say("number.level_alone", mean=mean)
    low, high = (number(end, digits) for end in (value.low, value.high))
    return say("number.level", mean=mean, low=low, high=f"{high}{unit}")


def number(value: float, digits: int, *, sign: bool = False) -> str:
    """`−0.5`, with a proper minus."""
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    shown = f"{rounded:+.{digits}f}" if sign and rounded else f"{rounded:.{digits}f}"
    return shown.replace("-", "−")
