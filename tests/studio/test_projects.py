"""Projects: names that lead nowhere, choices that become settings, and deleting that leaves nothing."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portrayal import UsageError, load_config
from portrayal.studio.files import below, checked_name, locked
from portrayal.studio.jobs import Queue
from portrayal.studio.projects import Choices, Project, Projects, as_toml
from portrayal.studio.uploads import accept_photos

NO_NAMES = ("", " ", ".", "..", ".hidden", "x.", "a/b", "a\\b", "/etc", "../x", "a" * 65, "ж" * 101, "a\0b", "a\nb")
DEVICES = ("con", "COM1.txt", "\u202ex", "a:b", 'a"b', "a?b", "a*b", "a|b", "<a>")


@pytest.mark.parametrize("name", [*NO_NAMES, *DEVICES])
def test_a_name_that_is_no_folder_s_is_refused(projects: Projects, name: str) -> None:
    with pytest.raises(UsageError):
        projects.create(name)
    with pytest.raises(UsageError):
        projects.open(name)
    assert not projects.root.exists()


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_whatever_is_accepted_is_one_folder_below_the_root(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = Path("/somewhere/root")
    try:
        accepted = checked_name(name)
    except UsageError:
        return
    assert (root / accepted).parent == root
    assert (root / accepted).name == accepted
    assert not accepted.startswith(".")


@pytest.mark.parametrize("name", ["Ann", "Анна и Пётр", "ann-2", "a b", "été"])
def test_people_may_call_a_project_as_they_like(projects: Projects, name: str) -> None:
    made = projects.create(f" {name} ")
    assert made.folder == projects.root / name
    assert [one.name for one in projects.all()] == [name]
    assert projects.open(name) == made
    assert made.state == "new"
    assert made.picture is None


def test_a_name_is_taken_once_whatever_its_capitals(projects: Projects) -> None:
    projects.create("Ann")
    with pytest.raises(UsageError, match="already"):
        projects.create("ANN")


def test_links_are_no_projects(projects: Projects, tmp_path: Path) -> None:
    projects.create("Ann")
    outside = tmp_path / "outside"
    shutil.copytree(projects.root / "Ann", outside)
    (projects.root / "link").symlink_to(outside)
    assert [one.name for one in projects.all()] == ["Ann"]
    with pytest.raises(UsageError):
        projects.open("link")
    with pytest.raises(UsageError):
        below(projects.root / "Ann", "..", "outside")
    (projects.root / "Ann" / "away").symlink_to(outside)
    with pytest.raises(UsageError):
        below(projects.root / "Ann", "away", "project.json")


def test_choices_are_settings(projects: Projects) -> None:
    made = projects.create("Ann")
    scenes = {"street": 'a "photo" of {subject}\non the street', "sea": "{subject} by the sea — été"}
    made.choose(
        quality="thorough", base="pocket", class_noun="woman", overrides={"generation.scenes": scenes, "seed": 7}
    )
    made.choose(crop={"a.jpg": [1, 2, 300], "gone.jpg": [0, 0, 9]}, drop=["b.jpg", "gone.jpg"], keep=["a.jpg"])
    config = load_config(None, made.choices.settings(["a.jpg", "b.jpg"]))
    assert (config.study.folds, config.study.seeds, config.seed) == (5, 3, 7)
    assert (config.base.name, config.subject.class_noun) == ("pocket", "woman")
    assert config.generation.scenes == scenes
    assert config.prepare.crop == {"a.jpg": (1, 2, 300)}
    assert (config.prepare.drop, config.prepare.keep) == (("b.jpg",), ("a.jpg",))
    with pytest.raises(UsageError, match="no choice"):
        made.choose(colour="red")
    with pytest.raises(UsageError, match="no effort"):
        made.choose(quality="endless")
    assert made.choices.quality == "thorough"


texts = st.text(st.characters(codec="utf-8"), max_size=20)
values = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(values)
@settings(max_examples=300, deadline=None)
def test_any_value_is_written_as_toml(value: object) -> None:
    assert tomllib.loads(f"value = {as_toml(value)}")["value"] == value


def test_damaged_choices_are_the_usual_ones(projects: Projects) -> None:
    made = projects.create("Ann")
    (made.folder / "choices.json").write_text('{"quality": "qui')
    assert made.choices == Choices()
    (made.folder / "choices.json").write_text('{"quality": "quick", "of a later version": 1}')
    assert made.choices.quality == "quick"


def test_a_run_made_by_a_command_is_a_project(finished: Project, queue: Queue) -> None:
    assert finished.made_by_command
    assert finished.state == "done"
    assert finished.picture is not None
    with pytest.raises(UsageError, match="started with its settings"):
        finished.choose(quality="quick")
    with pytest.raises(UsageError, match="by a command"):
        queue.submit(finished, "run")
    with pytest.raises(UsageError, match="photos"):
        accept_photos(finished, [])


def test_deleting_leaves_nothing(ann: Project, projects: Projects, queue: Queue) -> None:
    other = projects.create("other")
    copies = projects.root / ".studio" / "gradio" / "x"
    copies.mkdir(parents=True)
    (copies / "upload.jpg").write_bytes(b"copy")
    small = projects.root / ".studio" / "small" / "Ann"
    small.mkdir(parents=True)
    job = queue.submit(ann, "run")
    queue.log(job.id).write_text("said")
    projects.delete("Ann")
    left = [path for path in projects.root.rglob("*") if path.is_file() and path.name not in (".lock", "worker.log")]
    names = {path.relative_to(projects.root).as_posix() for path in left}
    assert names <= {"other/project.json", ".studio/worker.lock", ".studio/ballast"}
    assert not [path for path in projects.root.rglob("*") if "Ann" in path.name]
    assert projects.all() == [other]
    assert queue.jobs() == []


def test_what_is_locked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portrayal.studio.files.PATIENCE", 0.05)
    with locked(tmp_path), pytest.raises(Exception, match="cannot be changed at the moment"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
