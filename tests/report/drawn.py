"""Reads a chart's numbers back out of its SVG: where its ticks are, and what lies between them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SVG = "{http://www.w3.org/2000/svg}"
BASELINE = 3.61
"""By how much the baseline of a tick's label lies below its tick, in units of the drawing."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """The ticks of one side by their labels."""

    ticks: Mapping[str, float]
    logarithmic: bool = False

    def value(self, at: float) -> float:
        """What stands at a place, from the two ticks that are furthest apart."""
        numbers = sorted(
            (number, place) for label, place in self.ticks.items() if (number := parsed(label)) is not None
        )
        (low, first), (high, last) = numbers[0], numbers[-1]
        share = (at - first) / (last - first)
        if self.logarithmic:
            return float(low * (high / low) ** share)
        return low + share * (high - low)

    def label(self, at: float, within: float = 0.5) -> str | None:
        """The label of the tick at a place."""
        return next((label for label, place in self.ticks.items() if abs(place - at) <= within), None)


@dataclass(frozen=True)
class Mark:
    """A dot, in units of the axes; a ring is not filled."""

    x: float
    y: float
    colour: str
    filled: bool
    size: float


@dataclass(frozen=True)
class Line:
    """A line through points, in units of the axes."""

    points: list[Point]
    colour: str


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    x: Axis
    y: Axis
    texts: dict[str, Point]
    marks: list[Mark]
    lines: list[Line]
    areas: list[tuple[Point, Point]]
    """Filled shapes: the lower left and the upper right corner."""

    def of(self, colour: str) -> tuple[list[Mark], list[Line]]:
        """What is drawn in a colour."""
        return [one for one in self.marks if one.colour == colour], [one for one in self.lines if one.colour == colour]


def parsed(label: str) -> float | None:
    """The number on a tick."""
    found = re.fullmatch(r"([+−-]?[\d.]+)(?: %)?", label)
    return float(found[1].replace("−", "-")) if found else None


@dataclass(frozen=True)
class Frame:
    """Axes before anything in them is read: their sides in units of the drawing, ticks and texts."""

    group: ET.Element
    left: float
    right: float
    top: float
    bottom: float
    below: dict[str, float]
    beside: dict[str, float]
    texts: dict[str, Point]


def read(content: bytes, *, log_y: bool = False) -> list[Panel]:
    """The panels of a chart in the order in which they were made; one without ticks shares those of a neighbor."""
    root = ET.fromstring(content)
    figure = next(child for child in root if child.tag == f"{SVG}g")
    frames = [frame(group) for group in figure if is_axes(group)]
    assert frames
    shapes = {f"#{path.get('id')}": path for path in root.iter(f"{SVG}path") if path.get("id")}
    panels = []
    for one in frames:
        below = next(other.below for other in (one, *frames) if other.below and abs(other.left - one.left) < 0.1)
        beside = next(other.beside for other in (one, *frames) if other.beside and abs(other.top - one.top) < 0.1)
        axes = Axis(below), Axis(beside, log_y)
        inside = marks(one.group, shapes, *axes), lines(one.group, *axes), areas(one.group, *axes)
        panels.append(Panel(*axes, one.texts, *map(list, inside)))  # type: ignore[arg-type]
    return panels


def is_axes(group: ET.Element) -> bool:
    """Whether a group holds axes: it starts with their background, which neither the figure's nor a legend does."""
    inner = [child for child in group if child.tag == f"{SVG}g"]
    return len(inner) > 2 and len(inner[0]) == 1 and inner[0][0].get("style") == "fill: none"


def frame(group: ET.Element) -> Frame:
    """Sides and ticks of axes: a label of the first is centered below, of the second ends left of them."""
    xs, ys = zip(*points_of(group[0][0]), strict=True)
    found = Frame(group, min(xs), max(xs), min(ys), max(ys), {}, {}, {})
    for text in group.iter(f"{SVG}text"):
        style, words, turned = text.get("style", ""), "".join(text.itertext()), text.get("transform", "")
        if text.get("x") is None:
            at = re.findall(r"-?[\d.]+", turned)[:2]
            found.texts[words] = float(at[0]), float(at[1])
            continue
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        if "middle" in style and y > found.bottom and not turned and "font-size: 9.5px" in style:
            found.below[words] = x
        elif "end" in style and x < found.left and not turned:
            found.beside[words] = y - BASELINE
        else:
            found.texts[words] = x, y
    return found


def value(axis: Axis, at: float) -> float:
    """In the units of an axis of numbers; of one with names the place itself."""
    return axis.value(at) if sum(parsed(label) is not None for label in axis.ticks) > 1 else at


def marks(group: ET.Element, shapes: Mapping[str, ET.Element], across: Axis, up: Axis) -> Iterator[Mark]:
    for use in group.iter(f"{SVG}use"):
        shape = shapes[use.get("href", "")]
        style = use.get("style", "") + ";" + shape.get("style", "")
        colour = re.search(r"(?:fill|stroke): (#[0-9a-f]{6})", style)
        assert colour is not None
        size = max(x for x, _ in points_of(shape))
        at = float(use.get("x", "")), float(use.get("y", ""))
        yield Mark(value(across, at[0]), value(up, at[1]), colour[1], "fill: #" in style, size)


def lines(group: ET.Element, across: Axis, up: Axis) -> Iterator[Line]:
    for path in group.iter(f"{SVG}path"):
        style = path.get("style", "")
        colour = re.search(r"stroke: (#[0-9a-f]{6})", style)
        if colour and "clip-path" in path.attrib and "fill: none" in style:
            yield Line([(value(across, x), value(up, y)) for x, y in points_of(path)], colour[1])


def areas(group: ET.Element, across: Axis, up: Axis) -> Iterator[tuple[Point, Point]]:
    for path in group.iter(f"{SVG}path"):
        if "opacity" in path.get("style", "") and path.get("clip-path"):
            corners = [(value(across, x), value(up, y)) for x, y in points_of(path)]
            xs, ys = zip(*corners, strict=True)
            yield (min(xs), min(ys)), (max(xs), max(ys))


def points_of(path: ET.Element) -> list[Point]:
    """The points that a path goes through; of curves their ends."""
    found = []
    for command, numbers in re.findall(r"([MLC])([^MLCz]*)", path.get("d", "")):
        values = [float(number) for number in numbers.split()]
        assert len(values) == {"M": 2, "L": 2, "C": 6}[command]
        found.append((values[-2], values[-1]))
    assert all(map(math.isfinite, (one for point in found for one in point)))
    return found
