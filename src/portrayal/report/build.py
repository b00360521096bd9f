"""Build the report of a run: read, assemble, render, write; the files appear whole or not at all."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from portrayal.report import wording
from portrayal.report.pictures import Pictures
from portrayal.report.record import read_run
from portrayal.report.scores import number, text
from portrayal.report.svg import Chart
from portrayal.report.views import View, assemble
from portrayal.run import atomic_folder, write_text

FILTERS = (
    "fixed", "signed", "percent", "signed_percent", "between", "duration", "large", "megabytes", "counted", "words",
    "plain", "markdown", "html_in_markdown", "rate", "chance", "unbroken",
)  # fmt: skip
TEMPLATES = Path(__file__).parent / "templates"


def build_report(run_folder: Path) -> tuple[Path, Path]:
    """Write both reports; see :func:`portrayal.report.build_report`."""
    record = read_run(run_folder)
    pictures = Pictures()
    pictures.shrink([*(photo.path for photo in record.photos), *record.painted])
    view = assemble(record, pictures)
    environment = _environment()
    html = _rendered(environment, "report.html.j2", view)
    markdown = _rendered(environment, "report.md.j2", view)
    _write_files(run_folder / "report", pictures, [chart for chart in view.charts.values() if chart is not None])
    write_text(run_folder / "report.md", markdown)
    write_text(run_folder / "report.html", html)
    return run_folder / "report.html", run_folder / "report.md"


def _write_files(folder: Path, pictures: Pictures, charts: list[Chart]) -> None:
    """Replace the folder as a whole, so that no picture of an earlier report stays behind."""
    with atomic_folder(folder) as temporary:
        for name, content in pictures.files.items():
            (temporary / name).write_bytes(content)
        for chart in charts:
            (temporary / Path(chart.file).name).write_bytes(chart.content)


@cache
def _environment() -> Environment:
    """The templates' environment, which keeps what it has compiled: that takes longer than to fill it in."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # prompts, captions and names come from people
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(wording, name) for name in FILTERS}
    environment.filters |= {"number": number, "text": text}
    return environment


def _rendered(environment: Environment, template: str, view: View) -> str:
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    # Only this script may run, and nothing may be loaded: the page's own policy says so.
    context = {"view": view, "script": Markup(script), "script_digest": digest}
    return environment.get_template(template).render(context).rstrip() + "\n"
