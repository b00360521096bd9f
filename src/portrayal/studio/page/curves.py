"""The small drawing in a lane: loss on photos the model never saw, at its readings, against the untouched base."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from portrayal.studio.lanes import Lane
from portrayal.studio.texts import Texts

WIDTH, HEIGHT, ABOVE, BELOW = 260, 70, 8, 16

Points = list[tuple[int, float]]


def curve(t: Texts, lane: Lane) -> Markup:
    """Draw a lane's held-out loss, the base's as a dashed line; nothing before the first reading."""
    points = [(step, value) for step, value in lane.heldout if math.isfinite(value)]
    base = lane.heldout_base
    if base is not None:
        points = [(0, base), *(one for one in points if one[0] > 0)]
    if not points:
        return Markup("")
    values = [value for _, value in points]
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    along = max(lane.total, points[-1][0], 1)

    def place(step: int, value: float) -> tuple[float, float]:
        down = (high - value) / spread * (HEIGHT - ABOVE - BELOW)
        return 4 + (WIDTH - 8) * step / along, ABOVE + down

    places = [place(*point) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = f'<polyline points="{line}" fill="none" stroke="var(--colour)" stroke-width="2"/>'
    drawn += "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--colour)"/>' for x, y in places)
    if base is not None:
        y = place(0, base)[1]
        drawn += f'<path d="M4 {y:.1f}H{WIDTH - 4}" stroke="var(--soft)" stroke-dasharray="2 4"/>'
    said = t("train.heldout_alt", first=t.number(values[0], 4), last=t.number(values[-1], 4), step=points[-1][0])
    ends = f'<text x="4" y="{HEIGHT - 1}">{t.number(values[0], 4)}</text>'
    if len(points) > 1:
        ends += f'<text x="{WIDTH - 4}" y="{HEIGHT - 1}" text-anchor="end">{t.number(values[-1], 4)}</text>'
    return Markup(
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{drawn}{ends}</svg>'
    )
