"""The scores of a study with several ranks and learning rates, as `evaluate` writes them."""

from __future__ import annotations

from typing import Any

from tests.report.conftest import around

RANKS, RATES = (16, 32, 64), (5e-5, 1e-4, 1.5e-4, 1e-3)
NAMES = {5e-5: "5e-5", 1e-4: "1e-4", 1.5e-4: "15e-5", 1e-3: "1e-3"}
LIKENESS = {5e-5: 0.55, 1e-4: 0.68, 1.5e-4: 0.72}
BEST = "lora-32-lr15e-5"
SENTENCES = [f"Finding {number} of the LoRAs." for number in range(1, 9)]


def rated_scores(likeness: dict[float, float] | None = None) -> dict[str, Any]:
    """Three ranks at four rates; at the highest, 32 and 64 diverge, and 16 does in its second training."""
    found = LIKENESS if likeness is None else likeness
    rows = [lora(rank, rate, found[rate] + 0.01 * place) for place, rank in enumerate(RANKS) for rate in RATES[:3]] + [
        lora(16, 1e-3, 0.41)
    ]
    return {
        "schema": 2,
        "models": [{"name": "base", "kind": "base", "rank": None, "identity": around(0.34, 0.03)}, *rows],
        "diverged": [
            {"name": "lora-16-lr1e-3.fold-2", "model": "lora-16-lr1e-3", "step": 70},
            {"name": "lora-32-lr1e-3", "model": "lora-32-lr1e-3", "rank": 32, "learning_rate": 1e-3, "step": 41},
            {"name": "lora-64-lr1e-3", "model": "lora-64-lr1e-3", "step": 30},
        ],
        "verdict": {
            "best_lora": BEST,
            "recommended": BEST,
            "leader": "lora-64-lr15e-5",
            "winner": BEST,
            "tied": [BEST, "lora-64-lr15e-5", "lora-64-lr1e-4"],
            "set_aside": {"lora-16-lr15e-5": ["prompt"]},
            "chances": {"lora-64-lr15e-5": 0.584, BEST: 0.411, "lora-64-lr1e-4": 0.001},
            "behind": [f"lora-{rank}-lr5e-5" for rank in RANKS],
            "sentence": "LoRA 32 at 1.5e-4 is the LoRA to use.",
            "conclusions": SENTENCES,
            "lacks": [],
            "comparisons": [],
        },
    }


def lora(rank: int, rate: float, likeness: float) -> dict[str, Any]:
    """One row; those at the lowest rate were trained once."""
    return {
        "name": f"lora-{rank}-lr{NAMES[rate]}",
        "kind": "lora",
        "rank": rank,
        "learning_rate": rate,
        "identity": around(likeness, 0.03),
        "prompt": around(0.31 - likeness / 100, 0.002),
        "trainings": [{"fold": fold, "seed": 0, "identity": likeness} for fold in range(1 if rate == 5e-5 else 3)],
    }
