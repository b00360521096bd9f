"""What the docs say is so: the settings page is fresh, links lead somewhere, command lines are ones that exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from portrayal.cli import app, overrides
from portrayal.settings import load_config, recipe_names
from scripts import docs_charts, docs_tables, readme_figures, settings_docs
from scripts.results import figures_of

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def fenced_lines(page: Path, program: str) -> Iterator[list[str]]:
    """The command lines of a program in a page's fenced blocks, as words; comments and continuations resolved."""
    for block in FENCED.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.startswith(f"{program} ") else []
            if words:
                yield words[1:]


def test_the_settings_page_is_fresh() -> None:
    said = "stale; write it anew: python -m scripts.settings_docs"
    assert settings_docs.PAGE.read_text(encoding="utf-8") == settings_docs.page(), said


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = [(first or second).split("#")[0] for first, second in LINK.findall(text)]
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_every_command_line_is_one_that_exists(name: str) -> None:
    commands = typer.main.get_command(app).commands
    for command, *arguments in fenced_lines(ROOT / name, "portrayal"):
        assert command in commands, command
        values = commands[command].make_context(command, arguments).params  # parses, and runs nothing
        asked = values.get("recipe")
        for one in asked if isinstance(asked, list | tuple) else [asked]:
            assert one is None or one in recipe_names() or str(one).endswith(".toml")
        recipe = asked if isinstance(asked, str) and asked in recipe_names() else None
        load_config(recipe, overrides(values.get("base"), values.get("class_noun"), values.get("settings")))


def test_every_command_has_its_line() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(app).commands
    assert not [name for name in commands if not re.search(rf"^\| `{name}[ `]", page, re.MULTILINE)]


@pytest.mark.parametrize("name", NAMES)
def test_every_make_target_and_module_is_there(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for targets in fenced_lines(ROOT / name, "make"):
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), targets
    for flag, module, *_ in fenced_lines(ROOT / name, "python"):
        path = ROOT / module.replace(".", "/")
        assert flag != "-m" or module == "pip" or path.with_suffix(".py").is_file(), module


def test_the_demo_figures_in_the_readme_are_the_benchmarks() -> None:
    figures = figures_of(readme_figures.RESULTS)
    found = readme_figures.PLACE.search(readme_figures.README.read_text(encoding="utf-8"))
    assert found is not None
    assert found.group() == readme_figures.table(figures)


@pytest.mark.parametrize("page", readme_figures.HEADLINES, ids=lambda page: page.name)
def test_the_headline_says_what_was_measured(page: Path) -> None:
    found = readme_figures.HEADLINE.search(page.read_text(encoding="utf-8"))
    assert found is not None
    assert found.group() == readme_figures.headline(page, readme_figures.promise())


@pytest.mark.parametrize("name", docs_tables.PAGES)
def test_the_figures_in_the_docs_are_the_benchmarks(name: str) -> None:
    text = (docs_tables.DOCS / name).read_text(encoding="utf-8")
    assert docs_tables.page(text, docs_tables.PAGES[name]) == text, (
        "stale; write it anew: python -m scripts.docs_tables"
    )


def test_every_dependency_has_its_line_in_the_docs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=]", one)[0] for one in wanted} - {"portrayal"}
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if "|" in line]
    assert not sorted(name for name in names if not any(re.search(rf"\b{name}\b", row) for row in rows))


def test_every_benchmark_has_its_line() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    runnable = [path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    assert not sorted(path.stem for path in runnable if f"`python -m benchmarks.{path.stem}`" not in page)
    named = set(re.findall(r"`python -m benchmarks\.(\w+)`", page))
    assert named == {path.stem for path in runnable}


def test_the_charts_in_the_docs_are_the_benchmarks() -> None:
    for path, chart in docs_charts.charts().items():
        assert path.read_bytes() == chart.content, f"{path} is stale; draw it anew: python -m scripts.docs_charts"
