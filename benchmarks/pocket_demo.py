"""The demo on this machine: how long each stage takes, and what the models of its study score.

    python -m benchmarks.pocket_demo [--out DIR] [--set section.key=value]

The same run as `make demo`, on the eighteen example photos; `--out` keeps it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import portrayal
from benchmarks.record import print_table, read, save

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary) / "demo"
        config = portrayal.make_plan("pocket-demo", ["subject.class_noun=woman", *arguments.settings]).config
        started = time.perf_counter()
        run = portrayal.portray(PHOTOS, config, out, consent=True)
        seconds = time.perf_counter() - started
        scores = read(run.folder / "scores.json")
        stages = {path.stem: read(path)["seconds"] for path in sorted((run.folder / "stages").glob("*.json"))}
    rows = [row(model) for model in scores["models"]]
    print_table(rows)
    levels = {name: scores["levels"][name]["mean"] for name in ("identity_real", "identity_stranger")}
    print(f"real photos {levels['identity_real']:.3f}, strangers {levels['identity_stranger']:.3f}")
    print(f"{seconds:.0f} s in all")
    print(scores["verdict"]["sentence"])
    figures = {
        "models": rows,
        "levels": levels,
        "control": scores["control"],
        "verdict": scores["verdict"]["sentence"],
        "stage_seconds": stages,
        "total_seconds": round(seconds, 1),
    }
    print(save("pocket_demo", figures, {"recipe": "pocket-demo", "changed": arguments.settings, "photos": 18}))


def row(model: dict[str, Any]) -> dict[str, Any]:
    """What is quoted of one model."""
    identity = model["identity"]
    return {
        "model": model["name"],
        "held-out loss": round(model["heldout_loss"]["mean"], 4),
        "identity": round(identity["mean"], 3),
        "identity low": round(identity["low"], 3),
        "identity high": round(identity["high"], 3),
        "of the way to real": round(model["identity_normalised"], 2),
        "prompt": round(model["prompt"]["mean"], 3),
        "lightness": round(model["colour"]["lightness_difference"], 1),
    }


if __name__ == "__main__":
    main()
