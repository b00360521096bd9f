"""Whether a LoRA cut to a lower rank is shown to be no worse than the whole one.

The larger cut is asked first, and a smaller one counts only if all larger ones passed. In a fixed order like this the
chance of offering any cut that is worse stays that of one question, so nothing is corrected for the number of cuts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portrayal.evaluation.comparisons import GATES, Axis, Margins, ModelEvidence, compare_pair
from portrayal.evaluation.intervals import Interval
from portrayal.evaluation.phrases import shown
from portrayal.sentences import Said, megabytes_text, say

DIVISORS = (2, 4, 8)
"""By what the rank is divided."""


@dataclass(frozen=True)
class Cut:
    """A LoRA at a lower rank, against the whole one.

    Attributes:
        rank: Of the cut.
        megabytes: Size of its file, in millions of bytes.
        likeness: The cut's likeness to held-out photos less that of the whole LoRA, cosine.
        prompt: The same for how well the prompt is followed; None if that was not measured.
        no_worse: Whether it is shown to be no worse by more than the margins.
    """

    rank: int
    megabytes: float
    likeness: Interval
    prompt: Interval | None
    no_worse: bool

    def as_json(self) -> dict[str, Any]:
        """As in `cuts.json`."""
        return {
            "rank": self.rank,
            "megabytes": self.megabytes,
            "likeness": self.likeness.as_json(),
            "prompt": None if self.prompt is None else self.prompt.as_json(),
            "no_worse": self.no_worse,
        }


def cut_ranks(rank: int) -> tuple[int, ...]:
    """Half, a quarter and an eighth of a rank, largest first, as far as these are ranks of their own."""
    return tuple(sorted({rank // divisor for divisor in DIVISORS} - {0}, reverse=True))


def judge_cuts(
    uncut: ModelEvidence, cuts: Sequence[ModelEvidence], megabytes: Mapping[int, float], margins: Margins
) -> tuple[Cut, ...]:
    """Judge cuts of a LoRA in the cells they share with it; none of them where likeness was not measured.

    Args:
        uncut: The whole LoRA.
        cuts: What was measured of each cut, for the same trainings.
        megabytes: Size of each cut's file, by rank.
        margins: Differences too small to matter.

    Raises:
        ValueError: If the cells differ.
    """
    if not all(one.measured("identity") for one in (uncut, *cuts)):
        return ()
    return tuple(_judge_cut(uncut, one, megabytes[one.rank or 0], margins) for one in cuts)


def smallest(cuts: Sequence[Cut]) -> Cut | None:
    """The smallest cut that is no worse, as are all larger ones; None if there is none."""
    found = None
    for cut in sorted(cuts, key=lambda one: one.rank, reverse=True):
        if not cut.no_worse:
            break
        found = cut
    return found


def sentence_of(cuts: Sequence[Cut], megabytes: float) -> Said:
    """What there is to say of the cuts of a LoRA: the smallest that is no worse, and how to write it.

    Args:
        cuts: The cuts.
        megabytes: Size of the whole LoRA's file, in millions of bytes.
    """
    found = smallest(cuts)
    if found is None:
        return say("cuts.none")
    return say(
        "cuts.offered",
        rank=found.rank,
        size=megabytes_text(found.megabytes),
        whole=megabytes_text(megabytes),
        difference=shown(found.likeness, 3),
        command=f"portrayal export RUN --to kohya --rank {found.rank}",
    )


def _judge_cut(uncut: ModelEvidence, cut: ModelEvidence, megabytes: float, margins: Margins) -> Cut:
    """Judge one cut."""
    shared: list[Axis] = [axis for axis in ("identity", *GATES) if uncut.measured(axis) and cut.measured(axis)]
    found = {axis: compare_pair(cut, uncut, axis, margins) for axis in shared}
    likeness = found["identity"].difference
    kept = likeness.low is not None and likeness.low > -margins.identity
    lost = any(found[gate].loses_by(margins.of(gate)) for gate in GATES if gate in found)
    prompt = found["prompt"].difference if "prompt" in found else None
    return Cut(cut.rank or 0, megabytes, likeness, prompt, kept and not lost)
