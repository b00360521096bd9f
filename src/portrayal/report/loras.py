"""Every LoRA of a study in one row: what was measured of it, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portrayal.report.record import Model, Record, lora_label
from portrayal.report.scores import Diverged, Interval
from portrayal.report.wording import ABSENT

_FAILED = {
    "prompt": "follows the prompt less",
    "drift": "lets other people turn into the person",
    "colour": "leaves the light of photos and base",
}


@dataclass(frozen=True)
class LoraView:
    """One LoRA and what the rule said of it."""

    name: str
    label: str
    rank: int | None
    learning_rate: float | None
    model: Model | None
    """Nothing of one that only diverged."""

    behind: Interval | None
    """Its likeness less the leader's, or how much more held-out loss it has, as a share; nothing for the leader."""

    chance: float | None
    """To be the best; nothing of one that is out of the question."""

    diverged: bool
    outcome: str


def lora_views(record: Record) -> tuple[LoraView, ...]:
    """Each LoRA, by rank and then by learning rate."""
    diverged = {one.model: one for one in reversed(record.scores.diverged)}
    loras = [model for model in record.models if model.kind == "lora"]
    found = [_measured(record, model, diverged.pop(model.name, None)) for model in loras]
    found += [_lost(one) for one in diverged.values()]
    return tuple(sorted(found, key=lambda lora: (lora.rank or 0, lora.learning_rate or 0.0, lora.name)))


def _measured(record: Record, model: Model, diverged: Diverged | None) -> LoraView:
    scores, verdict = model.scores, record.scores.verdict
    return LoraView(
        name=model.name,
        label=model.label,
        rank=scores.rank,
        learning_rate=scores.learning_rate,
        model=model,
        behind=_behind(record, model.name),
        chance=verdict.chances.get(model.name),
        diverged=diverged is not None,
        outcome=", ".join(_outcome(record, model, diverged)),
    )


def _lost(one: Diverged) -> LoraView:
    return LoraView(
        name=one.model,
        label=lora_label(one.model, one.rank, one.learning_rate),
        rank=one.rank,
        learning_rate=one.learning_rate,
        model=None,
        behind=None,
        chance=None,
        diverged=True,
        outcome=_diverged(one),
    )


def _behind(record: Record, name: str) -> Interval | None:
    """The difference to the leader, as it was tested."""
    verdict = record.scores.verdict
    axis = "heldout_loss" if "identity" in verdict.lacks else "identity"
    pair = {name, verdict.leader}
    row = next((row for row in verdict.comparisons if row.axis == axis and {row.a, row.b} == pair), None)
    if row is None:
        return None
    behind = row.difference if row.a == name else row.difference.negated()
    return behind.as_change() if axis == "heldout_loss" else behind


def _outcome(record: Record, model: Model, diverged: Diverged | None) -> Iterable[str]:
    """What became of a LoRA, the most important first."""
    verdict, name = record.scores.verdict, model.name
    if name == verdict.best_lora:
        yield "recommended" if verdict.recommended == name else "the best LoRA"
        if verdict.leader != name:
            yield "smaller or gentler than the leader and shown to be no worse"
    if name == verdict.leader:
        yield "the leader"
    if diverged is not None:
        yield _diverged(diverged)
    if name in verdict.set_aside:
        yield "set aside: it " + " and ".join(_FAILED.get(gate, gate) for gate in verdict.set_aside[name])
    elif name in verdict.behind:
        yield "clearly behind, not trained further"
    elif diverged is None and name not in (verdict.best_lora, verdict.leader):
        yield _against_the_leader(record, model)


def _against_the_leader(record: Record, model: Model) -> str:
    verdict = record.scores.verdict
    if not model.evaluated:
        return "not evaluated"
    if verdict.leader is None:
        return ABSENT
    if model.name in verdict.tied:
        return "cannot be told apart from the leader"
    return "surely worse than the leader"


def _diverged(one: Diverged) -> str:
    return "diverged" if one.step is None else f"diverged at step {one.step}"
