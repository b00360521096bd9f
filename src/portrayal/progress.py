"""What a person sees while a run works, and at its end."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from portrayal.run import Event

TITLES = {
    "prepare": "prepare photos",
    "class_images": "paint class images",
    "train.final": "train on all photos",
    "generate.final": "paint scenes with it",
    "evaluate": "judge",
    "evaluate.cuts": "judge it at lower ranks",
    "report": "write report",
}
UNITS = {
    "train": "steps/s",
    "prepare": "photos/s",
    "steps": "readings/s",
    "evaluate": "models/s",
    "evaluate.cuts": "pictures/s",
}


class RateColumn(ProgressColumn):
    """Things done per second, in the stage's own unit."""

    def render(self, task: Task) -> Text:
        """`3.2 steps/s`, or nothing before there is a rate."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {task.fields['unit']}" if speed else "", style="dim")


class ProgressLines:
    """One line for each stage: bar, count, rate and time left; plain lines where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal
        self.started: dict[str, float] = {}
        self.tasks: dict[str, Any] = {}
        self.progress = Progress(
            TextColumn("{task.description:<31}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self) -> ProgressLines:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()

    def print(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text)

    def show(self, event: Event) -> None:
        """Show an event."""
        title = title_of(event.stage)
        match event.kind:
            case "note":
                self.print(f"[yellow]note[/] {escape(title)}: {escape(event.message)}")
            case "skipped":
                self.print(f"[dim]{escape(title)}: done before[/]")
            case "progress":
                self._progress(event, title)
            case "finished" if not self.live:
                self._plain_end(event, title)
            case "finished" if event.stage in self.tasks:
                task = self.progress.tasks[self.tasks[event.stage]]
                self.progress.update(task.id, completed=task.total)

    def _progress(self, event: Event, title: str) -> None:
        self.started.setdefault(event.stage, time.monotonic())
        if not self.live:
            self.tasks[event.stage] = event.total
            return
        if event.stage not in self.tasks:
            unit = unit_of(event.stage)
            self.tasks[event.stage] = self.progress.add_task(title, total=event.total, unit=unit)
        self.progress.update(self.tasks[event.stage], completed=event.done, total=event.total)

    def _plain_end(self, event: Event, title: str) -> None:
        seconds = time.monotonic() - self.started.get(event.stage, time.monotonic())
        total = self.tasks.get(event.stage, 0)
        unit = unit_of(event.stage)
        rate = f"  {total} in {seconds:.0f} s, {total / seconds:.1f} {unit}" if total and seconds > 0.5 else ""
        self.print(f"{title}: done{rate}")


def unit_of(stage: str) -> str:
    """What a stage does in a second."""
    return UNITS.get(stage) or UNITS.get(stage.split(".")[0], "pictures/s")


def title_of(stage: str) -> str:
    """What a person calls a stage."""
    kind, _, model = stage.partition(".")
    verbs = {
        "train": "train",
        "steps": "find best step of",
        "evaluate": "judge",
        "generate": "paint scenes",
        "paint": "paint",
        "fetch": "fetch",
        "verify": "check",
        "control": "paint to",
    }
    return TITLES.get(stage, f"{verbs.get(kind, kind)} {model.replace('.', ' ')}".strip())


def print_scores(scores: dict[str, Any], cuts: str, paths: dict[str, str]) -> None:
    """The small table, the conclusion in a sentence, what is said of cuts if there are any, the paths."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "held-out loss", "identity", "prompt", "lightness"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in scores["models"]:
        lightness = model["colour"]["lightness_difference"]
        gain = 100 * model["heldout_gain"]["mean"]
        loss = f"{model['heldout_loss']['mean']:.4f}" + (f" (−{gain:.1f} %)" if gain > 0 else "")
        table.add_row(model["name"], loss, mean(model["identity"]), mean(model["prompt"]), f"{lightness:+.1f} L*")
    real, stranger = scores["levels"]["identity_real"], scores["levels"]["identity_stranger"]
    if real and stranger:
        table.add_row("[dim]real photos[/]", "", f"[dim]{mean(real)}[/]", "", "")
        table.add_row("[dim]strangers[/]", "", f"[dim]{mean(stranger)}[/]", "", "")
    console.print()
    console.print(table)
    console.print(f"\n[bold]{escape(scores['verdict']['sentence'])}[/]\n")
    if cuts:
        console.print(f"{cuts}\n", soft_wrap=True, markup=False)  # it ends in a command
    for name, path in paths.items():
        console.print(f"{name:>7}  {path}", soft_wrap=True, markup=False)


def mean(interval: dict[str, float] | None) -> str:
    """A mean, or a dash when it was not measured."""
    return "–" if interval is None else f"{interval['mean']:.3f}"


VERDICT_STYLES = {"keep": "green", "fix": "yellow", "drop": "red"}


def print_check(found: dict[str, Any], sheet: str) -> None:
    """A row for each photo, what to know of the set, and what to do."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("photo", "verdict", "what was found"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for photo in found["photos"]:
        style = VERDICT_STYLES[photo["verdict"]]
        said = "\n".join(finding["message"] for finding in photo["findings"])
        table.add_row(escape(photo["file"]), f"[{style}]{photo['verdict']}[/]", escape(said))
    for finding in found["left_out"]:
        table.add_row(escape(finding["file"]), "[dim]left out[/]", escape(finding["message"]))
    console.print(table)
    for remark in found["remarks"]:
        console.print(f"[yellow]•[/] {escape(remark)}")
    if found["fit"]:
        console.print("[green]✓[/] These photos are fit to train on.")
    if found["drop"]:
        names = json.dumps(found["drop"], ensure_ascii=False)
        console.print(f"  leave out  --set 'prepare.drop={escape(names)}'")
    console.print(f"      sheet  {escape(sheet)}")


def print_models(models: list[dict[str, Any]]) -> None:
    """A row for each model of others: is it here, how large, under which licence."""
    from portrayal.models.catalog import file_size

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "job", "size", "licence", "on this machine", "hub id"):
        table.add_column(heading, header_style="dim", justify="right" if heading == "size" else "left")
    for model in models:
        here = "[green]yes[/]" if model["state"] == "here" else "[dim]no[/]"
        size = file_size(model["megabytes"])
        table.add_row(model["name"], model["job"], size, model["licence"], here, f"[dim]{model['hub_id']}[/]")
    console.print(table)
    console.print("[dim]portrayal models fetch NAME gets one; sizes are of what is fetched.[/]")


STATES = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def print_findings(found: list[dict[str, Any]]) -> None:
    """A line for each thing that was looked at; under what is not well, the command that mends it."""
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for one in found:
        sign, style = STATES[one["state"]]
        said = escape(one["said"]) + (f"\n[bold]{escape(one['fix'])}[/]" if one["fix"] else "")
        table.add_row(f"[{style}]{sign}[/]", one["name"], said)
    console.print(table)
    wrong = [one for one in found if one["state"] != "ok"]
    failed = sum(one["state"] == "fail" for one in wrong)
    if not wrong:
        console.print("\n[green]All is well.[/] Start one: portrayal run PHOTOS")
    elif not failed:
        console.print(f"\nRuns will work here; {len(wrong)} of {len(found)} things could be better.")


def print_verified(found: dict[str, Any]) -> None:
    """What was found of a run."""
    console = Console(highlight=False)
    for problem in found["problems"]:
        console.print(f"[red]✗[/] {escape(problem)}")
    for rest in found["unfinished"]:
        console.print(f"[yellow]![/] {escape(rest)}")
    names = escape(", ".join(found["models"]))
    if not found["problems"]:
        files = f"{found['files']} files are what was written; " if found["files"] else ""
        whole = f"[green]✓[/] {files}{names} load and paint."
        console.print(whole + ("" if found["finished"] else " The same command goes on with the rest."))
