"""The verdict in plain words: only what the numbers hold, with the numbers, and hedged where they are close.

The words themselves are in `sentences.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from portrayal.evaluation.comparisons import (
    GATES,
    Axis,
    Comparison,
    Comparisons,
    Margins,
    ModelEvidence,
    estimate_of,
    lora_title,
)
from portrayal.evaluation.curves import Curve
from portrayal.evaluation.intervals import Floats, Interval, mean_estimate
from portrayal.evaluation.metrics import heldout_gain, normalised
from portrayal.evaluation.phrases import level, number, scaled, shown
from portrayal.evaluation.selection import Choice, gates_lost
from portrayal.evaluation.sweep import ControlEvidence, control_findings
from portrayal.sentences import Said, clauses, listed, paragraph, rate_text, say

NOTICEABLE_LIGHTNESS = 2.0
"""Difference of mean L* from which pictures are called brighter or darker."""


@dataclass(frozen=True, eq=False)
class Levels:
    """What others score on the same encoders; ``None`` where not measured."""

    identity_real: Interval | None = None
    """The person's held-out photos against their training photos."""

    identity_stranger: Interval | None = None
    """Other people against the held-out photos."""

    photo_lightness: Floats | None = None
    """Mean L* of each of the person's photos, 0 to 100, shape ``(N,)``."""


@dataclass(frozen=True, eq=False)
class Setting:
    """All that the sentences are made from."""

    choice: Choice
    comparisons: Comparisons
    margins: Margins
    levels: Levels
    curves: Mapping[str, Curve]
    diverged: Sequence[tuple[int, float | None]] = ()
    """Rank and learning rate of each LoRA that diverged."""


def sentence_of(setting: Setting) -> Said:
    """The verdict: which LoRA, then full UNet or LoRA, then whether that beats the base."""
    choice = setting.choice
    if choice.recommended is None:
        return paragraph(say("verdict.nothing"))
    parts = []
    if choice.axis == "heldout_loss":
        parts.append(say("verdict.loss_decides"))
    if len(choice.loras) > 1:
        parts.append(_rank_verdict(setting))
    parts.append(_side_verdict(setting, choice.recommended))
    if not choice.beats_base:
        parts.append(_base_verdict(setting, choice.recommended))
    return paragraph(*parts)


def conclusions_of(setting: Setting, control: Sequence[ControlEvidence]) -> tuple[Said, ...]:
    """What was found: identity, ranks, full UNet, prompt, class, brightness, control, held-out loss, its course."""
    choice = setting.choice
    model = choice.recommended
    if model is None:
        return ()
    findings = [_identity(setting, model)]
    if len(choice.loras) > 1:
        findings.append(_ranks(setting))
        findings += map(paragraph, _rates(setting))
    if choice.unet is not None and choice.best_lora is not None:
        findings.append(paragraph(_sides(setting, choice.unet, choice.best_lora)))
    findings += map(paragraph, (_prompt(setting, model), *_drift(setting, model), _brightness(setting)))
    titles = {one.name: one.title for one in (*choice.loras, choice.unet, choice.base) if one is not None}
    findings += control_findings(control, titles, model.name)
    findings += [paragraph(_loss(model)), *_course(setting, model)]
    return tuple(findings)


def _rank_verdict(setting: Setting) -> Said:
    choice = setting.choice
    assert choice.best_lora is not None
    assert choice.leader is not None
    best, leader, axis = choice.best_lora.title, choice.leader.title, _axis_words(choice.axis)
    if choice.best_lora is not choice.leader:
        return say("verdict.rank_smaller", best=best, leader=leader, axis=axis, margin=_margin(setting, choice.axis))
    others = {name: chance for name, chance in choice.chances.items() if name != choice.leader.name}
    if len(choice.tied) == 1 or not others:
        if choice.set_aside:
            return say("verdict.rank_alone_or", best=best, axis=axis, lost=_gates_words(choice.gates_failed))
        return say("verdict.rank_alone", best=best, axis=axis)
    titles = {model.name: model.title for model in choice.loras}
    second = max(others, key=lambda name: others[name])
    return say(
        "verdict.rank_expected",
        best=best,
        n=len(choice.loras) + len(setting.diverged),
        axis=axis,
        chance=_percent(choice.chances[choice.leader.name]),
        next=titles[second],
        other=_percent(others[second]),
    )


def _base_verdict(setting: Setting, model: ModelEvidence) -> Said:
    choice = setting.choice
    found = setting.comparisons.find(choice.axis, model, choice.base)
    if found is not None and found.distinguishable:
        return say("verdict.harm", model=model.title)
    return say("verdict.base_open", model=model.title, basis=_basis(choice, choice.axis))


def _side_verdict(setting: Setting, recommended: ModelEvidence) -> Said:
    choice = setting.choice
    lora, unet = choice.best_lora, choice.unet
    if lora is None or unet is None:
        alone = len(choice.loras) < 2
        return say("verdict.only", model=recommended.title) if alone else say("verdict.no_unet")
    found = setting.comparisons.find(choice.axis, unet, lora)
    if choice.trade_off:
        ahead, other = (unet, lora) if found and found.better == unet.name else (lora, unet)
        lost = _lost_words(gates_lost(setting.comparisons, ahead, other, setting.margins))
        return say("verdict.trade_off", ahead=ahead.title, other=other.title, axis=_axis_words(choice.axis), lost=lost)
    if choice.ahead is not None and found is not None:
        lead = _size(found)
        return say("verdict.side_ahead", ahead=unet.title, other=lora.title, axis=_axis_words(choice.axis), lead=lead)
    if choice.preferred is None:
        near = found is not None and found.distinguishable
        return say("verdict.sides_near" if near else "verdict.sides_same", lora=lora.title)
    other = unet if choice.preferred is lora else lora
    return say("verdict.side_better", model=choice.preferred.title, other=other.title)


def _identity(setting: Setting, model: ModelEvidence) -> Said:
    score = mean_on(model, "identity")
    if score is None:
        return paragraph(say("identity.none"))
    place = _place(score, setting.levels)
    found = setting.comparisons.find("identity", model, setting.choice.base)
    if found is None:
        return paragraph(say("identity.placed", model=model.title, place=place))
    difference = shown(found.difference, 3)
    if not found.distinguishable:
        undecided = _too_close([found], setting.choice, "identity")
        return paragraph(
            say("identity.placed_open", model=model.title, place=place, difference=difference, open=undecided)
        )
    side = "identity.more" if found.difference.mean > 0 else "identity.less"
    return paragraph(say("identity.placed", model=model.title, place=place), say(side, difference=difference))


def _place(score: Interval, levels: Levels) -> Said:
    """Where an identity lies between a stranger and the real person."""
    value = level(score)
    if levels.identity_real is None or levels.identity_stranger is None:
        return say("identity.has", level=value)
    real, stranger = (number(one.mean, 2) for one in (levels.identity_real, levels.identity_stranger))
    share = normalised(score.mean, levels.identity_stranger.mean, levels.identity_real.mean)
    if share is None:
        return say("identity.untold", level=value, real=real, stranger=stranger)
    if share >= 1:
        return say("identity.at_real", real=real, level=value)
    if share <= 0:
        return say("identity.at_stranger", stranger=stranger, level=value)
    way = f"{share:.0%}".replace("%", " %")
    return say("identity.between", share=way, stranger=stranger, real=real, level=value)


def _ranks(setting: Setting) -> Said:
    choice = setting.choice
    readings = listed(_reading(model, choice.axis) for model in choice.loras)
    parts = [say("ranks.readings", axis=_axis_words(choice.axis), readings=readings)]
    eligible = [model for model in choice.loras if model not in choice.set_aside]
    titles = {model.name: model.title for model in eligible}
    against = _against_leader(setting, eligible)
    behind = [found for found in against if found.finds_worse(found.a)]
    if choice.leader and behind:
        each = (say("ranks.behind_by", model=titles[found.a], difference=_difference(found)) for found in behind)
        parts.append(say("ranks.behind", leader=choice.leader.title, each=listed(each)))
    if len(choice.tied) > 1:
        rest = [found for found in against if found not in behind]
        tied = listed(model.title for model in choice.tied)
        if all(found.equivalent for found in rest):
            parts.append(say("ranks.equal", models=tied, margin=_margin(setting, choice.axis)))
        else:
            parts.append(say("ranks.open", models=tied, open=_too_close(rest, choice, choice.axis)))
            parts.append(say("ranks.surer"))
    if choice.behind:
        parts.append(say("ranks.clearly_behind", models=listed(model.title for model in choice.behind)))
    if choice.set_aside:
        out = (
            say("ranks.set_aside_for", model=model.title, lost=_lost_words(choice.gates_failed[model.name]))
            for model in choice.set_aside
        )
        parts.append(say("ranks.set_aside", each=listed(out)))
    return paragraph(*parts)


def _rates(setting: Setting) -> list[Said]:
    """What the learning rates did: which diverged, whether rate or rank decides, whether the best is at the edge."""
    choice, told = setting.choice, []
    if setting.diverged:
        titles = listed(lora_title(rank, rate) for rank, rate in setting.diverged)
        told.append(say("rates.diverged", models=titles))
    best = choice.best_lora
    if best is None or best.learning_rate is None:
        return told
    of_rank = [model for model in choice.loras if model.rank == best.rank]
    of_rate = [model for model in choice.loras if model.learning_rate == best.learning_rate]
    apart, within = _spread(of_rank, choice.axis), _spread(of_rate, choice.axis)
    if len(of_rate) > 1 and apart > 2 * within:
        rate = rate_text(best.learning_rate)
        told.append(
            say("rates.decide", rate=rate, within=number(within, 3), rank=best.rank or 0, apart=number(apart, 3))
        )
    return told + _edge(setting, best)


def _edge(setting: Setting, best: ModelEvidence) -> list[Said]:
    """Whether the best learning rate is the highest or lowest that was tried: a better one may lie beyond."""
    rates = [model.learning_rate or 0.0 for model in setting.choice.loras]
    rates += [rate or 0.0 for _, rate in setting.diverged]
    if len(set(rates)) < 2 or min(rates) < (best.learning_rate or 0.0) < max(rates):
        return []
    key = "rates.highest" if best.learning_rate == max(rates) else "rates.lowest"
    return [say(key, model=best.title)]


def _spread(models: Sequence[ModelEvidence], axis: Axis) -> float:
    """How far the means of LoRAs lie apart, on the folds and seeds that all of them have."""
    units = [model.units(axis) or {} for model in models]
    common = set.intersection(*map(set, units))
    means = [float(np.mean([one[split].mean() for split in common])) for one in units] if common else [0.0]
    return max(means) - min(means)


def _size(found: Comparison) -> str:
    """By how much two models differ on average, without a sign."""
    percent = found.axis == "heldout_loss"
    size = 100 * abs(float(np.expm1(found.difference.mean))) if percent else abs(found.difference.mean)
    return f"{number(size, 2)} %" if percent else number(size, 3)


def _sides(setting: Setting, unet: ModelEvidence, lora: ModelEvidence) -> Said:
    axis = setting.choice.axis
    found = setting.comparisons.find(axis, unet, lora)
    if found is None:
        return say("sides.unmeasured", lora=lora.title)
    difference = say("sides.difference", axis=_axis_words(axis), difference=_difference(found))
    if found.equivalent:
        told = [say("sides.equal", lora=lora.title, margin=_margin(setting, axis), difference=difference)]
    elif not found.distinguishable:
        undecided = _too_close([found], setting.choice, axis)
        told = [say("sides.open", lora=lora.title, difference=difference, open=undecided)]
    else:
        side = "sides.ahead" if found.better == unet.name else "sides.behind"
        told = [say(side, lora=lora.title, difference=difference)]
    for loser, other in ((unet, lora), (lora, unet)):
        if lost := gates_lost(setting.comparisons, loser, other, setting.margins):
            told.append(say("gate.loses", model=loser.title, lost=_lost_words(lost)))
    if len(set(unet.folds) & set(lora.folds)) == 1 and len(lora.folds) > 1:
        told.append(say("sides.one_fold"))
    return say("sides.whole", clauses=clauses(told))


def _prompt(setting: Setting, model: ModelEvidence) -> Said:
    if not model.measured("prompt"):
        return say("prompt.none")
    value = number(model.mean("prompt"), 3)
    found = setting.comparisons.find("prompt", model, setting.choice.base)
    if found is None:
        return say("prompt.no_base", model=model.title, value=value)
    difference = say("prompt.difference", value=value, difference=shown(found.difference, 3))
    if found.equivalent:
        margin = f"{setting.margins.prompt:g}"
        return say("prompt.equal", model=model.title, margin=margin, difference=difference)
    if not found.distinguishable:
        undecided = _too_close([found], setting.choice, "prompt")
        return say("prompt.open", model=model.title, difference=difference, open=undecided)
    side = "prompt.better" if found.better == model.name else "prompt.worse"
    return say(side, model=model.title, difference=difference)


def _brightness(setting: Setting) -> Said:
    choice = setting.choice
    shown = [model for model in (choice.unet, choice.best_lora) if model is not None and model.units("lightness")]
    told = [part for model in shown for part in _brightness_of(setting, model)]
    return say("brightness.told", clauses=clauses(told)) if told else say("brightness.none")


def _brightness_of(setting: Setting, model: ModelEvidence) -> list[Said]:
    parts, units, base = [], model.units("lightness"), setting.choice.base
    if units is None:
        return []
    photos, theirs = setting.levels.photo_lightness, base.units("lightness") if base else None
    if photos is not None:
        parts.append(_lighter(estimate_of(units).minus(mean_estimate(photos)).interval(), "photos"))
    if theirs is not None and set(units) <= set(theirs):
        paired = estimate_of({key: values - theirs[key] for key, values in units.items()})
        parts.append(_lighter(paired.interval(), "base"))
    match parts:
        case [first]:
            return [say("brightness.against_one", model=model.title, first=first)]
        case [first, second]:
            return [say("brightness.against_both", model=model.title, first=first, second=second)]
    return []


def _drift(setting: Setting, model: ModelEvidence) -> list[Said]:
    """Whether other people of the class have come to look like the person."""
    found = setting.comparisons.find("drift", model, setting.choice.base)
    if found is None:
        return []
    if found.equivalent:
        return [say("drift.none", margin=f"{setting.margins.drift:g}")]
    difference = shown(found.difference, 3)
    if found.finds_worse(model.name):
        return [say("drift.more", difference=difference, model=model.title)]
    return [say("drift.less" if found.distinguishable else "drift.open", difference=difference)]


def _lighter(difference: Interval, against: str) -> Said:
    if difference.excludes_zero and abs(difference.mean) >= NOTICEABLE_LIGHTNESS:
        key = "brightness.brighter" if difference.mean > 0 else "brightness.darker"
    elif difference.within(NOTICEABLE_LIGHTNESS) or difference.excludes_zero:
        key = "brightness.alike"
    else:
        key = "brightness.open"
    return say(key, than=say(f"brightness.{against}"), difference=shown(difference, 1))


def _loss(model: ModelEvidence) -> Said:
    ratio = mean_on(model, "heldout_loss")
    assert ratio is not None
    gain = heldout_gain(ratio)
    percent = scaled(gain, 100)
    size = percent if gain.mean >= 0 else percent.negated()
    key = ("loss.fell" if gain.mean >= 0 else "loss.rose") + ("" if gain.excludes_zero else "_open")
    return say(key, on=say("loss.on", n=_num_photos(model)), model=model.title, level=level(size, 2, " %"))


def _step(curve: Curve, model: ModelEvidence) -> Said:
    last = curve.steps[-1]
    if not any(curve.identity):
        return say("course.best_by_loss", model=model.title, step=curve.best_step, last=last)
    if curve.best_step == last:
        return say("course.last_by_identity", model=model.title, last=last)
    return say("course.best_by_identity", model=model.title, step=curve.best_step, last=last)


def _course(setting: Setting, model: ModelEvidence) -> list[Said]:
    """The best step, learning by heart, and how much luck is in all this."""
    findings = []
    curve = setting.curves.get(model.name)
    if curve is not None:
        told = [_step(curve, model)]
        if curve.overfitting_from is not None:
            told.append(say("course.by_heart", lowest=curve.lowest_loss_step, rising=curve.overfitting_from))
        findings.append(paragraph(*told))
    if len(model.folds) > 1:
        luck = say("course.trainings", n=len(model.trainings), model=model.title)
    else:
        luck = say("course.one_fold")
    return [*findings, paragraph(luck)]


def _against_leader(setting: Setting, models: Iterable[ModelEvidence]) -> list[Comparison]:
    """Each model minus the leader."""
    choice = setting.choice
    found = (setting.comparisons.find(choice.axis, m, choice.leader) for m in models if m is not choice.leader)
    return [comparison for comparison in found if comparison is not None]


def _too_close(found: Sequence[Comparison], choice: Choice, axis: Axis) -> Said:
    alone = any(comparison.difference.low is None for comparison in found)
    return say("basis.open_alone" if alone else "basis.open", basis=_basis(choice, axis))


def _basis(choice: Choice, axis: Axis) -> Said:
    """``with 18 held-out photos in 3 folds and 5 seeds``: what the axis rests on."""
    model = choice.recommended or choice.base
    if model is None:
        return say("basis.nothing")
    units, folds = model.trainings[0].units(axis), len(model.folds)
    photos = say("basis.photos", n=_num_photos(model))
    if folds > 1:
        photos = say("basis.photos_in_folds", photos=photos, n=folds)
    seeds = [] if units is None or axis == "heldout_loss" else [say("basis.seeds", n=len(units))]
    return say("basis.rests_on", what=listed(seeds if axis == "prompt" and folds == 1 else [photos, *seeds]))


def _num_photos(model: ModelEvidence) -> int:
    """Held-out photos of all folds."""
    return sum({one.fold: len(one.heldout_log_ratios) for one in model.trainings}.values())


def _reading(model: ModelEvidence, axis: Axis) -> Said:
    if not model.measured(axis):
        return say("ranks.reading_unknown", model=model.title)
    if axis == "heldout_loss":
        value = f"{number(100 * float(np.expm1(model.mean(axis))), 2, sign=True)} %"
    else:
        value = number(model.mean(axis), 2)
    return say("ranks.reading", model=model.title, value=value)


def mean_on(model: ModelEvidence, axis: Axis) -> Interval | None:
    """Mean of a model on an axis with its interval; nothing where it was not measured."""
    units = model.units(axis)
    return None if units is None else estimate_of(units).interval()


def _percent(chance: float) -> str:
    """A chance as a person reads it; never quite sure."""
    return f"{min(max(round(100 * chance), 1), 99)} %"


def _gates_words(failed: Mapping[str, tuple[Axis, ...]]) -> Said:
    return _lost_words(tuple(gate for gate in GATES if any(gate in lost for lost in failed.values())))


def _lost_words(gates: Sequence[Axis]) -> Said:
    """What a model that fails gates does."""
    return listed(say(f"gate.{gate}") for gate in gates)


def _axis_words(axis: Axis) -> Said:
    """What decides: identity or the held-out loss."""
    return say(f"axis.{axis}")


def _difference(found: Comparison) -> Said:
    """A difference of cosines, or of losses in percent."""
    if found.axis != "heldout_loss":
        return shown(found.difference, 3)
    ratio = found.difference
    low = None if ratio.low is None else float(np.expm1(ratio.low))
    high = None if ratio.high is None else float(np.expm1(ratio.high))
    return shown(scaled(Interval(float(np.expm1(ratio.mean)), low, high), 100), 2, " %")


def _margin(setting: Setting, axis: Axis) -> str:
    margin = setting.margins.of(axis)
    return f"{100 * margin:g} %" if axis == "heldout_loss" else f"{margin:g}"
