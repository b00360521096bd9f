"""Every figure of the embedded base's model card, measured again, and the card written from them.

    python -m benchmarks.pocket [--out DIR] [--samples 1000] [--people 5]

Drawn people and pictures that `pocket` never saw: what it reconstructs and paints, how its ControlNets are followed
(minutes on a GPU, much longer on a CPU), then five people learned from eighteen photos each. Figures go into
`pretraining/weights/metrics.json`; the card quotes those.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import pocket_people
from benchmarks.record import print_table, read, save
from portrayal.pocket import WEIGHTS
from portrayal.run import write_json
from pretraining.card import figures as card_figures
from pretraining.card import model_card
from pretraining.evaluate import SAMPLES, draw_held_out, evaluate
from pretraining.settings import Settings

PARTS = ("base", "people")
METRICS = pocket_people.JUDGE.with_name("metrics.json")
"""Every figure that the card quotes; not installed with the base."""


def main() -> None:
    """Measure, print, record, write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="keep pictures and runs here; the same command goes on from them")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="pictures painted freely and per ControlNet")
    parser.add_argument("--people", type=int, default=5, help="people to learn")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side, on two CPU cores each")
    parser.add_argument("--only", choices=PARTS, help="measure one part; the card keeps the other's figures")
    arguments = parser.parse_args()
    metrics: dict[str, Any] = read(METRICS)
    with tempfile.TemporaryDirectory() as temporary:
        out: Path = arguments.out or Path(temporary)
        if arguments.only != "people":
            metrics |= measure_base(out, arguments.samples)
        if arguments.only != "base":
            metrics["personalisation"] = pocket_people.measure(
                out / "people", arguments.people, [], prior=True, jobs=arguments.jobs
            )
    print_table([{"figure": name, "value": value} for name, value in card_figures(metrics).items()])
    write_json(METRICS, metrics)
    (WEIGHTS / "README.md").write_text(model_card(metrics), encoding="utf-8")
    print(save("pocket", metrics, {"samples": arguments.samples, "people": arguments.people, "only": arguments.only}))


def measure_base(out: Path, samples: int) -> dict[str, Any]:
    """What the base does with people never seen; the sheets go into ``out``."""
    held_out, settings = out / "held_out", Settings()
    draw_held_out(held_out, WEIGHTS, len(os.sched_getaffinity(0)))  # forks, so before anything touches CUDA
    from pretraining.dataset import load_dataset
    from pretraining.devices import set_up_device

    data = load_dataset(held_out, settings.held_out_per_person, set_up_device())
    return evaluate(WEIGHTS, pocket_people.JUDGE, data, out, samples=samples)


if __name__ == "__main__":
    main()
