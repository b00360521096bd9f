"""What many runs say together: which model wins how often, how likeness is spread, who is out of line, what failed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from portrayal.scale.outcomes import Outcome
from portrayal.scale.subjects import Study

Json = dict[str, Any]
ENOUGH = 5
"""Subjects from which on one can be out of line."""
FAR = 3.5
"""Robust deviations that are far (Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers")."""


def summarise(studies: Sequence[Study], outcomes: Mapping[str, Outcome], seconds: float) -> Json:
    """The summary of a batch.

    Args:
        studies: All of them.
        outcomes: What became of those that are known.
        seconds: The batch took, this time.
    """
    known = [outcomes[study.name] for study in studies if study.name in outcomes]
    done = [one for one in known if one.done and one.digest]
    rows = [row(one) for one in known if one.done]
    failed = [{"name": one.name, "tries": one.tries, **(one.error or {})} for one in known if not one.done]
    waiting = [study.name for study in studies if study.name not in outcomes]
    return {
        "schema": 1,
        "date": time.strftime("%Y-%m-%d"),
        "subjects": len(studies),
        "done": len(rows),
        "failed": failed,
        "waiting": waiting,
        "seconds": seconds,
        "work_seconds": round(sum(one.seconds for one in known), 1),
        "again": sum(one.tries - 1 for one in known),
        "wins": wins(done),
        "identity": {model: spread(values_of(done, model, "normalised")) for model in models_of(done)},
        "outliers": outliers(rows),
        "rows": rows,
    }


def row(outcome: Outcome) -> Json:
    """One subject: what is recommended, and how it does."""
    verdict, models = outcome.digest.get("verdict", {}), outcome.digest.get("models", {})
    model = verdict.get("recommended")
    of_model = models.get(model, {})
    return {
        "name": outcome.name,
        "recipe": outcome.digest.get("recipe", ""),
        "photos": outcome.digest.get("photos"),
        "recommended": model,
        "won": verdict.get("winner") is not None,
        "step": of_model.get("step"),
        "identity": of_model.get("identity"),
        "normalised": of_model.get("normalised"),
        "prompt": of_model.get("prompt"),
        "gain": of_model.get("gain"),
        "sentence": verdict.get("sentence", ""),
        "seconds": outcome.seconds,
        "tries": outcome.tries,
        "pictures": outcome.digest.get("pictures", []),
    }


def models_of(done: Sequence[Outcome]) -> list[str]:
    """The trained models of all runs, in the order they are first met."""
    return list(dict.fromkeys(name for one in done for name in one.digest["models"] if name != "base"))


def wins(done: Sequence[Outcome]) -> Json:
    """How often each model is recommended, and how often because it won, not because it is the smallest of equals."""
    recommended = Counter(one.digest["verdict"]["recommended"] or "none" for one in done)
    won = Counter(one.digest["verdict"]["winner"] for one in done if one.digest["verdict"]["winner"])
    names = [*models_of(done), *(["none"] if recommended["none"] else [])]
    return {name: {"recommended": recommended[name], "won": won[name]} for name in names}


def values_of(done: Sequence[Outcome], model: str, key: str) -> list[float]:
    """A score of a model over the subjects that have it."""
    found = [one.digest["models"].get(model, {}).get(key) for one in done]
    return [float(value) for value in found if value is not None]


def spread(values: Sequence[float]) -> Json | None:
    """Where values lie: median, quartiles, ends, and the values themselves; nothing of none."""
    if not values:
        return None
    low, first, middle, third, high = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return {"median": middle, "quartiles": [first, third], "range": [low, high], "values": sorted(values)}


def outliers(rows: Sequence[Json]) -> list[Json]:
    """Subjects whose likeness, by the model recommended to them, is far from the others': see to their photos first."""
    measured = [one for one in rows if one["normalised"] is not None]
    if len(measured) < ENOUGH:
        return []
    values = np.array([one["normalised"] for one in measured])
    middle = np.median(values)
    deviation = np.median(np.abs(values - middle))
    if deviation == 0:
        return []
    scores = 0.6745 * (values - middle) / deviation
    return [
        {"name": one["name"], "normalised": one["normalised"], "deviations": round(float(score), 1)}
        for one, score in zip(measured, scores, strict=True)
        if abs(score) > FAR
    ]
