"""The report: one HTML file, and one Markdown file, in which a person sees what a run made and what it is worth."""

from __future__ import annotations

from pathlib import Path

__all__ = ["build_report"]


def build_report(run_folder: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.md`` (with its pictures in ``report/``) into a run folder.

    Reads the run folder only, and asks nothing of the network. What the run lacks is said in a sentence in its
    place. The same run gives the same bytes.

    Args:
        run_folder: A run that has been evaluated.

    Returns:
        The paths of the HTML and of the Markdown file.

    Raises:
        UsageError: If the folder holds no readable ``scores.json``.
        MachineError: If the files cannot be written.
    """
    from portrayal.report.build import build_report as build  # matplotlib and Pillow load only when a report is built

    return build(run_folder)
