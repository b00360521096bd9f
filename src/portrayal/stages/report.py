"""Write the report of a run."""

from __future__ import annotations

import re
from pathlib import Path

from portrayal.run import Event, Progress, Run, fingerprint
from portrayal.stages.cuts import CUTS
from portrayal.stages.evaluate import evaluated_files, scores_of
from portrayal.stages.shared import alone, silent, stage


@alone
def write_report(run: Run, *, progress: Progress = silent) -> Path:
    """Write `report.html` and `report.md`; returns the path of the first.

    Raises:
        UsageError: If the run has not been evaluated.
    """
    from portrayal.report import build_report

    others = [path for name in ("votes.json", CUTS) if (path := run.folder / name).is_file()]
    read = [fingerprint(path.read_text(encoding="utf-8")) for path in others]
    inputs = [fingerprint(scores_of(run)), *evaluated_files(run), *read]
    page = run.folder / "report.html"
    if run.finished("report", inputs) and written(run):
        progress(Event("report", "skipped"))
        return page
    with stage(run, "report", inputs, progress):
        html, _ = build_report(run.folder)
    return html


def written(run: Run) -> bool:
    """Whether both reports are there, with the pictures of the second."""
    page, text = run.folder / "report.html", run.folder / "report.md"
    if not page.is_file() or not text.is_file():
        return False
    pictures = re.findall(r"\breport/[\w.+-]+", text.read_text(encoding="utf-8"))
    return all((run.folder / name).is_file() for name in pictures)
