"""Does it pay to caption each photo? The same people and recipe with one caption for all and with the captioner's.

    python -m benchmarks.captions [--people 3] [--jobs 1] [--out DIR] [--set section.key=value]

Drawn people whom neither `pocket` nor its recipe ever saw, and who are not those of `pocket_people`; eighteen photos
each; one LoRA. Identity and obedience as there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.pocket_people import draw_photos, row, spread, study
from benchmarks.record import print_table, save

FIRST_PERSON = 40
RANK = 16
CAPTIONS = ("template", "captioner")


def main() -> None:
    """Train, judge, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(arguments.out or Path(temporary), arguments.people, arguments.settings, arguments.jobs)
    print_table(rows)
    settings = {"recipe": "pocket-demo", "changed": arguments.settings, "people": arguments.people, "rank": RANK}
    print(save("captions", {"rows": rows}, settings))


def measure(out: Path, people: int, changes: Sequence[str], jobs: int) -> list[dict[str, Any]]:
    """A row of means for the base and for each way of captioning."""
    numbers = range(FIRST_PERSON, FIRST_PERSON + people)
    calls = []
    for captions in CAPTIONS:
        settings = [f"study.ranks=[{RANK}]", "study.full_unet=false", f"prepare.captions={captions}", *changes]
        for number in numbers:
            draw_photos(number, out / captions / f"photos-{number}")
            calls.append((study, number, out / captions, settings))
    studies = spread(calls, jobs)
    rows = [row("base", studies)]
    for place, captions in enumerate(CAPTIONS):
        found = row(f"lora-{RANK}", studies[place * people : (place + 1) * people])
        rows.append(found | {"model": f"{found['model']}, {captions}"})
    return rows


if __name__ == "__main__":
    main()
