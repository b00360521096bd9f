"""What a ControlNet keeps and what it costs: agreement with the control image, and likeness, at rising strengths.

Shapes: S strengths, K seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from portrayal.evaluation.intervals import Floats, Interval, mean_estimate
from portrayal.evaluation.phrases import level, number, shown
from portrayal.sentences import Said, clauses, paragraph, say


@dataclass(frozen=True)
class ControlledPictures:
    """Pictures of one model by the strength of a control image, at the same prompt and seeds; 0 is without it."""

    kind: str
    name: str
    image: Image.Image
    pictures: Mapping[float, Sequence[Image.Image]]


@dataclass(frozen=True, eq=False)
class ControlEvidence:
    """What was measured of one model's pictures under a ControlNet of one kind."""

    name: str
    scales: tuple[float, ...]
    """Strengths, rising."""

    agreement: Floats | None
    """How well they keep to the control image, 0 to 1, shape ``(S, K)``; nothing where that cannot be measured."""

    identity: Floats | None = None
    """Likeness to the held-out photos, shape ``(S, K)``."""

    kind: str = "canny"
    measure: str = "edge_f1"
    """What the agreement is called in ``scores.json``; among the sentences, `control.edge_f1` is said before it."""

    def change(self, values: Floats | None) -> Interval | None:
        """From the weakest strength to the strongest, seed by seed; nothing with one strength."""
        if values is None or len(self.scales) < 2:
            return None
        return mean_estimate(values[-1] - values[0]).interval()

    def as_json(self) -> dict[str, Any]:
        """As in ``scores.json``."""

        def at(values: Floats | None, place: int) -> dict[str, float | None] | None:
            return None if values is None else mean_estimate(values[place]).interval().as_json()

        changes = {"agreement_change": self.change(self.agreement), "identity_change": self.change(self.identity)}
        return {
            "kind": self.kind,
            "model": self.name,
            "measure": self.measure,
            "at": [
                {"scale": scale, "agreement": at(self.agreement, place), "identity": at(self.identity, place)}
                for place, scale in enumerate(self.scales)
            ],
        } | {name: None if found is None else found.as_json() for name, found in changes.items()}


def control_findings(control: Sequence[ControlEvidence], titles: Mapping[str, str], chosen: str) -> list[Said]:
    """For each kind of control a sentence: is it followed, and does it cost likeness?

    Args:
        control: What was measured, of several models and kinds.
        titles: What the models are called.
        chosen: The model to speak of; another one if it has no pictures of a kind.
    """
    told = []
    for kind in dict.fromkeys(found.kind for found in control):
        of_kind = [found for found in control if found.kind == kind and found.agreement is not None]
        tuned = [found for found in of_kind if found.name != "base"]
        if not tuned:
            continue
        ceiling = next((found for found in of_kind if found.name == "base"), None)
        told.append(_finding(next((c for c in tuned if c.name == chosen), tuned[0]), ceiling, titles))
    return told


def _finding(found: ControlEvidence, ceiling: ControlEvidence | None, titles: Mapping[str, str]) -> Said:
    assert found.agreement is not None
    measure = say(f"control.{found.measure}", model=titles.get(found.name, found.name))
    kept, gain = level(mean_estimate(found.agreement[-1]).interval()), found.change(found.agreement)
    if gain is None or found.scales[0] != 0:
        told = [say("control.kept", measure=measure, level=kept)]
    else:
        key = "control.kept_more" if gain.excludes_zero else "control.kept_more_open"
        told = [say(key, measure=measure, level=kept, gain=shown(gain, 2))]
    if ceiling is not None and ceiling.agreement is not None:
        told.append(say("control.ceiling", value=number(float(ceiling.agreement[-1].mean()), 2)))
    sentences = [say("control.whole", clauses=clauses(told))]
    cost = found.change(found.identity)
    if cost is not None and found.identity is not None:
        first, last = (number(float(found.identity[place].mean()), 2) for place in (0, -1))
        key = "cost_open" if not cost.excludes_zero else "costs" if cost.mean < 0 else "gains"
        start = say("control.without") if found.scales[0] == 0 else say("control.at", scale=f"{found.scales[0]:g}")
        sentences.append(say(f"control.{key}", first=first, start=start, last=last, difference=shown(cost, 3)))
    return paragraph(*sentences)
