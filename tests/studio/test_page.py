"""The page's answers: every screen in both languages, what people wrote escaped, nonsense refused without an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from portrayal.studio.page.app import SCREENS, answer, look, marked
from portrayal.studio.page.asked import STEPS, Outcome
from portrayal.studio.projects import Project, Projects


def request(languages: str = "en") -> Request:
    return Request({"type": "http", "headers": [(b"accept-language", languages.encode())]})


def ask(projects: Projects, place: Any = None, languages: str = "en", **more: Any) -> dict[str, Any]:
    answered = answer(projects, {"place": place, **more}, request(languages))
    json.dumps(answered)  # as it goes to the browser
    return answered


@pytest.mark.parametrize("languages", ["en", "ru"])
def test_every_screen_of_a_finished_run(finished: Project, projects: Projects, languages: str) -> None:
    for screen in STEPS:
        shown = ask(projects, {"project": "made", "screen": screen}, languages)
        assert shown["language"] == languages
        assert 'role="alert"' not in shown["html"]
        assert '<h1 tabindex="-1">' in shown["html"]
        assert shown["place"]["screen"] == screen


@pytest.mark.parametrize("languages", ["en", "ru"])
def test_every_screen_of_an_empty_project(projects: Projects, languages: str) -> None:
    projects.create("Ann")
    for screen in ("projects", *STEPS):
        shown = ask(projects, {"project": "Ann", "screen": screen} if screen in STEPS else {}, languages)
        assert 'role="alert"' not in shown["html"]
        assert 'class="button first"' in shown["html"]  # it says what to do next


def test_the_same_address_shows_the_same_screen(finished: Project, projects: Projects) -> None:
    place = {"project": "made", "screen": "compare", "scene": "forest", "a": "unet", "b": "lora-4", "seed": "1"}
    shown = ask(projects, place)
    assert shown["place"] == place
    assert 'data-models="unet-lora-4"' in shown["html"]


def test_a_project_opens_where_it_is(finished: Project, projects: Projects) -> None:
    projects.create("Ann")
    assert ask(projects, {"project": "made"})["place"]["screen"] == "verdict"
    assert ask(projects, {"project": "Ann"})["place"]["screen"] == "photos"


def test_an_address_that_leads_nowhere(projects: Projects) -> None:
    for place in ({"project": "nobody"}, {"project": "../../etc"}, {"project": ".studio"}, "nonsense", None, 7):
        assert ask(projects, place)["place"] == {}
    assert "nobody" in ask(projects, {"project": "nobody"})["html"]


def test_what_people_write_is_escaped(projects: Projects) -> None:
    project = projects.create("Ann & <b>".replace("<b>", "Bob"))
    project.choose(class_noun='"><script>alert(1)</script>')
    shown = ask(projects, {"project": project.name, "screen": "photos"})
    assert "<script>" not in shown["html"]
    assert "&lt;script&gt;" in shown["html"]
    assert "Ann &amp; Bob" in shown["html"]
    assert str(marked("`a` <i> `<b>`")) == "<code>a</code> &lt;i&gt; <code>&lt;b&gt;</code>"


def test_a_refused_name_is_told_and_kept(projects: Projects) -> None:
    shown = ask(projects, {}, act="projects.create", values={"name": "a/b"})
    assert shown["wrong"]
    assert "a/b" in shown["html"]
    assert projects.all() == []


@pytest.mark.parametrize("name", ["", "nothing", "photos.", "photos.view", "photos.__class__", "train.", "app.answer"])
def test_no_action_of_that_name(projects: Projects, name: str) -> None:
    projects.create("Ann")
    shown = ask(projects, {"project": "Ann", "screen": "photos"}, act=name, values={})
    assert shown["wrong"]
    assert "Traceback" not in shown["html"]


def test_a_file_that_was_not_handed_in_is_refused(projects: Projects, tmp_path: Path) -> None:
    project = projects.create("Ann")
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"private")
    for path in (str(secret), "/etc/passwd", "../secret.png", "", "\0"):
        shown = ask(
            projects,
            {"project": "Ann", "screen": "photos"},
            act="photos.add",
            values={"uploaded": [{"path": path, "name": "x.png"}]},
        )
        assert shown["wrong"]
    assert project.photos == []
    assert secret.read_bytes() == b"private"  # nor is it deleted


def test_a_fault_of_ours_does_not_take_the_page_away(
    projects: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(asked: object, outcome: object) -> dict[str, Any]:
        raise ZeroDivisionError("by nothing")

    projects.create("Ann")
    monkeypatch.setattr(SCREENS["photos"], "view", broken)
    shown = ask(projects, {"project": "Ann", "screen": "photos"})
    assert "by nothing" in shown["html"]
    assert shown["poll"]
    assert "ZeroDivisionError" in caplog.text


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(
    values=st.dictionaries(
        st.sampled_from(["name", "side", "left", "top", "uploaded", "failed", "noun", "consent"]),
        st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text()), st.dictionaries(st.text(), st.text())),
    ),
    action=st.sampled_from(["add", "take_out", "put_back", "remove", "crop", "uncrop", "subject"]),
)
def test_any_values_are_answered(values: dict[str, Any], action: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    projects = Projects(tmp_path_factory.getbasetemp() / "any")
    if not projects.all():
        projects.create("Ann")
    shown = ask(projects, {"project": "Ann", "screen": "photos"}, act=f"photos.{action}", values=values)
    assert "Traceback" not in shown["html"]
    assert "should not have" not in shown["html"]  # no fault of ours


def test_nothing_of_the_look_lies_elsewhere() -> None:
    head = look()["head"]
    assert "prefers-color-scheme: dark" in head
    assert "@import" not in head
    assert "url(" not in head
    assert "http" not in head


def test_a_message_stays_while_the_page_looks_again(projects: Projects) -> None:
    projects.create("Ann")
    place = {"project": "Ann", "screen": "plan"}
    values = {"training.max_grad_norm": "none", "training.snr_gamma": "5"}
    refused = ask(projects, place, act="plan.save", values=values)
    assert refused["wrong"]
    again = ask(projects, place, kept=json.loads(json.dumps(refused["kept"])))
    for shown in (refused, again):
        assert 'role="alert"' in shown["html"]
        assert 'value="none"' in shown["html"]  # what was typed
    assert 'role="alert"' not in ask(projects, place)["html"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kept=st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_comes_back_as_kept_is_read_or_left(kept: Any) -> None:
    for told in (kept, {"wrong": kept, "values": kept}, {"values": {"refused": kept, "settings": kept}}):
        assert Outcome.from_json(Outcome.from_json(told).as_json()) == Outcome.from_json(told)
