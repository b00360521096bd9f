"""The verdict in plain English: only what the numbers hold, with the numbers, and hedged where they are close."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from portrayal.evaluation.comparisons import Axis, Comparison, Comparisons, Margins, ModelEvidence, grid_estimate
from portrayal.evaluation.intervals import Floats, Interval, bootstrap_mean, cluster_estimate
from portrayal.evaluation.metrics import heldout_gain, normalised
from portrayal.evaluation.selection import Choice, loses_prompt

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
class ControlEvidence:
    """Pictures of one model under a ControlNet, one per seed; the arrays "without" are the same seeds without it."""

    name: str
    agreement: Floats | None
    """How well they keep to the control image, 0 to 1, shape ``(K,)``."""

    agreement_without: Floats | None = None
    identity: Floats | None = None
    identity_without: Floats | None = None
    kind: str = "canny"
    measure: str = "edge_f1"
    finding: str = "the edges of {model}'s pictures agree with the control image at F1"
    """What is said before the agreement."""


@dataclass(frozen=True, eq=False)
class Setting:
    """All that the sentences are made from."""

    choice: Choice
    comparisons: Comparisons
    margins: Margins
    levels: Levels
    seed: int
    training_runs: int


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
    """Four to eight findings: identity, ranks, full UNet, prompt, brightness, control, held-out loss."""
    choice = setting.choice
    model = choice.recommended
    if model is None:
        return ()
    findings = [_identity(setting, model)]
    if len(choice.loras) > 1:
        findings.append(_ranks(setting))
    if choice.unet is not None and choice.best_lora is not None:
        findings.append(_sides(setting, choice.unet, choice.best_lora))
    findings += [_prompt(setting, model), _brightness(setting)]
    for kind in dict.fromkeys(found.kind for found in control):
        of_kind = [found for found in control if found.kind == kind]
        findings += _control(setting, next((c for c in of_kind if c.name == model.name), of_kind[0]))
    findings.append(_loss(setting, model))
    return tuple(findings)


def _rank_verdict(setting: Setting) -> str:
    choice = setting.choice
    best = choice.tied[0].title
    what = _axis_words(choice.axis)
    if len(choice.tied) == 1:
        less = " or follows the prompt less" if choice.set_aside else ""
        return f"{best} is the LoRA to use: every other rank is distinguishably worse in {what}{less}."
    same = "cannot be told apart"
    if any(found.distinguishable for found in _against_leader(setting, choice.tied)):
        same = "differ by nothing that can be told apart or that matters"
    which = f"{_listed(m.title for m in choice.tied)} {same} in {what} {_basis(choice, choice.axis)}"
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
            f"{_capital(choice.recommended.title)} is the only method that was trained." if choice.recommended else ""
        )
        return alone if len(choice.loras) < 2 else "No full UNet was measured beside the LoRAs."
    if choice.trade_off:
        found = setting.comparisons.find(choice.axis, unet, lora)
        ahead, other = (unet, lora) if found and found.better == unet.name else (lora, unet)
        gain = f"{_capital(ahead.title)} is ahead of {other.title} in {_axis_words(choice.axis)}"
        return f"{gain} but follows the prompt less, a trade-off that your eye has to settle."
    if choice.preferred is None:
        found = setting.comparisons.find(choice.axis, unet, lora)
        same = "differ too little to matter" if found and found.distinguishable else "cannot be told apart"
        return f"Full UNet and {lora.title} {same}: use {lora.title}, the smaller file."
    other = unet if choice.preferred is lora else lora
    return f"{_capital(choice.preferred.title)} is distinguishably better than {other.title}: use it."


def _identity(setting: Setting, model: ModelEvidence) -> str:
    if model.identity is None:
        return "Identity was not measured, so nothing can be said about how much the pictures look like the person."
    score = grid_estimate(model.identity, over="columns", seed=setting.seed).interval()
    words = f"{_capital(model.title)} {_place(score, setting.levels)}"
    found = setting.comparisons.find("identity", model, setting.choice.base)
    if found is None:
        return f"{words}."
    if not found.distinguishable:
        undecided = _too_close([found], setting.choice, "identity")
        return f"{words}; the difference to the untouched base, {_shown(found.difference, 3)}, is {undecided}."
    side = "more" if found.difference.mean > 0 else "less"
    size = _shown(found.difference, 3)
    return f"{words}. Its pictures look {side} like the person than the untouched base's, by {size}."


def _place(score: Interval, levels: Levels) -> str:
    """Where an identity lies between a stranger and the real person."""
    value = f"identity {_level(score)}"
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
    readings = _listed(f"{model.title} {_reading(model, choice.axis)}" for model in choice.loras)
    parts = [f"{_capital(_axis_words(choice.axis))} by rank: {readings}."]
    eligible = [model for model in choice.loras if model not in choice.set_aside]
    titles = {model.name: model.title for model in eligible}
    against = _against_leader(setting, eligible)
    behind = [found for found in against if found.finds_worse(found.a)]
    if choice.leader and behind:
        each = _listed(f"{titles[found.a]} by {_difference(found)}" for found in behind)
        parts.append(f"Behind {choice.leader.title}, beyond chance: {each}.")
    if len(choice.tied) > 1:
        rest = [found for found in against if found not in behind]
        equal = all(found.equivalent for found in rest)
        how = f"equal to within {_margin(setting, choice.axis)}" if equal else _too_close(rest, choice, choice.axis)
        parts.append(f"{_listed(model.title for model in choice.tied)} are {how}.")
    if choice.set_aside:
        parts.append(f"Set aside for following the prompt less: {_listed(m.title for m in choice.set_aside)}.")
    return " ".join(parts)


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
        if loses_prompt(setting.comparisons, loser, other, setting.margins):
            words += f"; {loser.title} follows the prompt less"
    return f"{words}."


def _prompt(setting: Setting, model: ModelEvidence) -> str:
    if model.prompt is None:
        return "Prompt fidelity was not measured, so whether the prompt was kept is open."
    score = f"fidelity {model.prompt.mean():.3f}"
    found = setting.comparisons.find("prompt", model, setting.choice.base)
    title = _capital(model.title)
    if found is None:
        return f"{title} follows its prompts with a {score}; there is no base to compare with."
    difference = f"{score}, a difference of {_shown(found.difference, 3)} to the untouched base"
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
    shown = [model for model in (choice.unet, choice.best_lora) if model is not None and model.lightness is not None]
    told = [part for model in shown if (part := _brightness_of(setting, model))]
    return f"Brightness: {'; '.join(told)}." if told else "Brightness was not compared."


def _brightness_of(setting: Setting, model: ModelEvidence) -> str:
    parts, grid, base = [], model.lightness, setting.choice.base
    if grid is None:
        return ""
    photos = setting.levels.photo_lightness
    if photos is not None:
        own = grid_estimate(grid, over="columns", seed=setting.seed)
        theirs = cluster_estimate(photos, np.arange(len(photos)), seed=setting.seed)
        parts.append(_lighter(own.minus(theirs).interval(), "the photos"))
    if base is not None and base.lightness is not None and base.lightness.shape == grid.shape:
        paired = grid_estimate(grid - base.lightness, over="columns", seed=setting.seed)
        parts.append(_lighter(paired.interval(), "the base's"))
    return f"{model.title}'s pictures are {', and '.join(parts)}" if parts else ""


def _lighter(difference: Interval, than: str) -> str:
    size = _shown(difference, 1)
    if difference.excludes_zero and abs(difference.mean) >= NOTICEABLE_LIGHTNESS:
        return f"{'brighter' if difference.mean > 0 else 'darker'} than {than} by L* {size}"
    if difference.within(NOTICEABLE_LIGHTNESS) or difference.excludes_zero:
        return f"about as bright as {than}, L* {size}"
    return f"too close to call against {than}, L* {size}"


def _control(setting: Setting, control: ControlEvidence) -> list[str]:
    if control.agreement is None:
        return []
    known = [m for m in (*setting.choice.loras, setting.choice.unet, setting.choice.base) if m is not None]
    title = next((model.title for model in known if model.name == control.name), control.name)
    agreement = bootstrap_mean(control.agreement, seed=setting.seed)
    words = f"With ControlNet, {control.finding.format(model=title)} {_level(agreement)}"
    if control.agreement_without is not None:
        gain = bootstrap_mean(control.agreement - control.agreement_without, seed=setting.seed)
        words += f", {_shown(gain, 2)} to the same seeds without it{_unsure(gain)}"
    if control.identity is not None and control.identity_without is not None:
        change = bootstrap_mean(control.identity - control.identity_without, seed=setting.seed)
        words += f"; identity changes by {_shown(change, 3)}{_unsure(change)}"
    return [f"{words}."]


def _loss(setting: Setting, model: ModelEvidence) -> str:
    photos = _counted(len(model.heldout_log_ratios), "held-out photo")
    gain = heldout_gain(model.heldout_log_ratios, seed=setting.seed)
    percent = _scaled(gain, 100)
    moved = "fell" if gain.mean >= 0 else "rose"
    size = percent if gain.mean >= 0 else percent.negated()
    doubt = "" if gain.excludes_zero else ", which is too close to call"
    words = f"On {photos}, the loss of {model.title} {moved} against the base's by {_level(size, 2, ' %')}{doubt}."
    runs = setting.training_runs
    again = "One training run of each method is behind all this: another training seed could move it."
    return f"{words} {again if runs == 1 else f'{runs} training runs of each method are behind all this.'}"


def _against_leader(setting: Setting, models: Iterable[ModelEvidence]) -> list[Comparison]:
    """Each model minus the leader."""
    choice = setting.choice
    found = (setting.comparisons.find(choice.axis, m, choice.leader) for m in models if m is not choice.leader)
    return [comparison for comparison in found if comparison is not None]


def _too_close(found: Sequence[Comparison], choice: Choice, axis: Axis) -> str:
    alone = any(comparison.difference.low is None for comparison in found)
    return f"too close to call {_basis(choice, axis)}" + (", which gives no interval" if alone else "")


def _basis(choice: Choice, axis: Axis) -> str:
    """``with 4 held-out photos and 5 seeds``: what the axis rests on."""
    model = choice.recommended or choice.base
    grid = None if model is None or axis == "heldout_loss" else model.grid(axis)
    photos = "" if model is None else _counted(len(model.heldout_log_ratios), "held-out photo")
    seeds = "" if grid is None else _counted(grid.shape[1], "seed")
    units = {"heldout_loss": [photos], "identity": [photos, seeds], "prompt": [seeds]}[axis]
    return f"with {_listed(unit for unit in units if unit)}"


def _reading(model: ModelEvidence, axis: Axis) -> str:
    grid = model.grid(axis)
    if grid is None:
        return "unknown"
    if axis == "heldout_loss":
        return f"{_number(100 * float(np.expm1(grid.mean())), 2, sign=True)} %"
    return f"{grid.mean():.2f}"


def _axis_words(axis: Axis) -> str:
    return {"identity": "identity", "heldout_loss": "held-out loss", "prompt": "prompt fidelity"}[axis]


def _difference(found: Comparison) -> str:
    """A difference of cosines, or of losses in percent."""
    if found.axis != "heldout_loss":
        return _shown(found.difference, 3)
    ratio = found.difference
    low = None if ratio.low is None else float(np.expm1(ratio.low))
    high = None if ratio.high is None else float(np.expm1(ratio.high))
    return _shown(_scaled(Interval(float(np.expm1(ratio.mean)), low, high), 100), 2, " %")


def _scaled(value: Interval, by: float) -> Interval:
    low = None if value.low is None else by * value.low
    return Interval(by * value.mean, low, None if value.high is None else by * value.high)


def _margin(setting: Setting, axis: Axis) -> str:
    margin = setting.margins.of(axis)
    return f"{100 * margin:g} %" if axis == "heldout_loss" else f"{margin:g}"


def _unsure(difference: Interval) -> str:
    return "" if difference.excludes_zero else " (too close to call)"


def _shown(difference: Interval, digits: int, unit: str = "") -> str:
    """``+0.041 (+0.012 to +0.070)``."""
    mean = f"{_number(difference.mean, digits, sign=True)}{unit}"
    if difference.low is None or difference.high is None:
        return f"{mean} (no interval)"
    low, high = (_number(end, digits, sign=True) for end in (difference.low, difference.high))
    return f"{mean} ({low} to {high}{unit})"


def _level(value: Interval, digits: int = 2, unit: str = "") -> str:
    """``0.71 (95 % interval 0.68 to 0.74)``."""
    mean = f"{_number(value.mean, digits)}{unit}"
    if value.low is None or value.high is None:
        return f"{mean} (no interval)"
    return f"{mean} (95 % interval {_number(value.low, digits)} to {_number(value.high, digits)}{unit})"


def _number(value: float, digits: int, *, sign: bool = False) -> str:
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    shown = f"{rounded:+.{digits}f}" if sign and rounded else f"{rounded:.{digits}f}"
    return shown.replace("-", "−")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
