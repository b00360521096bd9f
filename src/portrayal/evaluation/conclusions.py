"""The verdict in plain English: only what the numbers hold, with the numbers, and hedged where they are close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from portrayal.evaluation.comparisons import GATES, Axis, Comparison, Comparisons, Margins, ModelEvidence, estimate_of
from portrayal.evaluation.curves import Curve
from portrayal.evaluation.intervals import Floats, Interval, mean_estimate
from portrayal.evaluation.metrics import heldout_gain, normalised
from portrayal.evaluation.phrases import capital, counted, level, listed, number, scaled, shown
from portrayal.evaluation.selection import Choice, gates_lost
from portrayal.evaluation.sweep import ControlEvidence, control_findings

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


def sentence_of(setting: Setting) -> str:
    """The verdict: which LoRA, then full UNet or LoRA, then whether that beats the base."""
    choice = setting.choice
    if choice.recommended is None:
        return "No tuned model was measured, so there is nothing to choose between."
    parts = []
    if choice.axis == "heldout_loss":
        parts.append("Identity could not be measured, so the held-out loss decides, which is the weaker judge.")
    if len(choice.loras) > 1:
        parts.append(_rank_verdict(setting))
    parts.append(_side_verdict(setting))
    if not choice.beats_base:
        parts.append(_base_verdict(setting, choice.recommended))
    return " ".join(parts)


def conclusions_of(setting: Setting, control: Sequence[ControlEvidence]) -> tuple[str, ...]:
    """What was found: identity, ranks, full UNet, prompt, class, brightness, control, held-out loss, its course."""
    choice = setting.choice
    model = choice.recommended
    if model is None:
        return ()
    findings = [_identity(setting, model)]
    if len(choice.loras) > 1:
        findings.append(_ranks(setting))
    if choice.unet is not None and choice.best_lora is not None:
        findings.append(_sides(setting, choice.unet, choice.best_lora))
    findings += [_prompt(setting, model), *_drift(setting, model), _brightness(setting)]
    titles = {one.name: one.title for one in (*choice.loras, choice.unet, choice.base) if one is not None}
    findings += control_findings(control, titles, model.name)
    findings += [_loss(model), *_course(setting, model)]
    return tuple(findings)


def _rank_verdict(setting: Setting) -> str:
    choice = setting.choice
    best = choice.tied[0].title
    what = _axis_words(choice.axis)
    if len(choice.tied) == 1:
        less = f" or {_gates_words(choice.gates_failed)}" if choice.set_aside else ""
        return f"{best} is the LoRA to use: every other rank is distinguishably worse in {what}{less}."
    same = "cannot be told apart"
    if any(found.distinguishable for found in _against_leader(setting, choice.tied)):
        same = "differ by nothing that can be told apart or that matters"
    which = f"{listed(m.title for m in choice.tied)} {same} in {what} {_basis(choice, choice.axis)}"
    return f"{which}: take the smallest, {best}."


def _base_verdict(setting: Setting, model: ModelEvidence) -> str:
    choice = setting.choice
    found = setting.comparisons.find(choice.axis, model, choice.base)
    if found is not None and found.distinguishable:
        return f"But the untouched base is better than {model.title}: the training did harm."
    undecided = f"too close to call {_basis(choice, choice.axis)}"
    return f"Whether {model.title} is better than the untouched base is {undecided}."


def _side_verdict(setting: Setting) -> str:
    choice = setting.choice
    lora, unet = choice.best_lora, choice.unet
    if lora is None or unet is None:
        alone = (
            f"{capital(choice.recommended.title)} is the only method that was trained." if choice.recommended else ""
        )
        return alone if len(choice.loras) < 2 else "No full UNet was measured beside the LoRAs."
    if choice.trade_off:
        found = setting.comparisons.find(choice.axis, unet, lora)
        ahead, other = (unet, lora) if found and found.better == unet.name else (lora, unet)
        gain = f"{capital(ahead.title)} is ahead of {other.title} in {_axis_words(choice.axis)}"
        lost = gates_lost(setting.comparisons, ahead, other, setting.margins)
        return f"{gain} but {_lost_words(lost)}, a trade-off that your eye has to settle."
    if choice.preferred is None:
        found = setting.comparisons.find(choice.axis, unet, lora)
        same = "differ too little to matter" if found and found.distinguishable else "cannot be told apart"
        return f"Full UNet and {lora.title} {same}: use {lora.title}, the smaller file."
    other = unet if choice.preferred is lora else lora
    return f"{capital(choice.preferred.title)} is distinguishably better than {other.title}: use it."


def _identity(setting: Setting, model: ModelEvidence) -> str:
    score = mean_on(model, "identity")
    if score is None:
        return "Identity was not measured, so nothing can be said about how much the pictures look like the person."
    words = f"{capital(model.title)} {_place(score, setting.levels)}"
    found = setting.comparisons.find("identity", model, setting.choice.base)
    if found is None:
        return f"{words}."
    if not found.distinguishable:
        undecided = _too_close([found], setting.choice, "identity")
        return f"{words}; the difference to the untouched base, {shown(found.difference, 3)}, is {undecided}."
    side = "more" if found.difference.mean > 0 else "less"
    size = shown(found.difference, 3)
    return f"{words}. Its pictures look {side} like the person than the untouched base's, by {size}."


def _place(score: Interval, levels: Levels) -> str:
    """Where an identity lies between a stranger and the real person."""
    value = f"identity {level(score)}"
    if levels.identity_real is None or levels.identity_stranger is None:
        return f"has an {value}"
    real, stranger = levels.identity_real.mean, levels.identity_stranger.mean
    share = normalised(score.mean, stranger, real)
    if share is None:
        return f"has an {value}, but the encoder does not tell the person ({real:.2f}) from a stranger ({stranger:.2f})"
    if share >= 1:
        return f"reaches the level of the person's own photos ({real:.2f}): {value}; look for copied photos"
    if share <= 0:
        return f"looks no more like the person than a stranger does ({stranger:.2f}): {value}"
    way = f"goes {share:.0%} of the way".replace("%", " %")
    return f"{way} from a stranger ({stranger:.2f}) to the person's own photos ({real:.2f}): {value}"


def _ranks(setting: Setting) -> str:
    choice = setting.choice
    readings = listed(f"{model.title} {_reading(model, choice.axis)}" for model in choice.loras)
    parts = [f"{capital(_axis_words(choice.axis))} by rank: {readings}."]
    eligible = [model for model in choice.loras if model not in choice.set_aside]
    titles = {model.name: model.title for model in eligible}
    against = _against_leader(setting, eligible)
    behind = [found for found in against if found.finds_worse(found.a)]
    if choice.leader and behind:
        each = listed(f"{titles[found.a]} by {_difference(found)}" for found in behind)
        parts.append(f"Behind {choice.leader.title}, beyond chance: {each}.")
    if len(choice.tied) > 1:
        rest = [found for found in against if found not in behind]
        equal = all(found.equivalent for found in rest)
        how = f"equal to within {_margin(setting, choice.axis)}" if equal else _too_close(rest, choice, choice.axis)
        parts.append(f"{listed(model.title for model in choice.tied)} are {how}.")
        parts += [] if equal else _open_lead(setting, choice.tied[0])
    if choice.set_aside:
        out = (f"{model.title}, which {_lost_words(choice.gates_failed[model.name])}" for model in choice.set_aside)
        parts.append(f"Set aside: {listed(out)}.")
    return " ".join(parts)


def _open_lead(setting: Setting, best: ModelEvidence) -> list[str]:
    """What the smallest rank may be giving away, where that is more than the margin."""
    axis, leader = setting.choice.axis, setting.choice.leader
    found = setting.comparisons.find(axis, leader, best) if leader is not None else None
    if leader is None or found is None or abs(found.difference.mean) <= setting.margins.of(axis):
        return []
    lead = f"{leader.title} is ahead of {best.title} by {number(abs(found.difference.mean), 3)} on average"
    return [f"{lead}; a study with more folds and seeds would show whether that is luck."]


def _sides(setting: Setting, unet: ModelEvidence, lora: ModelEvidence) -> str:
    axis = setting.choice.axis
    found = setting.comparisons.find(axis, unet, lora)
    if found is None:
        return f"Full UNet and {lora.title} were not measured on the same axis."
    difference = f"a difference in {_axis_words(axis)} of {_difference(found)}"
    if found.equivalent:
        words = f"Full UNet and {lora.title} are equal to within {_margin(setting, axis)}: {difference}"
    elif not found.distinguishable:
        words = f"Full UNet against {lora.title}: {difference}, {_too_close([found], setting.choice, axis)}"
    else:
        side = "ahead of" if found.better == unet.name else "behind"
        words = f"Full UNet is {side} {lora.title}, beyond chance: {difference}"
    for loser, other in ((unet, lora), (lora, unet)):
        if lost := gates_lost(setting.comparisons, loser, other, setting.margins):
            words += f"; {loser.title} {_lost_words(lost)}"
    if len(set(unet.folds) & set(lora.folds)) == 1 and len(lora.folds) > 1:
        words += "; the full UNet was trained on one fold, and the luck of training is taken from the LoRAs"
    return f"{words}."


def _prompt(setting: Setting, model: ModelEvidence) -> str:
    if not model.measured("prompt"):
        return "Prompt fidelity was not measured, so whether the prompt was kept is open."
    score = f"fidelity {model.mean('prompt'):.3f}"
    found = setting.comparisons.find("prompt", model, setting.choice.base)
    title = capital(model.title)
    if found is None:
        return f"{title} follows its prompts with a {score}; there is no base to compare with."
    difference = f"{score}, a difference of {shown(found.difference, 3)} to the untouched base"
    if found.equivalent:
        margin = f"to within {setting.margins.prompt:g}"
        return f"{title} keeps to the prompt as the untouched base does, {margin}: {difference}."
    if not found.distinguishable:
        undecided = _too_close([found], setting.choice, "prompt")
        return f"Whether {model.title} lost any of the prompt is open: {difference}, {undecided}."
    verb = "follows the prompt better" if found.better == model.name else "has lost some of the prompt"
    return f"{title} {verb}: {difference}."


def _brightness(setting: Setting) -> str:
    choice = setting.choice
    shown = [model for model in (choice.unet, choice.best_lora) if model is not None and model.units("lightness")]
    told = [part for model in shown if (part := _brightness_of(setting, model))]
    return f"Brightness: {'; '.join(told)}." if told else "Brightness was not compared."


def _brightness_of(setting: Setting, model: ModelEvidence) -> str:
    parts, units, base = [], model.units("lightness"), setting.choice.base
    if units is None:
        return ""
    photos, theirs = setting.levels.photo_lightness, base.units("lightness") if base else None
    if photos is not None:
        parts.append(_lighter(estimate_of(units).minus(mean_estimate(photos)).interval(), "the photos"))
    if theirs is not None and set(units) <= set(theirs):
        paired = estimate_of({key: values - theirs[key] for key, values in units.items()})
        parts.append(_lighter(paired.interval(), "the base's"))
    return f"{model.title}'s pictures are {', and '.join(parts)}" if parts else ""


def _drift(setting: Setting, model: ModelEvidence) -> list[str]:
    """Whether other people of the class have come to look like the person."""
    found = setting.comparisons.find("drift", model, setting.choice.base)
    if found is None:
        return []
    difference = f"by {shown(found.difference, 3)} in cosine"
    if found.equivalent:
        margin = f"to within {setting.margins.drift:g}"
        return [f"Other people stay other people: pictures of the class look as the base's do, {margin}."]
    if found.finds_worse(model.name):
        return [f"Pictures of the class have come to look like the person, {difference}: {model.title} took it over."]
    if found.distinguishable:
        return [f"Pictures of the class look less like the person than the base's, {difference}."]
    return [f"Whether pictures of the class have come to look like the person is too close to call: {difference}."]


def _lighter(difference: Interval, than: str) -> str:
    size = shown(difference, 1)
    if difference.excludes_zero and abs(difference.mean) >= NOTICEABLE_LIGHTNESS:
        return f"{'brighter' if difference.mean > 0 else 'darker'} than {than} by L* {size}"
    if difference.within(NOTICEABLE_LIGHTNESS) or difference.excludes_zero:
        return f"about as bright as {than}, L* {size}"
    return f"too close to call against {than}, L* {size}"


def _loss(model: ModelEvidence) -> str:
    ratio = mean_on(model, "heldout_loss")
    assert ratio is not None
    gain = heldout_gain(ratio)
    percent = scaled(gain, 100)
    moved = "fell" if gain.mean >= 0 else "rose"
    size = percent if gain.mean >= 0 else percent.negated()
    doubt = "" if gain.excludes_zero else ", which is too close to call"
    photos = counted(_num_photos(model), "held-out photo")
    return f"On {photos}, the loss of {model.title} {moved} against the base's by {level(size, 2, ' %')}{doubt}."


def _course(setting: Setting, model: ModelEvidence) -> list[str]:
    """The best step, learning by heart, and how much luck is in all this."""
    findings = []
    curve = setting.curves.get(model.name)
    if curve is not None:
        by = (
            "its pictures were as alike as at any later step" if any(curve.identity) else "its held-out loss was lowest"
        )
        words = f"{capital(model.title)} is judged and used at step {curve.best_step} of {curve.steps[-1]}: there {by}."
        if curve.overfitting_from is not None:
            words += (
                f" Its held-out loss was lowest at step {curve.lowest_loss_step}; from step {curve.overfitting_from} on"
                " it surely rises, which is how learning the photos by heart begins."
            )
        findings.append(words)
    if len(model.folds) > 1:
        runs = len(model.trainings)
        findings.append(
            f"Behind this are {runs} trainings of {model.title}, each judged on photos it never saw: the luck of"
            " training is in the intervals."
        )
    else:
        findings.append("One fold is behind all this: another training on other photos could move it.")
    return findings


def _against_leader(setting: Setting, models: Iterable[ModelEvidence]) -> list[Comparison]:
    """Each model minus the leader."""
    choice = setting.choice
    found = (setting.comparisons.find(choice.axis, m, choice.leader) for m in models if m is not choice.leader)
    return [comparison for comparison in found if comparison is not None]


def _too_close(found: Sequence[Comparison], choice: Choice, axis: Axis) -> str:
    alone = any(comparison.difference.low is None for comparison in found)
    return f"too close to call {_basis(choice, axis)}" + (", which gives no interval" if alone else "")


def _basis(choice: Choice, axis: Axis) -> str:
    """``with 18 held-out photos in 3 folds and 5 seeds``: what the axis rests on."""
    model = choice.recommended or choice.base
    if model is None:
        return "with nothing"
    units = model.trainings[0].units(axis)
    folds = f" in {len(model.folds)} folds" if len(model.folds) > 1 else ""
    photos = f"{counted(_num_photos(model), 'held-out photo')}{folds}"
    seeds = "" if units is None or axis == "heldout_loss" else counted(len(units), "seed")
    shown = [seeds] if axis == "prompt" and not folds else [photos, seeds]
    return f"with {listed(one for one in shown if one)}"


def _num_photos(model: ModelEvidence) -> int:
    """Held-out photos of all folds."""
    return sum({one.fold: len(one.heldout_log_ratios) for one in model.trainings}.values())


def _reading(model: ModelEvidence, axis: Axis) -> str:
    if not model.measured(axis):
        return "unknown"
    if axis == "heldout_loss":
        return f"{number(100 * float(np.expm1(model.mean(axis))), 2, sign=True)} %"
    return f"{model.mean(axis):.2f}"


def mean_on(model: ModelEvidence, axis: Axis) -> Interval | None:
    """Mean of a model on an axis with its interval; nothing where it was not measured."""
    units = model.units(axis)
    return None if units is None else estimate_of(units).interval()


def _gates_words(failed: Mapping[str, tuple[Axis, ...]]) -> str:
    return _lost_words(tuple(gate for gate in GATES if any(gate in lost for lost in failed.values())))


def _lost_words(gates: Sequence[Axis]) -> str:
    """What a model that fails gates does."""
    words: dict[Axis, str] = {
        "prompt": "follows the prompt less",
        "drift": "lets the class turn into the person",
        "colour": "leaves the light of photos and base",
    }
    return listed(words[gate] for gate in gates)


def _axis_words(axis: Axis) -> str:
    words: dict[Axis, str] = {
        "identity": "identity",
        "heldout_loss": "held-out loss",
        "prompt": "prompt fidelity",
        "drift": "drift of the class",
        "colour": "colour",
    }
    return words[axis]


def _difference(found: Comparison) -> str:
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
