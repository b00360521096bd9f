"""The fifth screen: any two models at one scene and seed, what was measured of all, and blind votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from portrayal.studio.compare import Measured, Row, Table, table
from portrayal.studio.page.asked import Action, Asked, Outcome, Values
from portrayal.studio.votes import Choice, Tally, next_pair, tally, vote

SIDE = 1024
"""Pixels of a picture in the slider, at most."""


@dataclass(frozen=True)
class Shown:
    """One picture in the row of all models."""

    model: str
    address: str
    near: str
    similarity: str


@dataclass(frozen=True)
class ScoreRow:
    """One model in the table: each measure as its mean and its interval."""

    model: str
    identity: tuple[str, str]
    prompt: tuple[str, str]
    votes: str


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    found = table(asked.mine)
    if found is None:
        return {"models": []}
    scene, a, b, seed = picked(asked, found)
    counted, pair = tally(asked.mine), next_pair(asked.mine)
    t = asked.t
    return {
        "models": found.models,
        "named": [(name, asked.model(name)) for name in found.models],
        "scenes": [(name, name.replace("_", " ")) for name, _ in found.scenes],
        "seeds": [(str(number), str(number + 1)) for number in found.seeds],
        "scene": scene,
        "scene_label": scene.replace("_", " "),
        "a": a,
        "b": b,
        "seed": str(seed),
        "left": address(asked, found, scene, a, seed),
        "right": address(asked, found, scene, b, seed),
        "cells": [shown(asked, found, scene, model, seed) for model in found.models if found.cell(scene, model, seed)],
        "scores": [score_row(asked, row, counted) for row in found.rows],
        "levels": [t.number(one.mean, 2) for one in (found.stranger, found.real) if one] if found.real else [],
        "recommended": found.verdict.recommended if found.verdict else None,
        "pair": pair
        and {"id": pair.id, "scene": pair.scene, **{side: asked.pair(pair.id, side) for side in ("a", "b")}},
        "tally": [said(asked, one) for one in counted],
    }


def picked(asked: Asked, found: Table) -> tuple[str, str, str, int]:
    """Scene, models left and right, and number of the picture: as the address says, else what tells most."""
    scenes = [name for name, _ in found.scenes]
    best = found.verdict.recommended if found.verdict else None
    right = best if best in found.models else found.models[-1]
    left = "base" if "base" in found.models else found.models[0]
    place = asked.place
    seed = int(place["seed"]) if place.get("seed", "").isdecimal() else 0
    return (
        place["scene"] if place.get("scene") in scenes else scenes[0],
        place["a"] if place.get("a") in found.models else left,
        place["b"] if place.get("b") in found.models else right,
        seed if seed in found.seeds else found.seeds[0],
    )


def address(asked: Asked, found: Table, scene: str, model: str, seed: int) -> str:
    """The address of a picture; nothing if it was not painted."""
    cell = found.cell(scene, model, seed)
    return asked.picture(cell.path, SIDE) if cell else ""


def shown(asked: Asked, found: Table, scene: str, model: str, seed: int) -> Shown:
    """A picture with the training photo that it is nearest to."""
    cell = found.cells[scene, model, seed]
    near = asked.picture(cell.near, 160) if cell.near and model != "base" else ""
    similarity = asked.t.number(cell.similarity, 2) if near and cell.similarity is not None else ""
    return Shown(model, asked.picture(cell.path, 320), near, similarity)


def score_row(asked: Asked, row: Row, counted: list[Tally]) -> ScoreRow:
    """What was measured of a model, and how it did in the votes."""
    wins = sum(one.wins if one.a == row.model else one.losses for one in counted if row.model in (one.a, one.b))
    losses = sum(one.losses if one.a == row.model else one.wins for one in counted if row.model in (one.a, one.b))
    votes = f"{wins} : {losses}" if wins or losses else "–"
    return ScoreRow(row.model, measure(asked, row.identity), measure(asked, row.prompt), votes)


def measure(asked: Asked, value: Measured | None) -> tuple[str, str]:
    """A mean and its interval as texts."""
    t = asked.t
    if value is None:
        return "–", ""
    if value.low is None or value.high is None:
        return t.number(value.mean, 3), t("compare.no_interval")
    return t.number(value.mean, 3), t("compare.interval", low=t.number(value.low, 3), high=t.number(value.high, 3))


def said(asked: Asked, one: Tally) -> tuple[str, str, str]:
    """What the votes said of two models: who, how often, which share."""
    t, a, b = asked.t, asked.model(one.a), asked.model(one.b)
    share = ""
    if one.share is not None and one.low is not None and one.high is not None:
        share = t(
            "compare.tally_share", a=a, share=t.percent(one.share), low=t.percent(one.low), high=t.percent(one.high)
        )
    return (
        t("compare.tally", a=a, b=b),
        t("compare.tally_value", wins=one.wins, losses=one.losses, ties=one.ties),
        share,
    )


def pick(asked: Asked, values: Values) -> Outcome:
    """Look at another scene, model or picture."""
    return Outcome(values={"place": {key: str(values[key]) for key in ("scene", "a", "b", "seed") if key in values}})


def cast_vote(asked: Asked, values: Values) -> Outcome:
    """Count a vote and tell whose pictures they were."""
    choice = cast(Choice, str(values.get("choice", "")))
    left, right = vote(asked.mine, str(values.get("pair", "")), choice)
    return Outcome(said=asked.t("compare.voted", a=asked.model(left), b=asked.model(right)))


ACTIONS: dict[str, Action] = {"pick": pick, "vote": cast_vote}
