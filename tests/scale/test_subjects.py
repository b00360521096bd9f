"""Who is to be studied: read from folders and tables, with every mistake said."""

from __future__ import annotations

import csv
import io
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from portrayal.errors import UsageError
from portrayal.scale.subjects import Study, read_studies
from portrayal.settings import load_config

NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), min_size=1, max_size=5, unique=True)


def test_a_folder_of_folders_and_archives(tmp_path: Path) -> None:
    for name in ("bea", "ann", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "cid.zip").touch()
    (tmp_path / "notes.txt").touch()
    studies = read_studies(tmp_path, settings=["seed=3"], consent=True)
    assert [study.name for study in studies] == ["ann", "bea", "cid"]
    assert studies[0] == Study("ann", tmp_path / "ann", None, ("seed=3",), True)


def test_every_subject_by_every_recipe(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "bea").mkdir()
    studies = read_studies(tmp_path, ["pocket-demo", "mine/quick.toml"])
    assert [study.name for study in studies] == ["ann.pocket-demo", "ann.quick", "bea.pocket-demo", "bea.quick"]


def test_a_csv_table(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    table.write_text(
        "\ufeffphotos,name,class,recipe,consent,study.ranks\n"
        'shoots/1,ann,woman,,yes,"[8, 16]"\n'
        "shoots/2,,man,sd15-8gb,no,\n",
        encoding="utf-8",
    )
    first, second = read_studies(table, ["pocket-demo"], ["seed=3"])
    settings = ("seed=3", "subject.class_noun=woman", "study.ranks=[8, 16]")
    assert first == Study("ann", tmp_path / "shoots/1", "pocket-demo", settings, True)
    assert second == Study("2", tmp_path / "shoots/2", "sd15-8gb", ("seed=3", "subject.class_noun=man"), False)
    config = load_config(None, first.settings)
    assert (config.study.ranks, config.subject.class_noun, config.seed) == ((8, 16), "woman", 3)


def test_a_toml_table(tmp_path: Path) -> None:
    table = tmp_path / "people.toml"
    table.write_text(
        '[[subject]]\nphotos = "ann"\nclass = "woman"\nstudy.ranks = [8]\nstudy.full_unet = false\nseed = 7\n'
    )
    (study,) = read_studies(table)
    config = load_config(None, study.settings)
    assert (config.study.ranks, config.study.full_unet, config.seed) == ((8,), False, 7)
    assert study.arguments(Path("runs/ann"))[:5] == ["run", str(tmp_path / "ann"), "--out", "runs/ann", "--json"]
    assert study.consent is None


@given(NAMES, st.data())
def test_both_kinds_of_table_mean_the_same(names: list[str], data: st.DataObject) -> None:
    rows = [{"photos": f"p/{name}", "name": name, "class": data.draw(st.sampled_from(["woman", "man, old", 'a "dog"']))}
            for name in names]  # fmt: skip
    written = io.StringIO()
    writer = csv.DictWriter(written, ["photos", "name", "class"])
    writer.writeheader()
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text(written.getvalue(), encoding="utf-8", newline="")
        (Path(folder) / "t.toml").write_text(tomli_w.dumps({"subject": rows}), encoding="utf-8")
        assert read_studies(Path(folder) / "t.csv") == read_studies(Path(folder) / "t.toml")


@given(st.text())
def test_any_text_is_a_table_or_a_mistake(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("csv", "toml"):
            table = Path(folder) / f"t.{ending}"
            table.write_text(text, encoding="utf-8", errors="replace")
            with suppress(UsageError):
                assert read_studies(table)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "photos,clas\na,woman", "did you mean class"),
        ("t.csv", "name\nann", "no `photos`"),
        ("t.csv", "photos,consent\na,maybe", "Say yes or no"),
        ("t.csv", "photos\na,b", "more cells than columns"),
        ("t.csv", "photos,name\na,x\nb,x", "called x"),
        ("t.csv", "photos,name\na,../b", "cannot name a run"),
        ("t.csv", "photos\n", "holds no subjects"),
        ("t.toml", "subject = 3", "[[subject]]"),
        ("t.toml", "[[subject]\n", "not valid TOML"),
        ("t.toml", "[[people]]\nphotos = 'a'", "[[subject]]"),
        ("t.txt", "a", "no table"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError) as error:
        read_studies(tmp_path / name)
    assert said in str(error.value)


def test_a_folder_of_photos_is_one_subject_and_not_many(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UsageError, match="portrayal run"):
        read_studies(tmp_path)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UsageError, match="holds no subjects"):
        read_studies(tmp_path)
