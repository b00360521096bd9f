"""The rule that picks a rank, and a side between the full UNet and the LoRA; its words are in ``conclusions``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portrayal.evaluation.comparisons import GATES, LESS_IS_BETTER, Axis, Comparisons, Margins, ModelEvidence
from portrayal.evaluation.expectation import expect, smallest_no_worse

SURE = 0.95
"""Chance from which a smaller LoRA counts as no worse."""


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
    """By name, the gates at which a LoRA is worse than the best rank, surely and by more than the margin."""

    leader: ModelEvidence | None
    """The LoRA of the highest expectation among those not set aside."""

    best_lora: ModelEvidence | None
    """The leader, or a smaller one that is shown to be no worse by more than the margin."""

    chances: Mapping[str, float]
    """By name, the chance of each LoRA that is not set aside to be the best of them."""

    tied: tuple[ModelEvidence, ...]
    """The leader and all that are not distinguishably worse, smallest first."""

    preferred: ModelEvidence | None
    """Of full UNet and best LoRA the better, or the only one; ``None`` when neither is."""

    trade_off: bool
    """Whether the one is better on the axis and the other passes a gate that it does not."""

    beats_base: bool
    """Whether :attr:`recommended` is distinguishably better than the base; true without a base to compare with."""

    @property
    def recommended(self) -> ModelEvidence | None:
        """The preferred one; without a preference the LoRA, which is the smaller file."""
        return self.preferred or self.best_lora or self.unet

    @property
    def winner(self) -> ModelEvidence | None:
        """The preferred one, if it was also shown to be better than the untouched base."""
        return self.preferred if self.beats_base else None


def choose(evidence: Sequence[ModelEvidence], comparisons: Comparisons, margins: Margins) -> Choice:
    """Apply the rule of :func:`portrayal.evaluation.verdict.decide`."""
    base = next((model for model in evidence if model.kind == "base"), None)
    loras = tuple(sorted((m for m in evidence if m.kind == "lora"), key=lambda m: (m.rank or 0, m.name)))
    unets = [model for model in evidence if model.kind == "unet"]
    tuned = [*loras, *unets]
    axis: Axis = "identity" if tuned and all(m.measured("identity") for m in tuned) else "heldout_loss"
    unet = max(unets, key=lambda m: goodness(m, axis), default=None)

    failed = {model.name: found for model in loras if (found := _failed(model, loras, comparisons, margins))}
    set_aside = tuple(model for model in loras if model.name in failed)
    if len(set_aside) == len(loras):  # each behind another in something else: then none is out
        failed, set_aside = {}, ()
    eligible = [model for model in loras if model not in set_aside]
    leader, best, chances = _best(eligible, axis, margins)
    tied = tuple(m for m in eligible if m is leader or not _worse(comparisons, axis, m, leader))

    preferred, trade_off = _side(best, unet, axis, comparisons, margins)
    recommended = preferred or best or unet
    against_base = comparisons.find(axis, recommended, base) if recommended else None
    beats_base = against_base is None or against_base.better == against_base.a
    return Choice(
        axis, base, unet, loras, set_aside, failed, leader, best, chances, tied, preferred, trade_off, beats_base
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
    model: ModelEvidence, loras: tuple[ModelEvidence, ...], comparisons: Comparisons, margins: Margins
) -> tuple[Axis, ...]:
    """The gates at which a LoRA is worse than the best rank there."""
    failed: list[Axis] = []
    for gate in GATES:
        best = max(loras, key=lambda m: goodness(m, gate))
        if best is not model and gate in gates_lost(comparisons, model, best, margins):
            failed.append(gate)
    return tuple(failed)


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


def _worse(comparisons: Comparisons, axis: Axis, a: ModelEvidence, b: ModelEvidence | None) -> bool:
    found = comparisons.find(axis, a, b)
    return found is not None and found.finds_worse(a.name)
