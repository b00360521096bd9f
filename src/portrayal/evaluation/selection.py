"""The rule that picks a rank, and a side between the full UNet and the LoRA; its words are in ``conclusions``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portrayal.evaluation.comparisons import GATES, LESS_IS_BETTER, Axis, Comparisons, Margins, ModelEvidence
from portrayal.evaluation.expectation import expect, smallest_no_worse

SURE = 0.95
"""Chance from which a smaller LoRA counts as no worse."""

MOST_ALLOWED = 3.0
"""Margins of a gate that a lead in likeness can make up for, at most."""


@dataclass(frozen=True)
class Choice:
    """What the rule picked."""

    axis: Axis
    """What decided: identity, or the held-out loss where identity could not be measured for every tuned model."""

    base: ModelEvidence | None
    unet: ModelEvidence | None
    loras: tuple[ModelEvidence, ...]
    """By rank, smallest first."""

    set_aside: tuple[ModelEvidence, ...]
    """LoRAs that do not pass a gate: see ``gates_failed``."""

    gates_failed: Mapping[str, tuple[Axis, ...]]
    """By name, the gates at which a LoRA is worse than another, surely and by more than its likeness makes up for."""

    behind: tuple[ModelEvidence, ...]
    """LoRAs that pass the gates and are clearly behind the leader."""

    leader: ModelEvidence | None
    """The LoRA of the highest expectation among those not set aside."""

    best_lora: ModelEvidence | None
    """The leader, or a smaller one that is shown to be no worse by more than the margin."""

    chances: Mapping[str, float]
    """By name, the chance of each LoRA to be the best; those that are set aside or clearly behind are not in it."""

    tied: tuple[ModelEvidence, ...]
    """The leader and all that are not distinguishably worse, smallest first."""

    preferred: ModelEvidence | None
    """Of full UNet and best LoRA the better, or the only one; ``None`` when neither is shown to be."""

    ahead: ModelEvidence | None
    """The full UNet, where nothing is preferred and it is ahead of the best LoRA by more than the margin on average."""

    trade_off: bool
    """Whether the one is better on the axis and the other passes a gate that it does not."""

    beats_base: bool
    """Whether :attr:`recommended` is distinguishably better than the base; true without a base to compare with."""

    @property
    def recommended(self) -> ModelEvidence | None:
        """The preferred one; without a preference the one that is ahead, or the LoRA, which is the smaller file."""
        return self.preferred or self.ahead or self.best_lora or self.unet

    @property
    def winner(self) -> ModelEvidence | None:
        """The preferred one, if it was also shown to be better than the untouched base."""
        return self.preferred if self.beats_base else None


def choose(evidence: Sequence[ModelEvidence], comparisons: Comparisons, margins: Margins) -> Choice:
    """Apply the rule of :func:`portrayal.evaluation.verdict.decide`."""
    base = next((model for model in evidence if model.kind == "base"), None)
    loras = tuple(
        sorted((m for m in evidence if m.kind == "lora"), key=lambda m: (m.rank or 0, m.learning_rate or 0, m.name))
    )
    unets = [model for model in evidence if model.kind == "unet"]
    tuned = [*loras, *unets]
    axis: Axis = "identity" if tuned and all(m.measured("identity") for m in tuned) else "heldout_loss"
    unet = max(unets, key=lambda m: goodness(m, axis), default=None)

    failed = {model.name: found for model in loras if (found := _failed(model, loras, axis, comparisons, margins))}
    set_aside = tuple(model for model in loras if model.name in failed)
    if len(set_aside) == len(loras):  # each behind another in something else: then none is out
        failed, set_aside = {}, ()
    passing = [model for model in loras if model not in set_aside]
    eligible = [model for model in passing if not model.diverged] or passing
    leader, best, chances = _best(eligible, axis, margins)
    behind = tuple(m for m in eligible if chances and m.name not in chances)
    near = [m for m in eligible if m not in behind]
    tied = tuple(m for m in near if m is leader or not _worse(comparisons, axis, m, leader))

    preferred, trade_off = _side(best, unet, axis, comparisons, margins)
    ahead = None if preferred or trade_off else _unet_ahead(best, unet, axis, comparisons, margins)
    recommended = preferred or ahead or best or unet
    against_base = comparisons.find(axis, recommended, base) if recommended else None
    beats_base = against_base is None or against_base.better == against_base.a
    return Choice(
        axis=axis,
        base=base,
        unet=unet,
        loras=loras,
        set_aside=set_aside,
        gates_failed=failed,
        behind=behind,
        leader=leader,
        best_lora=best,
        chances=chances,
        tied=tied,
        preferred=preferred,
        ahead=ahead,
        trade_off=trade_off,
        beats_base=beats_base,
    )


def _best(
    eligible: Sequence[ModelEvidence], axis: Axis, margins: Margins
) -> tuple[ModelEvidence | None, ModelEvidence | None, dict[str, float]]:
    """The leader, the LoRA to use, and the chances of all."""
    measured = {model.name: model for model in eligible if model.measured(axis)}
    if not measured:
        return None, None, {}
    expectation = expect([*measured.values()], axis, margins.of(axis))
    best = smallest_no_worse(expectation, measured, margins.of(axis), SURE)
    return measured[expectation.best], best, expectation.chances()


def goodness(model: ModelEvidence, axis: Axis) -> float:
    """Mean on an axis, turned so that more is better; lowest of all when not measured."""
    if not model.measured(axis):
        return float("-inf")
    return -model.mean(axis) if axis in LESS_IS_BETTER else model.mean(axis)


def gates_lost(comparisons: Comparisons, a: ModelEvidence, b: ModelEvidence, margins: Margins) -> tuple[Axis, ...]:
    """The gates at which ``a`` is worse than ``b`` by more than the margin, the whole interval said so."""
    found = {gate: comparisons.find(gate, a, b) for gate in GATES}
    return tuple(gate for gate, one in found.items() if one is not None and one.loses_by(margins.of(gate)))


def _failed(
    model: ModelEvidence,
    loras: tuple[ModelEvidence, ...],
    axis: Axis,
    comparisons: Comparisons,
    margins: Margins,
) -> tuple[Axis, ...]:
    """The gates at which a LoRA is surely worse than another one, by more than it makes up for.

    One margin of the gate is always allowed, and up to three more, one for each margin by which the LoRA leads in
    likeness: a LoRA that has hardly learned follows every prompt, and must not set aside the one that has.
    """
    failed = set[Axis]()
    for other in loras:
        lead = comparisons.find(axis, model, other)
        sign = -1 if axis in LESS_IS_BETTER else 1
        ahead = 0.0 if lead is None else sign * lead.difference.mean / margins.of(axis)
        allowed = 1 + min(max(ahead, 0.0), MOST_ALLOWED)
        for gate in GATES:
            found = comparisons.find(gate, model, other)
            if found is not None and found.loses_by(margins.of(gate) * allowed):
                failed.add(gate)
    return tuple(gate for gate in GATES if gate in failed)


def _side(
    lora: ModelEvidence | None,
    unet: ModelEvidence | None,
    axis: Axis,
    comparisons: Comparisons,
    margins: Margins,
) -> tuple[ModelEvidence | None, bool]:
    """Full UNet or LoRA: the preferred one, and whether each is better at something."""
    if lora is None or unet is None:
        return lora or unet, False
    ahead = int(_worse(comparisons, axis, lora, unet)) - int(_worse(comparisons, axis, unet, lora))
    passes = int(bool(gates_lost(comparisons, lora, unet, margins))) - int(
        bool(gates_lost(comparisons, unet, lora, margins))
    )
    balance = ahead + passes
    return (None if balance == 0 else unet if balance > 0 else lora), ahead * passes < 0


def _unet_ahead(
    lora: ModelEvidence | None,
    unet: ModelEvidence | None,
    axis: Axis,
    comparisons: Comparisons,
    margins: Margins,
) -> ModelEvidence | None:
    """The full UNet, if it is ahead on average by more than the margin and loses no gate."""
    found = comparisons.find(axis, unet, lora) if lora is not None and unet is not None else None
    if found is None or unet is None or lora is None or gates_lost(comparisons, unet, lora, margins):
        return None
    lead = -found.difference.mean if axis in LESS_IS_BETTER else found.difference.mean
    return unet if lead > margins.of(axis) else None


def _worse(comparisons: Comparisons, axis: Axis, a: ModelEvidence, b: ModelEvidence | None) -> bool:
    found = comparisons.find(axis, a, b)
    return found is not None and found.finds_worse(a.name)
