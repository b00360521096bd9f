"""The live table of a batch: a row for each study, what it is at, how far it is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from portrayal.estimate.afterwards import part_of
from portrayal.live import LIVE
from portrayal.progress import title_of
from portrayal.scale.batch import Batch
from portrayal.scale.outcomes import Outcome
from portrayal.scale.summary import Json

MOST = 30
"""Rows that are shown at once; of many studies those that run and the last that came to an end."""
BAR = 16


class BatchTable:
    """Shows a batch on standard error: live at a terminal, else a line for each study that has ended."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.batch: Batch | None = None
        self.told: set[str] = set()
        self.live = Live(get_renderable=self.render, console=self.console, refresh_per_second=2, transient=False)

    def __enter__(self) -> BatchTable:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def show(self, batch: Batch) -> None:
        """Take note of what is known."""
        self.batch = batch
        for name, outcome in batch.outcomes.items():
            if name not in self.told and not self.console.is_terminal:
                self.console.print(f"{escape(name)}: {ended(outcome)}")
            self.told.add(name)

    def render(self) -> Group:
        """The table as it is now."""
        if self.batch is None:
            return Group(Text("reckoning with what is to be done …", style="dim"))
        batch = self.batch
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("subject", "", "", "what", "recommended", "likeness"):
            table.add_column(heading, justify="right" if heading == "likeness" else "left", no_wrap=heading != "what")
        for line in lines(batch)[:MOST]:
            table.add_row(*line)
        return Group(table, summary_line(batch))


def lines(batch: Batch) -> list[tuple[str, ...]]:
    """Rows of the table: what runs, what has ended (the last first, where not all can be shown), what waits."""
    running, over, waiting = [], [], []
    for study in batch.studies:
        outcome, name = batch.outcomes.get(study.name), escape(study.name)
        if outcome is not None:
            over.append((name, *ended_cells(outcome)))
            continue
        state = state_of(batch.store.folder(study.name))
        if state is None:
            waiting.append((name, "[dim]·[/]", "", "[dim]waits[/]", "", ""))
        else:
            share, stage = state
            running.append((name, "[cyan]▶[/]", bar(share), escape(stage), "", ""))
    room = max(0, MOST - len(running) - len(waiting))
    return [*over, *running, *waiting] if len(batch.studies) <= MOST else [*running, *over[::-1][:room], *waiting]


def ended_cells(outcome: Outcome) -> tuple[str, ...]:
    """What is shown of a study that has ended."""
    if not outcome.done:
        return "[red]✗[/]", "", f"[red]{escape((outcome.error or {})['message'])}[/]", "", ""
    verdict = outcome.digest.get("verdict", {})
    model = verdict.get("recommended")
    likeness = outcome.digest.get("models", {}).get(model, {}).get("normalised")
    took = "[dim]done before[/]" if outcome.before else f"[dim]{outcome.seconds:.0f} s[/]"
    again = f" [yellow]{outcome.tries - 1} × again[/]" if outcome.tries > 1 else ""
    return "[green]✓[/]", "", took + again, model or "", "" if likeness is None else f"{likeness:.2f}"


def ended(outcome: Outcome) -> str:
    """What is told of a study that has ended, in a line."""
    if not outcome.done:
        return f"[red]failed[/]: {escape((outcome.error or {})['message'])}"
    _, _, took, model, likeness = ended_cells(outcome)
    return f"{took}  {escape(model)} {likeness}".rstrip()


def state_of(folder: Path) -> tuple[float, str] | None:
    """How far a run is, from 0 to 1, and what it is at; nothing before it begins or where it cannot be seen."""
    try:
        rows = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events: list[Json] = [json.loads(row) for row in rows]
    except (OSError, ValueError):
        return None
    began = [event["stage"] for event in events if event["kind"] == "started"]
    over = {part_of(event["stage"]) for event in events if event["kind"] == "finished"}
    try:
        stages: list[Any] = json.loads((folder / "estimate.json").read_text(encoding="utf-8"))["stages"]
    except (OSError, ValueError):
        stages = []
    done = sum(stage["seconds"] for stage in stages if stage["name"] in {*over, "load"})
    total = sum(stage["seconds"] for stage in stages)
    said = f"{title_of(began[-1])}{counted(folder, began[-1])}" if began else "prepare photos"
    return (min(1.0, done / total) if total else 0.0), said


def counted(folder: Path, stage: str) -> str:
    """` 120 of 800`, where a run says so of a stage in its `live.json`."""
    try:
        live: Json = json.loads((folder / LIVE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return f" {live['done']} of {live['total']}" if live.get("stage") == stage and live.get("total") else ""


def bar(share: float) -> str:
    """A share as a bar."""
    full = round(BAR * share)
    return f"[cyan]{'━' * full}[/][dim]{'─' * (BAR - full)}[/]"


def summary_line(batch: Batch) -> Text:
    """How many are done, and how long it has taken."""
    outcomes = batch.outcomes.values()
    done, failed = sum(one.done for one in outcomes), sum(not one.done for one in outcomes)
    seconds = time.monotonic() - batch.started
    said = f"{done} of {len(batch.studies)} done" + (f", {failed} failed" if failed else "")
    return Text(f"\n{said}, {seconds / 60:.0f} min {seconds % 60:02.0f} s", style="bold")
