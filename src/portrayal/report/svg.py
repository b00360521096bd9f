"""A matplotlib figure as SVG in two skins: inline in a page, in the page's colours, and a file on a white card.

Charts are drawn in the colours below; inline they become CSS variables, so that one drawing serves light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from portrayal.report.palette import Colour

INK, MUTED, LINE = "#1b1c1e", "#6b6f76", "#dedbd5"
_PAGE_COLOURS = {INK: "--ink", MUTED: "--muted", LINE: "--line"}
_STYLE: dict[str, object] = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be searched
    "svg.hashsalt": "portrayal",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "path.simplify": True,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FONT = "ui-sans-serif, system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Chart:
    """One chart: SVG for inside a page, a whole SVG file, what it shows, and the file's place beside the Markdown."""

    inline: str
    content: bytes
    alt: str
    file: str


def draw_chart(
    name: str, alt: str, size: tuple[float, float], draw: Callable[[Figure], None], palette: dict[str, Colour]
) -> Chart:
    """Draw a chart of ``size`` inches; the same drawing gives the same bytes."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    body, view = _body(buffer.getvalue(), name)
    return Chart(
        inline=f'<svg viewBox="{view}" role="img" aria-label="{_escaped(alt)}">{_in_page_colours(body, palette)}</svg>',
        content=_file(body, view).encode("utf-8"),
        alt=alt,
        file=f"report/chart-{name}.svg",
    )


def _body(svg: str, name: str) -> tuple[str, str]:
    """Take matplotlib's SVG apart: what is in it, with ids that no other chart has, and its view box."""
    opening = re.search(r"<svg[^>]*>", svg)
    view = re.search(r'viewBox="([^"]+)"', svg)
    if opening is None or view is None:
        raise ValueError("matplotlib wrote no SVG")
    body = svg[opening.end() : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(
        r" id=\"(?!p[0-9a-f]{10}|[mC][0-9a-f_]{10})[^\"]*\"", "", body
    )  # only clips and markers are referred to
    body = re.sub(r'( id="| xlink:href="#|url\(#)', rf"\1{name}-", body).replace("xlink:href", "href")
    body = re.sub(r" font-family: [^;\"]*;?", "", body)
    body = re.sub(r" transform=\"rotate\(-0 [^\"]*\"", "", body)
    body = re.sub(r"(\d+\.\d{2})\d+", r"\1", body)
    return re.sub(r"\s*\n\s*", "\n", body).strip(), view.group(1)


def _in_page_colours(body: str, palette: dict[str, Colour]) -> str:
    variables = _PAGE_COLOURS | {colour.light: colour.variable for colour in palette.values()}
    return re.sub(
        r"#[0-9a-f]{6}\b", lambda found: f"var({variables[found[0]]})" if found[0] in variables else found[0], body
    )


def _file(body: str, view: str) -> str:
    width, height = view.split()[2:]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{float(width) * 1.6:.0f}" '
        f'height="{float(height) * 1.6:.0f}" font-family="{_FONT}">\n'
        f'<rect width="100%" height="100%" rx="6" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
