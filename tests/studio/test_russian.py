"""The Russian page speaks Russian where the package speaks English: verdicts, advice on photos, settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from portrayal import Said
from portrayal.evaluation.cuts import Cut, sentence_of
from portrayal.evaluation.intervals import Interval
from portrayal.evaluation.sweep import ControlEvidence
from portrayal.evaluation.verdict import Levels
from portrayal.sentences import clauses, listed, paragraph, say, templates
from portrayal.studio.compare import verdict_of
from portrayal.studio.forms import fields
from portrayal.studio.page.plan import OWN_PLACE
from portrayal.studio.photos import check, contact
from portrayal.studio.projects import Project, Projects
from portrayal.studio.texts import NAME, Entry, Texts, entries, plural_form, settings
from portrayal.studio.uploads import accept_photos
from tests.evaluation.test_verdict import base, judge, model
from tests.studio.test_page import ask

RUSSIAN = entries("ru", "sentences.")
T = Texts("ru")
TERMS = (
    r"\b(?:LoRA|UNet|ControlNet|PCK@0\.1|F1|HEIC|JPEG|UTF-8|pip install pi-heif|prepare\.drop|study\.learning_rates"
    r"|zip|r|L|МБ|woman)\b"
)
CODE = re.compile(r"<(code|svg|style|textarea|select|datalist)\b.*?</\1>|<[^>]*>", re.DOTALL)
ENGLISH = re.compile(r"[A-Za-z][a-z']+(?:[ ,.;:]+[A-Za-z][a-z']+){2,}")
COUNTS = (0, 1, 2, 4, 5, 11, 21, 22, 63)


def forms(entry: Entry) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry.values())


def names(entry: Entry) -> set[str]:
    """Names that any form fills in."""
    return {name for form in forms(entry) for name, _ in NAME.findall(form)}


def lacks_only_the_count(entry: Entry) -> set[str]:
    """Names that every form fills in: `n` may choose a form and not be in it."""
    return set.intersection(*({name for name, _ in NAME.findall(form)} for form in forms(entry)))


def test_both_languages_have_the_same_sentences_with_the_same_values() -> None:
    assert RUSSIAN.keys() == templates().keys()
    assert {key for key in RUSSIAN if names(RUSSIAN[key]) != names(templates()[key])} == set()
    uneven = {key for key, entry in RUSSIAN.items() if names(entry) != lacks_only_the_count(entry)}
    assert uneven == set()


def test_a_plural_has_every_form_and_is_chosen_by_a_count_that_is_given() -> None:
    for key, entry in RUSSIAN.items():
        if isinstance(entry, dict) and "nom" not in entry:
            assert set(entry) == {"one", "few", "many", "other"}, key
            assert "n" in names(templates()[key]), key
    assert all(set(one) == {"one", "other"} for one in templates().values() if isinstance(one, dict))


def test_what_is_declined_has_every_form_that_is_asked_of_it() -> None:
    asked: dict[str, set[str]] = {"axis": set(), "than": set(), "model": set()}
    for entry in RUSSIAN.values():
        for name, form in (found for one in forms(entry) for found in NAME.findall(one) if found[1]):
            asked["model" if name in ("model", "other") else name].add(form)
    for key, wanted in (
        *((f"axis.{axis}", asked["axis"]) for axis in ("identity", "heldout_loss")),
        *((f"brightness.{than}", asked["than"]) for than in ("photos", "base")),
        *((f"model.{kind}", asked["model"]) for kind in ("base", "unet")),
    ):
        entry = RUSSIAN[key]
        assert isinstance(entry, dict)
        assert wanted | {"nom"} == set(entry), key


def sample(name: str, n: int) -> str | int:
    """Something to fill a name with."""
    if name in ("model", "ahead", "other"):
        return say("model.unet")
    if name in ("best", "leader", "lora"):
        return say("model.lora", rank=8)
    counts = {"n": n, "rank": 8, "step": 200, "last": 400, "lowest": 100, "rising": 300, "total": 63}
    parts = {
        "axis": say("axis.identity"),
        "models": listed(say("model.lora", rank=rank) for rank in (8, 32, 128)),
        "clauses": clauses([say("sides.one_fold")]),
        "than": say("brightness.base"),
        "lost": listed([say("gate.prompt"), say("gate.colour")]),
        "where": say("mark.middle"),
        "colour": say("colour.red"),
        "place": say("place.in_the_kitchen"),
        "noun": "woman",
    }
    return counts.get(name) or parts.get(name) or ("0.71" if name != "n" else 0)


@pytest.mark.parametrize("key", sorted(templates()))
def test_every_template_is_russian_when_it_is_filled(key: str) -> None:
    for n in COUNTS:
        said = T.said(say(key, **{name: sample(name, n) for name in names(templates()[key]) | {"n"}}))
        assert re.search(r"[А-яё]", said) or key in ("model.lora", "number.difference_alone"), said
        assert not re.search(r"[A-Za-z{}]", re.sub(TERMS, "", said)), said
        assert "0.71" not in said


@pytest.mark.parametrize(
    ("said", "russian"),
    [
        (say("basis.photos", n=1), "1 отложенной фотографии"),
        (say("basis.photos", n=18), "18 отложенным фотографиям"),
        (say("basis.seeds", n=21), "21 зерну"),
        (say("loss.on", n=21), "На 21 отложенной фотографии"),
        (say("number.level", mean="−0.5 %", low="−0.7", high="0.1 %"), "−0,5\u00a0% (95\u00a0%-й доверительный "
         "интервал от −0,7 до 0,1\u00a0%)"),
        (say("verdict.side_better", model=say("model.lora", rank=8), other=say("model.unet")),
         "LoRA\u00a08 достоверно лучше полной UNet: берите её."),
        (paragraph(say("verdict.only", model=say("model.unet"))), "Полная UNet — единственная обученная модель."),
        (say("course.trainings", n=3, model=say("model.lora", rank=8)), "За этим стоят 3 обучения LoRA\u00a08; каждое "
         "оценено на фотографиях, которых оно не видело: везение при обучении входит в интервалы."),
        (say("photos.alike", n=2, total=6), "2 из 6 похожи на другие. Снимите ещё, в другое время и в других местах."),
        (say("photos.place", n=5, total=6, place=say("place.in_the_kitchen")), "5 из 6 фотографий сняты на кухне: "
         "модели запомнят и это место. Добавьте снятые в других."),
        (say("photo.burnt", share="50%"), "пересвечена на 50\u00a0%; возьмите снятую при меньшем свете"),
        (listed(["a", "b", "c"]), "a, b и c"),
    ],
)  # fmt: skip
def test_some_in_full(said: Said, russian: str) -> None:
    assert T.said(said) == russian


def verdicts() -> Iterator[dict[str, object]]:
    """Verdicts on evidence of many kinds, as they are recorded."""
    rng = np.random.default_rng(3)
    for number in range(60):
        folds, seeds = (3, 5) if number % 3 == 0 else (1, int(rng.choice([1, 5])))
        shared = {"shape": (6, seeds), "folds": folds, "seed": number}
        without = {"identity": None} if number % 7 == 0 else {"prompt": None, "drift": None} if number % 11 == 0 else {}

        def tuned(name: str, shared: dict[str, object] = shared, without: dict[str, None] = without) -> object:
            means = {"identity": rng.choice([0.2, 0.5, 0.7, 0.705, 0.9]), "prompt": rng.choice([0.2, 0.3, 0.35])}
            means |= {"drift": rng.choice([0.3, 0.6]), "colour": rng.choice([0, 9]), "loss": rng.choice([-0.02, 0.01])}
            means |= {"lightness": rng.choice([52, 60, 68]), "noise": rng.choice([1e-5, 0.004, 0.05])}
            return model(name, **{**means, **shared, **without})  # type: ignore[arg-type]

        models = [base(**shared, **without)] * (number % 5 > 0)
        models += [tuned(name) for name in ("lora-8", "lora-32", "unet")[: 1 + number % 3]]
        control = [
            ControlEvidence("lora-8", (0.0, 1.0), rng.random((2, 3)), rng.random((2, 3)), measure=measure)
            for measure in ("edge_f1", "pck", "depth_correlation", "edge_correlation")
        ]
        found = judge(*models, control=control, **({"levels": Levels()} if number % 4 == 0 else {}))  # type: ignore[arg-type]
        recorded: dict[str, object] = json.loads(json.dumps(found.as_json()))
        yield recorded


def test_recorded_verdicts_are_said_in_russian_and_stay_english_in_english() -> None:
    english, told = Texts("en"), set()
    for recorded in verdicts():
        kept = verdict_of(recorded)
        for words in (kept.sentence, *kept.conclusions):
            said = T.said(words)
            assert not re.search(r"[A-Za-z{}]", re.sub(TERMS, "", said)), said
            assert said.endswith(".")
            assert english.said(words) == words
            told.add(words)
        assert [kept.sentence, *kept.conclusions] == [recorded["sentence"], *recorded["conclusions"]]  # type: ignore[misc]
    assert len(told) > 200


def test_an_old_record_and_an_unknown_key_are_shown_as_they_are() -> None:
    old = verdict_of({"sentence": "It was good.", "conclusions": ["One.", "Two."]})
    assert (T.said(old.sentence), T.can_say(old.sentence)) == ("It was good.", False)
    assert [T.said(one) for one in old.conclusions] == ["One.", "Two."]
    newer = {"key": "paragraph", "parts": [{"key": "not.yet", "values": {"n": 1}}]}
    lacking = {"key": "basis.photos"}
    for told in (newer, lacking, {"key": "paragraph", "parts": []}):
        assert T.said(Said.retold("As it was.", told)) == "As it was."
    shorter = verdict_of({"sentence": "S", "conclusions": ["One."], "said": {"conclusions": [None, None]}})
    assert shorter.conclusions == ("One.",)


def test_every_setting_of_the_form_is_explained() -> None:
    shown = {one.key for one in fields()} - OWN_PLACE
    assert settings("ru").keys() == shown
    for key, told in settings("ru").items():
        assert set(told) == {"label", "help"}, key
        assert told["help"].endswith("."), key
        assert told["help"].count("`") % 2 == 0, key
        assert re.search(r"[А-яё]", told["help"]), key
    assert settings("en") == {}


def test_labels_in_a_section_differ() -> None:
    labels = [(key.split(".")[0], told["label"]) for key, told in settings("ru").items()]
    assert len(set(labels)) == len(labels)


def test_what_is_code_in_a_setting_s_help_is_in_the_config_s_too() -> None:
    """What is written in backticks is typed: it must be the same words."""
    for one in fields():
        if told := settings("ru").get(one.key):
            typed = set(re.findall(r"`([^`]+)`", told["help"]))
            assert typed <= set(re.findall(r"`([^`]+)`", one.help)), one.key


def visible(html: str) -> str:
    return CODE.sub(" ", html)


def test_the_page_of_a_finished_run_shows_no_english_sentence(finished: Project, projects: Projects) -> None:
    for screen in ("photos", "verdict"):
        html = ask(projects, {"project": "made", "screen": screen}, "ru")["html"]
        assert html.count('lang="en"') == 1  # the button that chooses English
        assert ENGLISH.findall(visible(html)) == []
    html = ask(projects, {"project": "made", "screen": "plan"}, "ru")["html"]
    form = html[html.index('id="settings"') : html.index("</form>", html.index('id="settings"'))]
    form = re.sub(r"<em>.*?</em>|<input[^>]* data-many[^>]*>[^<]*", "", form)  # values, as they are typed
    cited = re.compile(
        r"\([A-Z][^()]*arXiv[^()]*\)|\w+ et al\.|Classifier-free guidance \([^()]*\)|decoupled weight decay"
    )
    assert ENGLISH.findall(cited.sub("", visible(form))) == []


def test_the_verdict_tells_the_smallest_file_that_does_in_both_languages(finished: Project, projects: Projects) -> None:
    path = finished.run_folder / "cuts.json"
    recommended = json.loads((finished.run_folder / "scores.json").read_text())["verdict"]["recommended"]

    def shown(language: str, model: str, rank: int | None) -> str:
        cuts = [Cut(rank, 19.2, Interval(-0.004, -0.012, 0.003), None, True)] if rank else []
        sentence = sentence_of(cuts, 150.2)
        path.write_text(json.dumps({"model": model, "sentence": sentence, "said": sentence.told()}), encoding="utf-8")
        return str(ask(projects, {"project": "made", "screen": "verdict"}, language)["html"])

    command = "portrayal export RUN --to kohya --rank 16"
    assert f"rank 16, 19.2 MB instead of 150; likeness −0.004 (−0.012 to +0.003). To write it: {command}<" in shown(
        "en", recommended, 16
    )
    html = shown("ru", recommended, 16)
    assert f"ранг 16, 19,2 МБ вместо 150; сходство −0,004 (от −0,012 до +0,003). Записать его: {command}<" in html
    assert html.count('lang="en"') == 1
    assert "Ни об одном файле меньше не показано, что он не хуже." in shown("ru", recommended, None)
    assert command not in shown("en", "lora-64", 16), "recommended before"


def test_the_page_of_a_run_of_an_older_version_shows_its_english(finished: Project, projects: Projects) -> None:
    path = finished.run_folder / "scores.json"
    scores = json.loads(path.read_text(encoding="utf-8"))
    del scores["verdict"]["said"]
    path.write_text(json.dumps(scores), encoding="utf-8")
    html = ask(projects, {"project": "made", "screen": "verdict"}, "ru")["html"]
    assert html.count('lang="en"') == 2 + len(scores["verdict"]["conclusions"])
    assert str(escape(scores["verdict"]["sentence"])) in html


def test_advice_and_refusals_are_russian(ann: Project, projects: Projects, tmp_path: Path) -> None:
    found = check(ann)
    assert found.remarks
    for words in (*found.remarks, *contact(ann).remarks):
        assert not re.search(r"[A-Za-z{}]", re.sub(TERMS, "", T.said(words))), words
    messages = [message for photo in contact(ann).photos for _, message in photo.findings]
    assert all(T.can_say(message) for message in messages)
    torn, text = tmp_path / "torn.jpg", tmp_path / "notes.zip"
    first = ann.photos[0]
    torn.write_bytes(first.read_bytes()[:700])
    text.write_text("no archive")
    other = projects.create("Bob")
    taken = accept_photos(other, [(first, "a.jpg"), (first, "b.jpg"), (torn, "torn.jpg"), (text, "notes.zip")])
    assert [bool(one.error) for one in taken] == [False, True, True, True]
    assert all(T.can_say(one.error) for one in taken[1:])
    assert T.said(taken[1].error) == "такая уже есть: a.jpg"


def test_a_plural_form_of_each_count() -> None:
    assert [plural_form("ru", n) for n in COUNTS] == ["many", "one", "few", "few", "many", "many", "one", "few", "few"]
