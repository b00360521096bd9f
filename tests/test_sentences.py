"""What was said knows how it was made: its English text is made of its key and values again, and survives a record."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest

import portrayal
from portrayal.pocket import CLOTHES, PLACES
from portrayal.sentences import Said, clauses, listed, paragraph, say, say_if_known, templates

SOURCES = [path.read_text(encoding="utf-8") for path in Path(portrayal.__file__).parent.rglob("*.py")]
ASKED = re.compile(r"""(?:\bsay|Said\.by)\(\s*"([a-z_]+\.[a-z0-9_]+)"[,)]""")


def again(told: object) -> str:
    """English words, made of what was recorded and of nothing else."""
    if not isinstance(told, dict):
        return str(told)
    parts = [again(part) for part in told.get("parts", [])]
    joined = {"listed": listed, "clauses": clauses}
    if told["key"] == "paragraph":
        return paragraph(*parts)
    if told["key"] in joined:
        return joined[told["key"]](parts)
    values = {name: one if isinstance(one, int) else again(one) for name, one in told.get("values", {}).items()}
    return say(told["key"], **values)


def test_words_are_english_and_know_their_key() -> None:
    said = say("basis.photos", n=1)
    assert said == "1 held-out photo"
    assert (said.key, said.values) == ("basis.photos", {"n": 1})
    assert say("basis.photos", n=21) == "21 held-out photos"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert paragraph("one.", "two.") == "One. Two."
    assert clauses(["one", "two"]) == "one; two"


def test_a_record_holds_all_that_words_were_made_of() -> None:
    models = listed(say("model.lora", rank=rank) for rank in (8, 32))
    said = paragraph(say("ranks.equal", models=models, margin="0.02"), say("course.one_fold"))
    told = json.loads(json.dumps(said.told()))
    assert again(told) == said
    kept = Said.retold(said, told)
    assert isinstance(kept, Said)
    assert kept == said
    assert kept.told() == said.told()


def test_words_are_copied_with_their_key() -> None:
    said = say("basis.seeds", n=3)
    for other in (copy.deepcopy(said), pickle.loads(pickle.dumps(said))):
        assert other == said
        assert other.told() == said.told()


@pytest.mark.parametrize(
    "told",
    [
        *(None, 7, "words", [], {}, {"key": 3}),
        *({"key": "x", "values": values} for values in ([], {"a": None}, {"a": {"b": 1}})),
        *({"key": "x", "parts": parts} for parts in ("ab", [{"no": "key"}])),
    ],
)
def test_a_sentence_without_a_key_is_the_sentence(told: object) -> None:
    kept = Said.retold("As it was.", told)
    assert kept == "As it was."
    assert not isinstance(kept, Said)


def test_no_sentence_is_asked_for_that_is_not_there() -> None:
    asked = {key for source in SOURCES for key in ASKED.findall(source)}
    assert len(asked) > 80
    assert asked - templates().keys() == set()


def test_what_pocket_reads_from_drawings_has_a_key() -> None:
    colours = {phrase.split()[2] for phrase in CLOTHES}
    assert {f"colour.{colour}" for colour in colours} <= templates().keys()
    assert all(isinstance(say_if_known(f"place.{place.replace(' ', '_')}", place), Said) for place in PLACES)
    assert say_if_known("colour.mauve", "mauve") == "mauve"


@pytest.mark.parametrize("down", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("across", [0.1, 0.5, 0.9])
def test_every_place_of_a_mark_has_a_key(across: float, down: float) -> None:
    from portrayal.photos.advice import mark_finding
    from portrayal.photos.watermark import Mark

    found = mark_finding("a.jpg", Mark((0, 1, 2, 3, 4), (across, down, across, down)))
    assert isinstance(found.message, Said)
    assert again(found.message.told()) == found.message
