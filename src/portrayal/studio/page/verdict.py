"""The sixth screen: what follows from the scores, in a sentence, with its chart, its ties and the report."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from portrayal.studio.compare import Table, table
from portrayal.studio.page.asked import Action, Asked, Outcome
from portrayal.studio.page.compare import said
from portrayal.studio.votes import tally

MOST_PICTURES = 5


def view(asked: Asked, outcome: Outcome) -> dict[str, Any]:
    """What the screen shows."""
    found = table(asked.mine)
    if found is None or found.verdict is None:
        return {"found": None}
    verdict = found.verdict
    ties = [name for name in verdict.tied if name != verdict.recommended]
    return {
        "found": verdict,
        "recommended": verdict.recommended,
        "ties": ", ".join(asked.model(name) for name in ties),
        "pictures": pictures(asked, found),
        # Drawn by the report, which escapes every name.
        "charts": [(name, Markup(found.charts[name])) for name in ("rates", "identity") if name in found.charts],
        "votes": [
            f"{title}: {score}. {share}".strip()
            for title, score, share in (said(asked, one) for one in tally(asked.mine))
        ],
        "report": asked.file(found.report) if found.report else "",
    }


def pictures(asked: Asked, found: Table) -> list[tuple[str, str]]:
    """A picture of each scene by the final or the recommended model."""
    assert found.verdict is not None
    model = "final" if "final" in found.models else found.verdict.recommended
    cells = [(scene, found.cell(scene, model, found.seeds[0])) for scene, _ in found.scenes] if model else []
    shown = [
        (
            asked.picture(cell.path, 512),
            asked.t("compare.shown_alt", scene=scene.replace("_", " "), model=asked.model(str(model))),
        )
        for scene, cell in cells
        if cell
    ]
    return shown[:MOST_PICTURES]


ACTIONS: dict[str, Action] = {}
