"""The kept list of programming errors fits the code: each can still be put in, and its tests are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.mutant_runs import ROOT, outcome_of
from benchmarks.mutants import KINDS, Mutant, load_catalog, rate, span_of

CATALOG = [mutant for rows in load_catalog().values() for mutant in rows]

SOURCE = """
LIMIT = 3

class Judge:
    size: int = 4

    @property
    def level(self):
        if True:
            def inner():
                return 1
        return inner()

def level():
    return 1
"""


@pytest.mark.parametrize("mutant", CATALOG, ids=lambda mutant: mutant.name)
def test_each_error_can_be_put_into_the_code(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    changed = mutant.applied_to(source)
    assert changed != source
    if mutant.path.suffix == ".py":
        compile(changed, mutant.name, "exec")


def test_the_tests_that_should_notice_are_there() -> None:
    for test in sorted({test for mutant in CATALOG for test in mutant.tests}):
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        if name:
            function = name.split("::")[-1].partition("[")[0]
            assert re.search(rf"def {re.escape(function)}\(", (ROOT / path).read_text(encoding="utf-8")), test


def test_the_list_is_long_and_covers_every_package_and_kind() -> None:
    assert len(CATALOG) >= 120
    packages = {path.parent.name for path in (ROOT / "src" / "portrayal").glob("*/__init__.py")}
    assert packages - {mutant.package for mutant in CATALOG} <= {"pocket"}
    assert {mutant.kind for mutant in CATALOG} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("LIMIT", "LIMIT = 3", "LIMIT = 3"),
        ("Judge", "class Judge:", "        return inner()"),
        ("Judge.size", "    size: int = 4", "    size: int = 4"),
        ("Judge.level", "    @property", "        return inner()"),
        ("Judge.level.inner", "            def inner():", "                return 1"),
        ("level", "def level():", "    return 1"),
    ],
)
def test_a_name_is_found_where_it_stands(name: str, first: str, last: str) -> None:
    start, end = span_of(SOURCE, name)
    lines = SOURCE[start:end].splitlines()
    assert (lines[0], lines[-1]) == (first, last)


def test_a_text_that_is_not_there_exactly_once_is_refused() -> None:
    for before in ("return", "nowhere"):
        mutant = Mutant("x", "other", before, "pass", (), function="portrayal.mod:Judge.level")
        with pytest.raises(ValueError, match="expected the text once"):
            mutant.applied_to(SOURCE)
    with pytest.raises(ValueError, match=r"there is no Judge\.missing"):
        span_of(SOURCE, "Judge.missing")


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, "survived"), (1, "killed"), (None, "killed"), (-9, "killed"), (2, "error"), (4, "error"), (5, "error")],
)
def test_only_a_test_that_fails_kills(status: int | None, expected: str) -> None:
    """Not one that cannot be collected, or is not there."""
    outcome = outcome_of(status, "FAILED tests/test_x.py::test_y - AssertionError\n", 1.0)
    assert outcome.status == expected
    assert status != 1 or outcome.detail == "tests/test_x.py::test_y"


@pytest.mark.parametrize(
    ("module", "path"),
    [
        ("portrayal.studio.texts", "src/portrayal/studio/texts.py"),  # beside the folder `texts`
        ("portrayal.config", "src/portrayal/config/__init__.py"),
        ("portrayal.data.encode", "src/portrayal/data/encode.py"),
    ],
)
def test_the_file_of_a_module_is_found(module: str, path: str) -> None:
    assert Mutant("x", "other", "a", "b", (), function=f"{module}:name").path == Path(path)


def test_rates_count_each_group_and_all() -> None:
    rows = {
        Mutant(name, kind, "a", "b", (), function="portrayal.data.encode:encode"): outcome_of(status, "", 0.0)
        for name, kind, status in [("a", "judged", 1), ("b", "judged", 0), ("c", "words", 1)]
    }
    assert rate(rows, "kind") == [
        {"kind": "judged", "mutants": 2, "killed": 1, "percent": 50.0},
        {"kind": "words", "mutants": 1, "killed": 1, "percent": 100.0},
        {"kind": "all", "mutants": 3, "killed": 2, "percent": 66.7},
    ]
    assert {mutant.package for mutant in rows} == {"data"}
    assert Path("src/portrayal/data/encode.py") in {mutant.path for mutant in rows}
