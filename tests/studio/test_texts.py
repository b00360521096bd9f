"""Both languages say the same things, fill in the same names, and lack nothing that a screen asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from portrayal.studio import page
from portrayal.studio.texts import LANGUAGES, Texts, choose_language, entries, plural_form

PAGE = Path(page.__file__).parent
NAMES = re.compile(r"\{(\w+)\}")
ASKED = re.compile(r"""\bt\(\s*"([a-z_]+\.[a-z0-9_-]+)"[,)]""")


def names_in(entry: object) -> set[str]:
    forms = entry.values() if isinstance(entry, dict) else [entry]
    return {name for form in forms for name in NAMES.findall(str(form))}


def test_both_languages_have_the_same_texts_with_the_same_names() -> None:
    english, russian = entries("en"), entries("ru")
    assert english.keys() == russian.keys()
    differing = {key for key in english if names_in(english[key]) != names_in(russian[key])}
    assert differing == set()


def test_a_plural_has_every_form_that_its_language_wants() -> None:
    wanted = {"en": {"one", "other"}, "ru": {"one", "few", "many", "other"}}
    for language, forms in wanted.items():
        plurals = {key: text for key, text in entries(language).items() if isinstance(text, dict)}
        assert plurals
        assert {key: set(text) for key, text in plurals.items()} == dict.fromkeys(plurals, forms)


def test_no_text_is_asked_for_that_is_not_there() -> None:
    asked = {
        key
        for path in [*PAGE.rglob("*.py"), *PAGE.rglob("*.j2")]
        for key in ASKED.findall(path.read_text(encoding="utf-8"))
    }
    assert len(asked) > 100
    assert asked - entries("en").keys() == set()


@pytest.mark.parametrize(
    ("number", "form"),
    [
        (0, "many"),
        (1, "one"),
        (2, "few"),
        (5, "many"),
        (11, "many"),
        (12, "many"),
        (21, "one"),
        (24, "few"),
        (1.5, "other"),
    ],
)
def test_russian_plurals(number: float, form: str) -> None:
    assert plural_form("ru", number) == form


@pytest.mark.parametrize(
    ("asked", "chosen", "spoken"),
    [
        (["ru-RU", "en"], None, "ru"),
        (["de-DE", "ru;q=0.8", "en;q=0.5"], None, "ru"),
        (["fr"], None, "en"),
        ([], None, "en"),
        (["ru"], "en", "en"),
        (["en"], "ru", "ru"),
        (["en"], "../../etc/passwd", "en"),
    ],
)
def test_the_browser_chooses_the_language_and_a_person_has_the_last_word(
    asked: list[str], chosen: str | None, spoken: str
) -> None:
    assert choose_language(asked, chosen) == spoken


def test_numbers_as_each_language_writes_them() -> None:
    english, russian = (Texts(language) for language in LANGUAGES)
    assert english.number(-1.25, 2) == "−1.25"
    assert russian.number(1.25, 2) == "1,25"
    assert [english.duration(seconds) for seconds in (40, 210, 5400)] == ["40 s", "3.5 min", "1.5 h"]
    assert russian.duration(210) == "3,5 мин"
    assert (english.size(0.25), russian.size(3.42)) == ("256 MiB", "3,4 ГиБ")
    assert (english.percent(0.5), russian.percent(0.5)) == ("50%", "50\u00a0%")


def test_braces_that_are_no_names_stay() -> None:
    assert "{subject}" in Texts("en")("generate.prompt_help", subject="{subject}")
