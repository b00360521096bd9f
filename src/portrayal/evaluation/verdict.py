"""Which of the trained models to use, why, and how sure that is: a pure function of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portrayal.evaluation.comparisons import (
    AXES,
    Axis,
    Comparison,
    Comparisons,
    Margins,
    ModelEvidence,
    Training,
    compare_all,
    compare_pair,
)
from portrayal.evaluation.conclusions import Levels, Setting, conclusions_of, sentence_of
from portrayal.evaluation.curves import Curve
from portrayal.evaluation.selection import choose
from portrayal.evaluation.sweep import ControlEvidence
from portrayal.sentences import Said

__all__ = [
    "Axis",
    "Comparison",
    "Comparisons",
    "ControlEvidence",
    "Levels",
    "Margins",
    "ModelEvidence",
    "Training",
    "Verdict",
    "compare_all",
    "compare_pair",
    "decide",
]


@dataclass(frozen=True)
class Verdict:
    """What follows from the scores. Names are those of the evidence, such as ``lora-32``."""

    best_lora: str | None
    """The rank to use; ``None`` without a LoRA."""

    winner: str | None
    """Full UNet or best LoRA, when one is shown to be better than the other and than the base; else ``None``."""

    recommended: str | None
    """What to use: the winner, or, where none is shown to be better, the smaller file of those that are equal."""

    lacks: tuple[Axis, ...]
    """Axes that could not be measured for every model."""

    leader: str | None
    """The LoRA of the highest expectation among those that pass the gates."""

    chances: Mapping[str, float]
    """The chance of each of these to be the best of them."""

    set_aside: Mapping[str, tuple[Axis, ...]]
    """The LoRAs that do not pass, with the gates they fail at."""

    behind: tuple[str, ...]
    """LoRAs that are clearly behind the leader."""

    tied: tuple[str, ...]
    """The LoRAs, smallest first, that cannot be told apart from the leading one; empty when it stands alone."""

    sentence: Said
    """The verdict in words."""

    conclusions: tuple[Said, ...]
    """Findings in plain English, each with its numbers."""

    comparisons: tuple[Comparison, ...]

    def as_json(self) -> dict[str, Any]:
        """As in ``scores.json``."""
        return {
            "best_lora": self.best_lora,
            "winner": self.winner,
            "recommended": self.recommended,
            "lacks": list(self.lacks),
            "leader": self.leader,
            "chances": dict(self.chances),
            "behind": list(self.behind),
            "set_aside": {name: list(gates) for name, gates in self.set_aside.items()},
            "tied": list(self.tied),
            "sentence": self.sentence,
            "conclusions": list(self.conclusions),
            "said": {"sentence": self.sentence.told(), "conclusions": [one.told() for one in self.conclusions]},
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
        }


def decide(
    evidence: Sequence[ModelEvidence],
    margins: Margins,
    *,
    levels: Levels,
    control: Sequence[ControlEvidence] = (),
    curves: Mapping[str, Curve] | None = None,
    diverged: Sequence[tuple[int, float | None]] = (),
) -> Verdict:
    """Decide between the models.

    The rule, in plain words:

    1. Identity decides: how much the pictures look like the person in photos their model was not trained on. Where it
       could not be measured for every tuned model, the held-out loss decides instead, and the verdict says so.
    2. A LoRA is out that is surely worse than another in one of three things: following the prompt; leaving other
       people of the class as they are; keeping the light of the photos or of the base. Worse means by more than the
       margin, and by up to three margins more, one for each margin of likeness that it is ahead.
    3. Of the others, the one of the highest expectation is the best LoRA. What is expected rests on all trainings of
       all ranks and learning rates, see :mod:`portrayal.evaluation.expectation`. A smaller or gentler one is taken
       instead only where it is shown to be no worse by more than the margin, never because nothing could be shown.
    4. The full UNet against the best LoRA: better, worse, or they cannot be told apart. One that surely loses one of
       the three cannot win; if the other is behind in identity, it is a trade-off that only a person can settle.
    5. A winner must also be distinguishably better than the untouched base.

    "Distinguishably" means that the interval of the paired difference, corrected for the number of pairs (Holm),
    excludes 0; a difference that lies wholly within its margin is never called worse. With several folds the intervals
    cover the choice of photos, seeds and the luck of training, for the given scenes; with one fold not that luck.

    Args:
        evidence: One per model, the base among them if it was measured; names differ.
        margins: What is too small to matter.
        levels: What a stranger, the real person and the photos score.
        control: Pictures made under a ControlNet, if any were.
        curves: How the trainings of each model went on, by its name.
        diverged: Rank and learning rate of the LoRAs of which a training diverged.

    Raises:
        ValueError: If there is no evidence, two models share a name, there is more than one base, or an axis was
            measured on different cells.
    """
    _check(evidence)
    comparisons = compare_all(evidence, margins)
    choice = choose(evidence, comparisons, margins)
    setting = Setting(choice, comparisons, margins, levels, curves or {}, tuple(diverged))
    return Verdict(
        best_lora=choice.best_lora.name if choice.best_lora else None,
        winner=choice.winner.name if choice.winner else None,
        recommended=choice.recommended.name if choice.recommended else None,
        lacks=tuple(axis for axis in AXES if any(not model.measured(axis) for model in evidence)),
        leader=choice.leader.name if choice.leader else None,
        chances=choice.chances,
        set_aside=choice.gates_failed,
        behind=tuple(model.name for model in choice.behind),
        tied=tuple(model.name for model in choice.tied) if len(choice.tied) > 1 else (),
        sentence=sentence_of(setting),
        conclusions=conclusions_of(setting, control),
        comparisons=comparisons.rows,
    )


def _check(evidence: Sequence[ModelEvidence]) -> None:
    names = [model.name for model in evidence]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected models with different names, got {names}")
    if sum(model.kind == "base" for model in evidence) > 1:
        raise ValueError(f"more than one base among {names}")
