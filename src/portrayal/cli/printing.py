"""What a person sees while a command works and when it is done: lines of progress, the plan, verdicts and scores."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

import portrayal
from portrayal.cli.launcher import follows


@contextmanager
def batch_table() -> Iterator[Any]:
    """A row for each subject, on standard error."""
    from portrayal.scale.table import BatchTable

    with BatchTable() as table:
        yield table.show


@contextmanager
def progress_lines(plan: portrayal.Plan | None = None) -> Iterator[Any]:
    """One line for each stage, with rate and time left, on standard error."""
    from rich.markup import escape

    from portrayal.progress import ProgressLines

    if follows():
        yield lambda _: None
        return
    with ProgressLines() as lines:
        if plan is not None:
            lines.print(f"base [bold]{escape(plan.source.name)}[/] on {plan.device}: {escape(plan.source.reason)}")
            lines.print(f"recipe [bold]{escape(plan.config.recipe or 'none')}[/]")
        yield lines.show


def show_plan(plan: portrayal.Plan, result: dict[str, Any], as_json: bool) -> None:
    """Print what would be done."""
    described = plan.as_json()
    result["plan"] = described
    if as_json:
        return
    estimated = plan.estimate()
    typer.echo(f"# base {plan.source.name} on {plan.device}: {plan.source.reason}")
    times = described["trainings"]
    trainings = [
        f"{name} ({count} steps{f', {times[name]} times' if times[name] > 1 else ''})"
        for name, count in described["models"].items()
    ]
    typer.echo(f"# trains {', '.join(trainings)}")
    typer.echo(f"# paints {plan.num_pictures} pictures of scenes; needs {plan.disk_gib:.1f} GiB of disk")
    for line in estimated.lines():
        typer.echo(f"# {line}")
    for note in described["notes"]:
        typer.echo(f"# note: {note}")
    typer.echo(plan.config.to_toml())


def show_check(found: dict[str, Any], sheet: Path, result: dict[str, Any], as_json: bool) -> None:
    """Print the verdicts on photos."""
    from portrayal.progress import print_check

    result.update(found, sheet=str(sheet))
    if not as_json:
        print_check(found, str(sheet))


def show_scores(finished: portrayal.Run, result: dict[str, Any], as_json: bool) -> None:
    """Print the small table, the conclusion in a sentence, the smallest file that does, and where things are."""
    from portrayal.progress import print_scores

    scores = json.loads((finished.folder / "scores.json").read_text(encoding="utf-8"))
    paths = {"models": str(finished.folder / "models")}
    if (finished.folder / "report.html").is_file():
        paths["report"] = str(finished.folder / "report.html")
    result.update(run=str(finished.folder), scores=scores, **paths)
    if (finished.folder / "estimate.json").is_file():
        result["estimate"] = json.loads((finished.folder / "estimate.json").read_text(encoding="utf-8"))
    cuts = cuts_of(finished.folder, scores["verdict"]["recommended"])
    result.update({"cuts": cuts} if cuts else {})
    if not as_json:
        said = str(cuts.get("sentence") or "")
        print_scores(scores, said.replace("export RUN", f"export {shlex.quote(str(finished.folder))}"), paths)


def cuts_of(folder: Path, recommended: str | None) -> dict[str, Any]:
    """What `cuts.json` of a run holds; nothing if there is none, or it is of a model that is recommended no more."""
    path = folder / "cuts.json"
    found = dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    return found if found.get("model") == recommended else {}
