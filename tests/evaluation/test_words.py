"""Each finding is told the right way round, for both signs and in both languages, with its counts and units.

Evidence is planted on one side and on the other; what is said of it must hold the words of the one and none of the
other's. That the words themselves are right is held by `tests/test_directions.py`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from portrayal.evaluation.curves import Curve, draw_curve
from portrayal.evaluation.intervals import Interval
from portrayal.evaluation.phrases import level, number, shown
from portrayal.evaluation.sweep import ControlEvidence
from portrayal.evaluation.verdict import Levels, ModelEvidence, Training, Verdict
from portrayal.sentences import Said
from portrayal.studio.texts import Texts
from tests.evaluation.test_verdict import LEVELS, base, judge, model

SAID = {language: Texts(language).said for language in ("en", "ru")}


def findings(verdict: Verdict, language: str) -> list[str]:
    """The verdict and what it rests on, in a language, with plain spaces."""
    return [SAID[language](words).replace("\u00a0", " ") for words in (verdict.sentence, *verdict.conclusions)]


def keys(said: Said) -> list[str]:
    """Of a sentence and of everything in it."""
    inner = [one for one in (*said.parts, *said.values.values()) if isinstance(one, Said)]
    return [said.key, *(key for one in inner for key in keys(one))]


def tells(verdict: Verdict, *, key: str, other: str, words: tuple[str, str]) -> None:
    """A verdict is told by this key and not by the other, with these words in English and Russian."""
    found = [one for said in (verdict.sentence, *verdict.conclusions) for one in keys(said)]
    assert key in found, found
    assert other not in found, found
    for language, wanted in zip(("en", "ru"), words, strict=True):
        told = findings(verdict, language)
        assert any(re.search(wanted, line) for line in told), (wanted, told)


LORA = model("lora-8")

CASES: dict[str, tuple[list[ModelEvidence], str, tuple[str, str]]] = {
    "identity.more": (
        [base(), model("unet", identity=0.7)],
        "identity.less",
        (
            r"look more like the person than the untouched base's, by \+0\.3",
            r"больше похожи на человека.*разница \+0,3",
        ),
    ),
    "identity.less": (
        [base(), model("unet", identity=0.2)],
        "identity.more",
        (
            r"look less like the person than the untouched base's, by −0\.1",
            r"меньше похожи на человека.*разница −0,1",
        ),
    ),
    "loss.fell": (
        [base(), model("unet", loss=-0.02)],
        "loss.rose",
        (r"of full UNet fell against the base's by 1\.9\d % \(95 % interval 1\.", r"полной UNet меньше.* на 1,9\d %"),
    ),
    "loss.rose": (
        [base(), model("unet", loss=0.02)],
        "loss.fell",
        (
            r"of full UNet rose against the base's by 2\.0\d % \(95 % interval (1\.9|2\.0)",
            r"полной UNet больше.* на 2,0\d %",
        ),
    ),
    "prompt.better": (
        [base(), model("unet", prompt=0.35)],
        "prompt.worse",
        (
            r"follows the prompt better: fidelity 0\.35\d, a difference of \+0\.05",
            r"описанию лучше: .* разница .* \+0,05",
        ),
    ),
    "prompt.worse": (
        [base(), model("unet", prompt=0.25)],
        "prompt.better",
        (
            r"has lost some of the prompt: fidelity 0\.25\d, a difference of −0\.05",
            r"описанию хуже: .* разница .* −0,0",
        ),
    ),
    "drift.more": (
        [base(), model("unet", drift=0.6)],
        "drift.less",
        (
            r"come to look like the person, by \+0\.(29|30)\d .*full UNet took it over",
            r"стали похожи.* на \+0,(29|30)",
        ),
    ),
    "drift.less": (
        [base(), model("unet", drift=0.1)],
        "drift.more",
        (
            r"look less like the person than the base's, by −0\.(19|20)\d",
            r"меньше, чем у исходной основы: .*−0,(19|20)",
        ),
    ),
    "brightness.brighter": (
        [base(lightness=60.0), model("unet", lightness=68.0)],
        "brightness.darker",
        (
            r"brighter than the photos by L\* \+[78]\.\d.* and brighter than the base's by L\* \+[78]\.",
            r"светлее, чем фотографии, разница L\* \+[78],.*светлее, чем у основы, разница L\* \+[78],",
        ),
    ),
    "brightness.darker": (
        [base(lightness=60.0), model("unet", lightness=52.0)],
        "brightness.brighter",
        (
            r"darker than the photos by L\* −[78]\.\d.* and darker than the base's by L\* −[78]\.",
            r"темнее, чем фотографии, разница L\* −[78],.*темнее, чем у основы, разница L\* −[78],",
        ),
    ),
    "sides.ahead": (
        [base(), LORA, model("unet", identity=0.8)],
        "sides.behind",
        (r"^Full UNet is ahead of LoRA 8, .*identity of \+0\.", r"^Полная UNet достоверно впереди LoRA 8: .*\+0,"),
    ),
    "sides.behind": (
        [base(), LORA, model("unet", identity=0.6)],
        "sides.ahead",
        (r"^Full UNet is behind LoRA 8, .*identity of −0\.", r"^Полная UNet достоверно позади LoRA 8: .*−0,"),
    ),
    "verdict.harm": (
        [base(), model("unet", identity=0.2)],
        "verdict.base_open",
        (
            r"the untouched base is better than full UNet: the training did harm",
            r"основа лучше, чем полная UNet: .*навред",
        ),
    ),
    "verdict.base_open": (
        [base(), model("unet", identity=0.32)],
        "verdict.harm",
        (
            r"Whether full UNet is better than the untouched base is too close",
            r"Лучше ли полная UNet, чем исходная осн",
        ),
    ),
    "identity.at_real": (
        [base(), model("unet", identity=0.9)],
        "identity.between",
        (r"reaches the level of the person's own photos \(0\.85\): identity 0\.[89]", r"не меньше, чем .*\(0,85\)"),
    ),
    "identity.at_stranger": (
        [base(), model("unet", identity=0.2)],
        "identity.between",
        (
            r"no more like the person than a stranger does \(0\.30\): identity 0\.[12]",
            r"не больше, чем посторонний \(0,30\)",
        ),
    ),
    "identity.between": (
        [base(), model("unet", identity=0.7)],
        "identity.at_stranger",
        (
            r"goes 7\d % of the way from a stranger \(0\.30\) to the person's own photos \(0\.85\)",
            r"пройдено 7\d % пути от постороннего \(0,30\) до собственных фотографий человека \(0,85\)",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", CASES)
def test_a_finding_is_told_the_right_way_round(key: str) -> None:
    models, other, words = CASES[key]
    tells(judge(*models), key=key, other=other, words=words)


@pytest.mark.parametrize(("loss", "key", "other"), [(-0.01, "fell", "rose"), (0.01, "rose", "fell")])
def test_a_loss_that_is_too_close_to_call_has_its_direction_too(loss: float, key: str, other: str) -> None:
    """Photos from -5 % to +3 %, or the other way round: the size is told without a sign, its interval with."""
    ratios = np.array([[loss - 0.04], [loss], [loss + 0.04]])
    verdict = judge(base(photos=3), ModelEvidence("unet", "unet", None, (Training(0, 0, ratios),)))
    words = {
        "fell": (r"fell against the base's by 1\.0\d % \(95 % interval −", r"меньше, .* на 1,0\d %.*это слишком близко")
    }
    words["rose"] = (
        r"rose against the base's by 1\.0\d % \(95 % interval −",
        r"больше, .* на 1,0\d %.*это слишком близко",
    )
    tells(verdict, key=f"loss.{key}_open", other=f"loss.{other}_open", words=words[key])


@pytest.mark.parametrize(("ahead", "behind"), [("unet", "lora-8"), ("lora-8", "unet")])
def test_a_trade_off_names_the_one_that_is_ahead_and_what_it_loses(ahead: str, behind: str) -> None:
    titles = {"unet": ("Full UNet", "Полная UNet", "full UNet", "полной UNet")}
    titles["lora-8"] = ("LoRA 8", "LoRA 8", "LoRA 8", "LoRA 8")
    verdict = judge(base(), model(ahead, identity=0.85, prompt=0.25), model(behind))
    english = (
        rf"{titles[ahead][0]} is ahead of {titles[behind][2]} in identity but follows the prompt less, a trade-off"
    )
    russian = rf"{titles[ahead][1]} впереди {titles[behind][3]} по сходству, но хуже следует описанию"
    tells(verdict, key="verdict.trade_off", other="verdict.side_better", words=(english, russian))
    assert verdict.winner is None
    told = findings(verdict, "en")
    assert any(f"{titles[ahead][2]} follows the prompt less" in line for line in told)
    assert not any(f"{titles[behind][2]} follows the prompt less" in line for line in told)


@pytest.mark.parametrize("better", ["unet", "lora-8"])
def test_the_better_side_is_the_one_to_use(better: str) -> None:
    other = "lora-8" if better == "unet" else "unet"
    verdict = judge(base(), model(better, identity=0.8), model(other, identity=0.6))
    assert (verdict.winner, verdict.recommended) == (better, better)
    names = {"unet": ("Full UNet", "full UNet"), "lora-8": ("LoRA 8", "LoRA 8")}
    wanted = f"{names[better][0]} is distinguishably better than {names[other][1]}: use it."
    assert str(verdict.sentence).endswith(wanted)


@pytest.mark.parametrize(("change", "key", "other"), [(-0.2, "costs", "gains"), (0.2, "gains", "costs")])
def test_control_costs_or_gains_likeness(change: float, key: str, other: str) -> None:
    """From 0.50 without it to 0.30 or 0.70 with it."""
    seeds = np.array([-0.01, 0.0, 0.01, 0.0])
    identity = np.array([0.5 + seeds, 0.5 + change + seeds[::-1] / 2])
    found = ControlEvidence("lora-8", (0.0, 1.0), np.array([0.2 + seeds, 0.6 + seeds[::-1]]), identity)
    last, sign = f"{0.5 + change:.2f}", "+" if change > 0 else "−"
    english = {"costs": "Control costs likeness", "gains": "Likeness gains by it"}[key]
    russian = {"costs": "ControlNet снижает сходство", "gains": "ControlNet повышает сходство"}[key]
    comma = last.replace(".", ",")
    tells(
        judge(base(), LORA, control=[found]),
        key=f"control.{key}",
        other=f"control.{other}",
        words=(
            rf"F1 0\.60 .*, \+0\.40 .*{english}: 0\.50 without it, {re.escape(last)} with it, {re.escape(sign)}0\.200",
            rf"F1 = 0,60 .*{russian}: 0,50 без ControlNet и {comma} с ControlNet, разница {re.escape(sign)}0,200",
        ),
    )
    assert found.as_json()["agreement_change"]["mean"] == pytest.approx(0.4)
    assert found.as_json()["identity_change"]["mean"] == pytest.approx(change)


def test_readings_of_the_loss_are_changes_in_percent_and_less_is_better() -> None:
    losses = {"lora-8": 0.01, "lora-32": -0.01, "lora-64": -0.03}
    verdict = judge(base(identity=None), *(model(name, identity=None, loss=loss) for name, loss in losses.items()))
    assert (verdict.best_lora, verdict.leader) == ("lora-64", "lora-64")
    told = next(line for line in findings(verdict, "en") if line.startswith("Held-out loss by LoRA"))
    found = re.findall(r"LoRA (\d+) ([+−][\d.]+) %", told.partition(".  ")[0])
    readings = {int(rank): float(value.replace("−", "-")) for rank, value in found[:3]}
    # 100 · (e^0.01 - 1) = 1.005, -0.995, -2.955
    assert readings == {8: pytest.approx(1.005, abs=0.03), 32: pytest.approx(-0.995, abs=0.03),
                        64: pytest.approx(-2.955, abs=0.03)}  # fmt: skip
    # behind: e^0.04 - 1 = 4.08 %, e^0.02 - 1 = 2.02 %
    behind = re.search(
        r"Behind LoRA 64, beyond chance: LoRA 8 by \+4\.\d\d % \(.* %\) and LoRA 32 by \+[12]\.\d\d %", told
    )
    assert behind, told


def test_the_chance_of_the_leader_is_told_with_the_next() -> None:
    means = {"lora-8": 0.64, "lora-16": 0.66, "lora-32": 0.7}
    verdict = judge(base(folds=3), *(model(name, identity=mean, luck=0.04, folds=3) for name, mean in means.items()))
    assert (verdict.leader, verdict.best_lora, verdict.tied) == ("lora-32", "lora-32", tuple(means))
    chances = sorted(verdict.chances.items(), key=lambda item: -item[1])
    (first, chance), (second, next_chance) = chances[:2]
    assert (first, second) == ("lora-32", "lora-16")
    percent = [f"{max(1, min(99, round(100 * one)))} %" for one in (chance, next_chance)]
    told = f"best of 3 in identity with a chance of {percent[0]}; the next is LoRA 16 with {percent[1]}."
    assert told in verdict.sentence
    russian = Texts("ru").said(verdict.sentence).replace("\u00a0", " ")
    assert f"лучшая из 3 по сходству с вероятностью {percent[0]}" in russian


def test_what_a_verdict_rests_on_is_counted() -> None:
    """Photos of every fold once, however many trainings; seeds of the pictures."""
    one = judge(base(shape=(6, 1), photos=1), model("unet", shape=(6, 1), photos=1))
    assert "On 1 held-out photo, the loss" in " ".join(findings(one, "en"))
    assert "На 1 отложенной фотографии ошибка" in " ".join(findings(one, "ru"))
    for photos, seeds, folds in ((4, 5, 3), (7, 2, 3), (1, 3, 11)):
        models = [model("unet", identity=0.32, shape=(6, seeds), photos=photos, folds=folds)]
        verdict = judge(base(shape=(6, seeds), photos=photos, folds=folds), *models)
        told = findings(verdict, "en")
        assert f"with {photos * folds} held-out photos in {folds} folds and {seeds} seeds" in told[0]
        assert f"Behind this are {folds} trainings of full UNet" in told[-1]
    assert "по 11 отложенным фотографиям из 11 частей и 3 зёрнам" in findings(verdict, "ru")[0]


COURSES = {
    "best_by_loss": (None, 200, "at step 200 of 400: .*its held-out loss was lowest", "на шаге 200 из 400"),
    "best_by_identity": ([0.3, 0.4, 0.6, 0.5], 300, "at step 300 of 400: .*surely more like", "на шаге 300 из 400"),
    "last_by_identity": ([0.3, 0.4, 0.5, 0.5], 400, "at its last step, 400: at no earlier", "на последнем шаге, 400"),
}
"""By sentence: likeness at each reading, the step that is used, and what is said of it."""


@pytest.mark.parametrize("key", COURSES)
def test_the_step_that_is_used_is_told_with_what_chose_it(key: str) -> None:
    """The loss is lowest at 200, and rises from 300 on."""
    ratios = np.array([-0.02, -0.03, 0.02, 0.05]) + np.linspace(-0.001, 0.001, 6)[:, None] * [[1, -1, 1, -1]]
    likeness, step, english, russian = COURSES[key]
    identity = None if likeness is None else np.array([likeness, np.array(likeness) + 0.01])
    curve = draw_curve((100, 200, 300, 400), ratios, identity, loss_margin=0.001, identity_margin=0.02)
    assert (curve.best_step, curve.lowest_loss_step, curve.overfitting_from) == (step, 200, 300)
    verdict = judge(base(), LORA, curves={"lora-8": curve, "unet": other_curve()})
    for other in COURSES.keys() - {key}:
        tells(
            verdict,
            key=f"course.{key}",
            other=f"course.{other}",
            words=(
                rf"LoRA 8 is judged and used {english}.*lowest at step 200; from step 300 on",
                rf"LoRA 8 оценивается и применяется {russian}.*наименьшей на шаге 200; с шага 300 она",
            ),
        )


def other_curve() -> Curve:
    """Of a model that nobody asked about."""
    return Curve((0, 1), (Interval(0, 0, 0), Interval(0, 0, 0)), 1, None, (None, None), 1)


@pytest.mark.parametrize("gate", ["prompt", "drift", "colour"])
def test_a_gate_is_lost_by_the_one_that_is_worse_there(gate: str) -> None:
    """Less of the prompt is worse; more of the person in the class, or more off in the light, is worse."""
    worse: dict[str, Any] = {"prompt": 0.2, "drift": 0.6, "colour": 9.0}
    better: dict[str, Any] = {"prompt": 0.4, "drift": 0.05, "colour": 0.0}
    words = {"prompt": ("follows the prompt less", "хуже следует описанию")}
    words["drift"] = ("lets the class turn into the person", "превращает в этого человека всех подряд")
    words["colour"] = ("leaves the light of photos and base", "рисует светлее или темнее, чем фотографии и основа")
    verdict = judge(
        base(), model("lora-8", **{gate: better[gate]}), model("lora-64", identity=0.9, **{gate: worse[gate]})
    )
    assert verdict.set_aside == {"lora-64": (gate,)}
    assert verdict.best_lora == "lora-8"
    english, russian = words[gate]
    told = " ".join(findings(verdict, "en"))
    assert f"Set aside: LoRA 64, which {english}." in told
    assert f"Отставлено: LoRA 64 ({russian})." in " ".join(findings(verdict, "ru"))


def test_an_encoder_that_takes_strangers_for_the_person_places_nobody() -> None:
    levels = Levels(Interval(0.3, 0.2, 0.4), Interval(0.5, 0.4, 0.6), LEVELS.photo_lightness)
    verdict = judge(base(), model("unet"), levels=levels)
    english, russian = (findings(verdict, one)[1] for one in ("en", "ru"))
    assert "the encoder does not tell the person (0.30) from a stranger (0.50)" in english
    assert "энкодер не отличает этого человека (0,30) от постороннего (0,50)" in russian


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.0414, 3, True, "+0.041"),
        (-0.0414, 3, True, "−0.041"),
        (-0.0004, 3, True, "0.000"),
        (0.0004, 3, True, "0.000"),
        (-0.5, 1, False, "−0.5"),
        (2.0, 2, False, "2.00"),
    ],
)
def test_a_number_has_its_sign_unless_it_is_nought(value: float, digits: int, sign: bool, text: str) -> None:
    assert number(value, digits, sign=sign) == text


def test_an_interval_is_told_from_low_to_high_with_its_unit_once() -> None:
    value = Interval(-1.5, -2.25, 0.75)
    assert shown(value, 2, " %") == "−1.50 % (−2.25 to +0.75 %)"
    assert level(value, 1, " %") == "−1.5 % (95 % interval −2.2 to 0.8 %)"
    assert SAID["ru"](shown(value, 2, " %")).replace("\u00a0", " ") == "−1,50 % (от −2,25 до +0,75 %)"
    assert shown(Interval(1.0, None, None), 1, " %") == "+1.0 % (no interval)"


def test_every_number_below_nought_has_a_proper_minus() -> None:
    """Likeness of strangers may be; so may that of a model, with control or without."""
    levels = Levels(Interval(0.5, 0.4, 0.6), Interval(-0.02, -0.1, 0.06))
    identity = np.array([[-0.12, -0.08], [-0.22, -0.18]])
    control = [ControlEvidence("lora-8", (0.0, 1.0), np.array([[0.2, 0.21], [0.6, 0.61]]), identity)]
    models = [model(name, identity=-0.1, prompt=-0.05) for name in ("lora-8", "lora-16")]
    verdict = judge(base(identity=-0.2, prompt=-0.05), *models, levels=levels, control=control)
    told = " ".join(findings(verdict, "en"))
    assert not re.search(r"-\d", told), told
    for words in ("a stranger does (−0.02)", "LoRA 8 −0.10 and", "fidelity −0.04", "−0.10 without it, −0.20 with it"):
        assert words in told, words
    assert not re.search(r"-\d", " ".join(findings(verdict, "ru")))
