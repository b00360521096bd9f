"""The demo on this machine: how long each stage takes, and what the models of its study score.

    python -m benchmarks.pocket_demo [--quick] [--one-by-one] [--out DIR] [--set section.key=value]

The default study on the eighteen example photos; with `--quick` the run of `make demo`. `--one-by-one` then trains the
same LoRAs once more, each by itself, to show what training them together saves. `--out` keeps the runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import portrayal
from benchmarks.record import print_table, read, save
from portrayal import effort_settings

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def main() -> None:
    """Run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one fold, as the demo has it")
    parser.add_argument("--one-by-one", action="store_true", help="also time the LoRAs trained one after another")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    changes = [*(effort_settings("quick") if arguments.quick else []), *arguments.settings]
    config = portrayal.make_plan("pocket-demo", ["subject.class_noun=woman", *changes]).config
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary) / "demo"
        started = time.perf_counter()
        run = portrayal.portray(PHOTOS, config, out, consent=True)
        seconds = time.perf_counter() - started
        scores = read(run.folder / "scores.json")
        stages = stage_seconds(run)
        alone = train_alone(run, out.with_name(f"{out.name}-one-by-one")) if arguments.one_by_one else None
    rows = [row(model) for model in scores["models"]]
    print_table(rows)
    levels = {name: scores["levels"][name]["mean"] for name in ("identity_real", "identity_stranger")}
    print(f"real photos {levels['identity_real']:.3f}, strangers {levels['identity_stranger']:.3f}")
    print(f"{seconds:.0f} s in all")
    print(scores["verdict"]["sentence"])
    if alone is not None:
        together = sum(took for name, took in stages.items() if name.startswith("train.lora"))
        print(f"LoRAs trained together: {together:.0f} s; one by one: {sum(alone.values()):.0f} s")
    figures = {
        "models": rows,
        "levels": levels,
        "control": scores["control"],
        "verdict": scores["verdict"]["sentence"],
        "stage_seconds": stages,
        "total_seconds": round(seconds, 1),
        "one_by_one_seconds": alone,
    }
    name = "pocket_demo_quick" if arguments.quick else "pocket_demo"
    print(save(name, figures, {"recipe": "pocket-demo", "changed": changes, "photos": 18}))


def stage_seconds(run: portrayal.Run) -> dict[str, float]:
    """Seconds that each stage took."""
    return {path.stem: read(path)["seconds"] for path in sorted((run.folder / "stages").glob("*.json"))}


def train_alone(run: portrayal.Run, out: Path) -> dict[str, float]:
    """Seconds of each of a run's LoRA trainings, one after another in a run of their own."""
    study = run.config.study.model_copy(update={"loras_at_once": 1, "full_unet": False})
    alone = portrayal.prepare(PHOTOS, run.config.model_copy(update={"study": study}), out, consent=True)
    portrayal.train(alone)
    return {name: took for name, took in stage_seconds(alone).items() if name.startswith("train.")}


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
