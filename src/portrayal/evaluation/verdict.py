"""Which of the trained models to use, why, and how sure that is: a pure function of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from portrayal.evaluation.comparisons import (
    AXES,
    Axis,
    Comparison,
    Comparisons,
    Margins,
    ModelEvidence,
    compare_all,
    compare_pair,
)
from portrayal.evaluation.conclusions import ControlEvidence, Levels, Setting, conclusions_of, sentence_of
from portrayal.evaluation.selection import choose

__all__ = [
    "Axis",
    "Comparison",
    "Comparisons",
    "ControlEvidence",
    "Levels",
    "Margins",
    "ModelEvidence",
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

    tied: tuple[str, ...]
    """The ranks, smallest first, that cannot be told apart from the leading one; empty when it stands alone."""

    sentence: str
    """The verdict in words."""

    conclusions: tuple[str, ...]
    """Four to seven findings in plain English, each with its numbers."""

    comparisons: tuple[Comparison, ...]

    def as_json(self) -> dict[str, Any]:
        """As in ``scores.json``."""
        return {
            "best_lora": self.best_lora,
            "winner": self.winner,
            "tied": list(self.tied),
            "sentence": self.sentence,
            "conclusions": list(self.conclusions),
            "comparisons": [comparison.as_json() for comparison in self.comparisons],
        }


def decide(
    evidence: Sequence[ModelEvidence],
    margins: Margins,
    *,
    levels: Levels,
    seed: int,
    control: Sequence[ControlEvidence] = (),
    training_runs: int = 1,
) -> Verdict:
    """Decide between the models.

    The rule, in plain words:

    1. Identity decides: how much the pictures look like the person in photos no model was trained on. Where it
       could not be measured for every tuned model, the held-out loss decides instead, and the verdict says so.
    2. A LoRA that follows the prompt less than the most obedient LoRA, surely and by more than the margin, is out.
    3. Of the others, the one with the best mean leads. The smallest rank that is not distinguishably worse than the
       leader is the best LoRA. If none can be told apart, the smallest is taken, and that is a verdict.
    4. The full UNet against the best LoRA: better, worse, or they cannot be told apart. One that surely loses the
       prompt cannot win; if the other is behind in identity, it is a trade-off that only a person can settle.
    5. A winner must also be distinguishably better than the untouched base.

    "Distinguishably" means that the interval of the paired difference, corrected for the number of pairs (Holm),
    excludes 0; a difference that lies wholly within its margin is never called worse. Intervals cover the choice of
    photos (loss) and seeds (pictures) for the given scenes, not the luck of training, see ``training_runs``.

    Args:
        evidence: One per model, the base among them if it was measured; names differ.
        margins: What is too small to matter.
        levels: What a stranger, the real person and the photos score.
        seed: Seed of all resampling; the same evidence and seed give the same verdict.
        control: Pictures made under a ControlNet, if any were.
        training_runs: How many times each method was trained; said in the conclusions.

    Raises:
        ValueError: If there is no evidence, two models share a name, there is more than one base, or grids of one
            axis differ in shape.
    """
    _check(evidence)
    comparisons = compare_all(evidence, margins, seed=seed)
    choice = choose(evidence, comparisons, margins)
    setting = Setting(choice, comparisons, margins, levels, seed, training_runs)
    return Verdict(
        best_lora=choice.best_lora.name if choice.best_lora else None,
        winner=choice.winner.name if choice.winner else None,
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
    for axis in AXES:
        shapes = {grid.shape for model in evidence if (grid := model.grid(axis)) is not None}
        if len(shapes) > 1:
            raise ValueError(f"{axis} was measured on different cells: shapes {sorted(shapes)}")
