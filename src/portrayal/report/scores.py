"""``scores.json`` as typed values: what is absent, null or not finite reads as ``None``, never as a crash."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portrayal.errors import UsageError

SCHEMA = 2
Json = dict[str, Any]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; ``low`` and ``high`` are ``None`` where only the mean was measured."""

    mean: float
    low: float | None = None
    high: float | None = None

    def negated(self) -> Interval:
        """The interval of the opposite difference."""
        return Interval(-self.mean, None if self.high is None else -self.high, None if self.low is None else -self.low)

    def as_change(self) -> Interval:
        """Of the log of a ratio, the change as a share: 0.0198 is 2 % more."""
        low, high = (None if end is None else math.expm1(end) for end in (self.low, self.high))
        return Interval(math.expm1(self.mean), low, high)


@dataclass(frozen=True)
class TimestepBin:
    """Held-out loss of one model against the base, within a range of timesteps."""

    low: float
    high: float
    log_ratio: float


@dataclass(frozen=True)
class CurveScores:
    """How a model did over its training: log ratio of held-out loss to the base's, likeness, and where it is best."""

    steps: tuple[int, ...]
    loss: tuple[Interval, ...]
    identity: tuple[Interval | None, ...]
    lowest_loss_step: int
    overfitting_from: int | None
    best_step: int


@dataclass(frozen=True)
class ModelScores:
    """What was measured of one model; every measure may be missing."""

    name: str
    kind: str
    rank: int | None = None
    learning_rate: float | None = None
    """Of a LoRA, where the study has several."""

    heldout_loss: Interval | None = None
    heldout_gain: Interval | None = None
    identity: Interval | None = None
    identity_normalised: float | None = None
    prompt: Interval | None = None
    drift: Interval | None = None
    diversity: Interval | None = None
    copying: Interval | None = None
    lightness: Interval | None = None
    saturation: Interval | None = None
    contrast: Interval | None = None
    clipped: Interval | None = None
    lightness_difference: float | None = None
    per_timestep: tuple[TimestepBin, ...] = ()
    curve: CurveScores | None = None
    trainings: tuple[float, ...] = ()
    """Likeness of each training's pictures."""

    num_trainings: int = 0


@dataclass(frozen=True)
class Strength:
    """What was measured at one strength of a control image; nothing of it need be."""

    scale: float
    agreement: Interval | None
    identity: Interval | None


@dataclass(frozen=True)
class ControlScores:
    """How well one model kept to a control image of one kind, and to the person, by rising strength."""

    kind: str
    model: str
    at: tuple[Strength, ...]


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
    recommended: str | None = None
    best_lora: str | None = None
    leader: str | None = None
    set_aside: dict[str, tuple[str, ...]] = field(default_factory=dict)
    chances: dict[str, float] = field(default_factory=dict)
    """The chance of each LoRA that is still in question to be the best."""

    behind: tuple[str, ...] = ()
    """LoRAs that are clearly behind in likeness, and were not trained further."""

    lacks: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Diverged:
    """A training whose loss stopped being finite."""

    model: str
    rank: int | None
    learning_rate: float | None
    step: int | None


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
    folds: tuple[frozenset[str], ...] = ()
    """Ids of the photos that were held out together."""

    photo_colours: dict[str, float] = field(default_factory=dict)
    identity_real: Interval | None = None
    identity_stranger: Interval | None = None
    photo_lightness: float | None = None
    models: tuple[ModelScores, ...] = ()
    control: tuple[ControlScores, ...] = ()
    verdict: Verdict = field(default_factory=Verdict)
    diverged: tuple[Diverged, ...] = ()
    checks: tuple[str, ...] = ()
    """Statements on the validity of the measurement that were checked and hold."""


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
        folds=_folds(table(content.get("study")).get("folds")),
        photo_colours={
            name: found
            for name, value in table(levels.get("colour_photos")).items()
            if (found := number(value)) is not None
        },
        identity_real=interval(levels.get("identity_real")),
        identity_stranger=interval(levels.get("identity_stranger")),
        photo_lightness=number(table(levels.get("colour_photos")).get("lightness")),
        models=tuple(_model(row) for row in rows(content.get("models")) if row.get("name")),
        control=tuple(_control(row) for row in rows(content.get("control")) if row.get("model")),
        verdict=_verdict(table(content.get("verdict"))),
        diverged=tuple(_diverged(row) for row in rows(content.get("diverged")) if text(row.get("model"))),
        checks=tuple(text(row.get("statement")) for row in rows(content.get("checks")) if row.get("holds") is True),
    )


def _model(row: Json) -> ModelScores:
    colour = table(row.get("colour"))
    return ModelScores(
        name=text(row["name"]),
        kind=text(row.get("kind")) or kind_of(text(row["name"])),
        rank=whole(row.get("rank")),
        learning_rate=number(row.get("learning_rate")),
        heldout_loss=interval(row.get("heldout_loss")),
        heldout_gain=interval(row.get("heldout_gain")),
        identity=interval(row.get("identity")),
        identity_normalised=number(row.get("identity_normalised")),
        prompt=interval(row.get("prompt")),
        drift=interval(row.get("drift")),
        diversity=interval(row.get("diversity")),
        copying=interval(row.get("copying")),
        lightness=interval(colour.get("lightness")),
        saturation=interval(colour.get("saturation")),
        contrast=interval(colour.get("contrast")),
        clipped=interval(colour.get("clipped")),
        lightness_difference=number(colour.get("lightness_difference")),
        per_timestep=tuple(bin_ for row_ in rows(row.get("per_timestep")) if (bin_ := _timestep_bin(row_))),
        curve=_curve(table(row.get("curve"))),
        trainings=tuple(
            found for one in rows(row.get("trainings")) if (found := number(one.get("identity"))) is not None
        ),
        num_trainings=len(rows(row.get("trainings"))),
    )


def _diverged(row: Json) -> Diverged:
    """One that does not say its rank and learning rate has them in its name."""
    model = text(row["model"])
    rank, rate = lora_of(model)
    told = whole(row.get("rank"))
    return Diverged(
        model,
        rank if told is None else told,
        number(row.get("learning_rate")) or rate,
        whole(row.get("step")),
    )


def lora_of(name: str) -> tuple[int | None, float | None]:
    """Rank and learning rate by a name such as ``lora-32`` or ``lora-32-lr15e-5``."""
    found = re.fullmatch(r"lora-(\d{1,9})(?:-lr(\d{1,9}e-?\d{1,2}))?", name)
    return (int(found[1]), float(found[2]) if found[2] else None) if found else (None, None)


def _folds(value: object) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(texts(part)) for part in value) if isinstance(value, list) else ()


def _curve(content: Json) -> CurveScores | None:
    steps, losses, likeness = (content.get(key) for key in ("steps", "loss", "identity"))
    best, lowest = number(content.get("best_step")), number(content.get("lowest_loss_step"))
    if not isinstance(steps, list) or not isinstance(losses, list) or best is None or lowest is None:
        return None
    loss = tuple(found for one in losses if (found := interval(one)) is not None)
    identity = tuple(interval(one) for one in likeness) if isinstance(likeness, list) else ()
    if not len(steps) == len(loss) == len(identity):
        return None
    onset = whole(content.get("overfitting_from"))
    numbers = tuple(int(step) for step in steps if number(step) is not None)
    return CurveScores(numbers, loss, identity, int(lowest), onset, int(best))


def _timestep_bin(row: Json) -> TimestepBin | None:
    low, high, ratio = (number(row.get(key)) for key in ("timestep_low", "timestep_high", "log_ratio_to_base"))
    return None if low is None or high is None or ratio is None else TimestepBin(low, high, ratio)


def _control(row: Json) -> ControlScores:
    strengths = (
        Strength(scale, interval(one.get("agreement")), interval(one.get("identity")))
        for one in rows(row.get("at"))
        if (scale := number(one.get("scale"))) is not None
    )
    return ControlScores(text(row.get("kind")) or "canny", text(row["model"]), tuple(strengths))


def _verdict(content: Json) -> Verdict:
    return Verdict(
        sentence=text(content.get("sentence")),
        conclusions=texts(content.get("conclusions")),
        winner=text(content.get("winner")) or None,
        recommended=text(content.get("recommended")) or None,
        leader=text(content.get("leader")) or None,
        set_aside={name: texts(gates) for name, gates in table(content.get("set_aside")).items()},
        chances={
            name: chance for name, told in table(content.get("chances")).items() if (chance := number(told)) is not None
        },
        behind=texts(content.get("behind")),
        lacks=texts(content.get("lacks")),
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


def whole(value: object) -> int | None:
    """Read a finite number as an integer, or nothing."""
    found = number(value)
    return None if found is None else int(found)


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
