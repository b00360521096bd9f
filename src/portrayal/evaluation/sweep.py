"""What a ControlNet keeps and what it costs: agreement with the control image, and likeness, at rising strengths.

Shapes: S strengths, K seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from portrayal.evaluation.intervals import Floats, Interval, mean_estimate
from portrayal.evaluation.phrases import capital, level, shown, unsure


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
    finding: str = "the edges of {model}'s pictures agree with the control image at F1"
    """What is said before the agreement."""

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


def control_findings(control: Sequence[ControlEvidence], titles: Mapping[str, str], chosen: str) -> list[str]:
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


def _finding(found: ControlEvidence, ceiling: ControlEvidence | None, titles: Mapping[str, str]) -> str:
    assert found.agreement is not None
    words = found.finding.format(model=titles.get(found.name, found.name))
    parts = [f"With ControlNet, {words} {level(mean_estimate(found.agreement[-1]).interval())}"]
    gain = found.change(found.agreement)
    if gain is not None and found.scales[0] == 0:
        parts[0] += f", {shown(gain, 2)} to the same seeds without it{unsure(gain)}"
    if ceiling is not None and ceiling.agreement is not None:
        parts[0] += f"; the untouched base's, the most that can be had, at {ceiling.agreement[-1].mean():.2f}"
    cost = found.change(found.identity)
    if cost is not None and found.identity is not None:
        first, last = (found.identity[place].mean() for place in (0, -1))
        verdict = "whether control costs likeness is too close to call"
        if cost.excludes_zero:
            verdict = "control costs likeness" if cost.mean < 0 else "likeness gains by it"
        start = "without it" if found.scales[0] == 0 else f"at {found.scales[0]:g}"
        parts.append(f"{verdict}: {first:.2f} {start}, {last:.2f} with it, {shown(cost, 3)}")
    return f"{parts[0]}." if len(parts) == 1 else f"{parts[0]}. {capital(parts[1])}."
