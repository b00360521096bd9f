"""The third screen: how thorough, on which base, what it takes; and every setting for those who want them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from portrayal.studio.desk import outlook
from portrayal.studio.forms import Field, fields, parse, table_text
from portrayal.studio.page.asked import Action, Asked, Outcome, Values, Wrong
from portrayal.studio.worker import ensure_worker

QUALITIES = ("quick", "balanced", "thorough")
BASES = ("pocket", "sd15")
OWN_PLACE = frozenset({"base.name", "subject.class_noun"})
"""Settings that have a field of their own: on this screen and on that of the photos."""


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    choices = asked.mine.choices
    found = outlook(asked.mine)
    base = choices.base if choices.base != "auto" else found.base if found else "auto"
    typed: Mapping[str, Any] = outcome.values.get("settings") or {}
    return {
        "choices": choices,
        "qualities": QUALITIES,
        "bases": BASES,
        "base": base,
        "other": base not in (*BASES, "auto", ""),
        "outlook": found,
        "sections": sections(asked, typed),
        "changed": len(choices.overrides),
        "locked": asked.mine.started,
        "under_way": asked.state in ("queued", "running", "paused", "done", "failed"),
        "open": bool(typed),
        "poll": 700 if found is None else 0,
    }


def sections(asked: Asked, typed: Mapping[str, Any]) -> list[tuple[str, list[tuple[Field, Any, str]]]]:
    """Every setting by the section it belongs to, with what stands in its field and what is usual."""
    kept = asked.mine.choices.overrides
    shown = [one for one in fields(asked.mine.recipe) if one.key not in OWN_PLACE]
    found = []
    for name, group in groupby(shown, key=lambda one: one.section.split(".")[0]):
        rows = [
            (one, typed.get(one.key, in_field(one, kept.get(one.key, one.default))), usual(asked, one)) for one in group
        ]
        found.append((name, rows))
    return found


def in_field(one: Field, value: Any) -> Any:
    """A value as its field shows it."""
    match one.kind:
        case "yes":
            return bool(value)
        case "choices":
            return [str(part) for part in value or ()]
        case "list":
            return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value or ())
        case "table":
            return table_text(value) if isinstance(value, dict) else str(value or "")
        case "whole" | "number":
            return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        case _:
            return "" if value is None else str(value)


def usual(asked: Asked, one: Field) -> str:
    """What is usual, in a few words."""
    t = asked.t
    if one.kind == "table":
        return ""
    value = in_field(one, one.default)
    said = (
        t("common.yes" if value else "common.no")
        if one.kind == "yes"
        else ", ".join(value)
        if one.kind == "choices"
        else value
    )
    return t("plan.usual", value=said or t("plan.nothing"))


def choose(asked: Asked, values: Values) -> Outcome:
    """Take another size of study, or another base."""
    changes = {key: str(values[key]) for key in ("quality", "base") if values.get(key)}
    if changes.get("base") == "other":
        named = str(values.get("base_name", "")).strip()
        parsed = parse({"base.name": named}, asked.mine.recipe) if named else None
        if parsed and parsed.errors:
            return Outcome(wrong=Wrong(asked.t("plan.wrong"), fields=parsed.errors))
        changes["base"] = named
    if changes.get("quality", "quick") not in QUALITIES:
        del changes["quality"]
    asked.mine.choose(**{key: value for key, value in changes.items() if value})
    return Outcome()


def save(asked: Asked, values: Values) -> Outcome:
    """Keep the settings of the form, if all can be meant."""
    known = {one.key for one in fields(asked.mine.recipe)} - OWN_PLACE
    given = {key: value for key, value in values.items() if key in known}
    parsed = parse(given, asked.mine.recipe)
    if parsed.errors:
        return Outcome(wrong=Wrong(asked.t("plan.wrong"), fields=parsed.errors), values={"settings": given})
    asked.mine.choose(overrides=parsed.overrides)
    return Outcome(said=asked.t("plan.saved"))


def reset(asked: Asked, values: Values) -> Outcome:
    """Forget every changed setting."""
    asked.mine.choose(overrides={})
    return Outcome(said=asked.t("plan.saved"), refill=True)


def start(asked: Asked, values: Values) -> Outcome:
    """Put the run into the queue and go to watch it."""
    if not asked.mine.started:
        asked.mine.choose(settled=True)
    asked.queue.submit(asked.mine, "run")
    ensure_worker(asked.queue.root, asked.queue.recipe)
    return Outcome(go="train")


ACTIONS: dict[str, Action] = {"choose": choose, "save": save, "reset": reset, "start": start}
