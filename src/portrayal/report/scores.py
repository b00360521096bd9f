"""``scores.json`` as typed values: what is absent, null or not finite reads as ``None``, never as a crash."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portrayal.errors import UsageError

SCHEMA = 1
Json = dict[str, Any]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; ``low`` and ``high`` are ``None`` where only the mean was measured."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TimestepBin:
    """Held-out loss of one model against the base, within a range of timesteps."""

    low: float
    high: float
    log_ratio: float


@dataclass(frozen=True)
class ModelScores:
    """What was measured of one model; every measure may be missing."""

    name: str
    kind: str
    rank: int | None = None
    heldout_loss: Interval | None = None
    heldout_gain: Interval | None = None
    identity: Interval | None = None
    identity_normalised: float | None = None
    prompt: Interval | None = None
    lightness: Interval | None = None
    lightness_difference: float | None = None
    per_timestep: tuple[TimestepBin, ...] = ()


@dataclass(frozen=True)
class ControlScores:
    """How well one model kept to a control image of one kind, and to the person; nothing of it need be measured."""

    kind: str
    model: str
    agreement: Interval | None
    agreement_without: Interval | None
    identity: Interval | None
    identity_without: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two models on one axis: the difference ``a - b``, and what can be said of it.

    For the held-out loss the difference is the log of the ratio of the losses.
    """

    axis: str
    a: str
    b: str
    difference: Interval
    distinguishable: bool
    better: str | None
    equivalent: bool


@dataclass(frozen=True)
class Verdict:
    """What follows from the scores, in words and in names."""

    sentence: str = ""
    conclusions: tuple[str, ...] = ()
    winner: str | None = None
    best_lora: str | None = None
    tied: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """The network that judged one axis, and its licence."""

    axis: str
    name: str
    licence: str


@dataclass(frozen=True)
class Scores:
    """The whole of ``scores.json``."""

    base: str = ""
    class_noun: str = "person"
    instance_prompt: str = ""
    encoders: tuple[Encoder, ...] = ()
    notes: tuple[str, ...] = ()
    heldout_photos: frozenset[str] = frozenset()
    identity_real: Interval | None = None
    identity_stranger: Interval | None = None
    photo_lightness: float | None = None
    models: tuple[ModelScores, ...] = ()
    control: tuple[ControlScores, ...] = ()
    verdict: Verdict = field(default_factory=Verdict)


def load_scores(run_folder: Path) -> Scores:
    """Read ``scores.json`` of a run.

    Raises:
        UsageError: If it is missing, damaged or of another schema; names the command that writes it.
    """
    path = run_folder / "scores.json"
    remedy = f"Run `portrayal evaluate {run_folder}` first."
    if not path.is_file():
        raise UsageError(f"{path} does not exist: this run has not been evaluated.", remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}.", remedy) from error
    schema = table(content).get("schema")
    if schema != SCHEMA:
        raise UsageError(f"{path} has schema {schema!r}; this version reads schema {SCHEMA}.", remedy)
    return parse_scores(content)


def parse_scores(content: Json) -> Scores:
    """Turn the JSON of ``scores.json`` into values, leniently."""
    levels, encoders = table(content.get("levels")), table(content.get("encoders"))
    return Scores(
        base=text(content.get("base")),
        class_noun=text(content.get("class_noun")) or "person",
        instance_prompt=text(content.get("instance_prompt")),
        encoders=tuple(
            Encoder(axis, text(value.get("name")), text(value.get("licence")))
            for axis, value in encoders.items()
            if isinstance(value, dict) and value.get("name")
        ),
        notes=texts(encoders.get("notes")),
        heldout_photos=frozenset(texts(content.get("heldout_photos"))),
        identity_real=interval(levels.get("identity_real")),
        identity_stranger=interval(levels.get("identity_stranger")),
        photo_lightness=number(table(levels.get("colour_photos")).get("lightness")),
        models=tuple(_model(row) for row in rows(content.get("models")) if row.get("name")),
        control=tuple(_control(row) for row in rows(content.get("control")) if row.get("model")),
        verdict=_verdict(table(content.get("verdict"))),
    )


def _model(row: Json) -> ModelScores:
    colour = table(row.get("colour"))
    rank = number(row.get("rank"))
    return ModelScores(
        name=text(row["name"]),
        kind=text(row.get("kind")) or kind_of(text(row["name"])),
        rank=None if rank is None else int(rank),
        heldout_loss=interval(row.get("heldout_loss")),
        heldout_gain=interval(row.get("heldout_gain")),
        identity=interval(row.get("identity")),
        identity_normalised=number(row.get("identity_normalised")),
        prompt=interval(row.get("prompt")),
        lightness=interval(colour.get("lightness")),
        lightness_difference=number(colour.get("lightness_difference")),
        per_timestep=tuple(bin_ for row_ in rows(row.get("per_timestep")) if (bin_ := _timestep_bin(row_))),
    )


def _timestep_bin(row: Json) -> TimestepBin | None:
    low, high, ratio = (number(row.get(key)) for key in ("timestep_low", "timestep_high", "log_ratio_to_base"))
    return None if low is None or high is None or ratio is None else TimestepBin(low, high, ratio)


def _control(row: Json) -> ControlScores:
    measure = "pck" if "pck" in row else "edge_f1"
    keys = (measure, f"{measure}_without", "identity", "identity_without")
    return ControlScores(text(row.get("kind")) or "canny", text(row["model"]), *(interval(row.get(k)) for k in keys))


def _verdict(content: Json) -> Verdict:
    return Verdict(
        sentence=text(content.get("sentence")),
        conclusions=texts(content.get("conclusions")),
        winner=text(content.get("winner")) or None,
        best_lora=text(content.get("best_lora")) or None,
        tied=texts(content.get("tied")),
        comparisons=tuple(found for row in rows(content.get("comparisons")) if (found := _comparison(row))),
    )


def _comparison(row: Json) -> Comparison | None:
    difference = interval(row.get("difference"))
    if difference is None:
        return None
    axis, a, b = (text(row.get(key)) for key in ("axis", "a", "b"))
    better, equivalent = text(row.get("better")) or None, row.get("equivalent") is True
    return Comparison(axis, a, b, difference, row.get("distinguishable") is True, better, equivalent)


def kind_of(name: str) -> str:
    """Guess a model's kind from its name, for a model that does not say it."""
    return next((kind for kind in ("base", "unet", "lora") if name.startswith(kind)), "other")


def number(value: object) -> float | None:
    """Read a finite number, or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(value: object) -> Interval | None:
    """Read ``{"mean", "low", "high"}`` or a bare number; nothing without a finite mean."""
    content = table(value)
    mean = number(content.get("mean")) if content else number(value)
    return None if mean is None else Interval(mean, number(content.get("low")), number(content.get("high")))


def text(value: object) -> str:
    """Read a string or a number as text; anything else is empty."""
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def texts(value: object) -> tuple[str, ...]:
    """Read a list of strings, leaving out what is empty."""
    return tuple(found for item in value if (found := text(item))) if isinstance(value, list) else ()


def table(value: object) -> Json:
    """Read a JSON object; anything else is empty."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[Json]:
    """Read a list of JSON objects, leaving out anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
