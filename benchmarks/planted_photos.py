"""Does the check find what is wrong with photos? Drawn sets with known faults.

    python -m benchmarks.planted_photos [--sets 20] [--first 1000] [--sheet FILE]

Each set has eighteen good photos of one drawn person, and of each of these: two near-duplicates of good ones, two
blurred, one of another person, one with two people, one dark, one tiny. Precision and recall of each finding. The
thresholds were chosen on sets with numbers below 1000.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

import portrayal
from benchmarks.pocket_people import FRAMINGS
from benchmarks.record import print_table, save
from portrayal.stages.check import Check
from pretraining.world import Person, draw, sample_person, sample_shot

SIZE = 512
SEED = 5_000_003
FAULTS = ("near_duplicate", "blurred", "someone_else", "several_people", "dark", "tiny")


def main() -> None:
    """Draw, check, count, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--sheet", type=Path, help="the contact sheet of the first set")
    arguments = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    config = portrayal.load_config("pocket-demo")
    for number in range(arguments.first, arguments.first + arguments.sets):
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(number, Path(folder))
            sheet = arguments.sheet if number == arguments.first else None
            counts += count(planted, portrayal.check_photos(Path(folder), config, sheet=sheet))
    rows = [figures(kind, counts) for kind in FAULTS]
    total = sum(
        (Counter({what: number for (_, what), number in counts.items() if _ == kind}) for kind in FAULTS),
        Counter[str](),
    )
    rows.append(figures("all", Counter({("all", what): number for what, number in total.items()})))
    print_table(rows)
    settings = {"sets": arguments.sets, "first": arguments.first, "photos": len(FRAMINGS), "size": SIZE}
    print(save("planted_photos", {"findings": rows}, settings))


def plant(number: int, folder: Path) -> dict[str, str]:
    """Write a set; the fault of each file that has one. Of two near-duplicates either may be the one that is named."""
    rng = np.random.default_rng([SEED, number])
    person = sample_person(rng)
    photos: list[tuple[str, Image.Image]] = []
    for framing in FRAMINGS:
        photos.append(("", photo(person, rng, framing)))
    for place in rng.choice(len(FRAMINGS), 2, replace=False):
        edge = int(rng.integers(4, 10))
        again = photos[place][1].crop((edge, edge, SIZE - edge, SIZE - edge)).resize((SIZE, SIZE))
        photos.append(("near_duplicate", ImageEnhance.Brightness(again).enhance(1.05)))
    for _ in range(2):
        sharp = photo(person, rng, "head" if rng.random() < 0.5 else "half")
        photos.append(("blurred", sharp.filter(ImageFilter.GaussianBlur(float(rng.uniform(5, 10))))))
    other = another(person, rng)
    photos.append(("someone_else", photo(other, rng, "head" if rng.random() < 0.5 else "half")))
    photos.append(("several_people", together(person, other, rng)))
    bright = photo(person, rng, "half")
    photos.append(("dark", ImageEnhance.Brightness(bright).enhance(float(rng.uniform(0.1, 0.22)))))
    photos.append(("tiny", photo(person, rng, "half", int(rng.integers(36, 62)))))
    names = [f"{place:02d}.png" for place in rng.permutation(len(photos))]
    for name, (_, picture) in zip(names, photos, strict=True):
        picture.save(folder / name)
    return {name: fault for name, (fault, _) in zip(names, photos, strict=True) if fault}


def photo(person: Person, rng: np.random.Generator, framing: str, size: int = SIZE) -> Image.Image:
    """One photo in a random scene."""
    return Image.fromarray(draw(person, sample_shot(rng, framing=framing, gender=person.gender), size))  # type: ignore[arg-type]


def together(one: Person, other: Person, rng: np.random.Generator) -> Image.Image:
    """Two people beside each other in one scene."""
    first = sample_shot(rng, framing="half", gender=one.gender)
    second = sample_shot(rng, framing="half", gender=other.gender, scene=first.scene)
    quarter = SIZE // 4
    halves = [draw(person, shot, SIZE)[:, quarter:-quarter] for person, shot in ((one, first), (other, second))]
    return Image.fromarray(np.hstack(halves))


def another(person: Person, rng: np.random.Generator) -> Person:
    """Somebody of the same gender."""
    while True:
        other = sample_person(rng)
        if other.gender == person.gender:
            return other


def count(planted: dict[str, str], found: Check) -> Counter[tuple[str, str]]:
    """Right and wrong findings and misses, by kind."""
    counts: Counter[tuple[str, str]] = Counter()
    for kind in FAULTS:
        said = {one.file for one in found.photos if any(finding.kind == kind for finding in one.findings)}
        true = {file for file, fault in planted.items() if fault == kind}
        if kind == "near_duplicate":  # the check names one of the two, whichever comes later by name
            right = min(len(said), len(true))
            counts.update(
                {(kind, "right"): right, (kind, "wrong"): len(said) - right, (kind, "missed"): len(true) - right}
            )
        else:
            counts.update(
                {
                    (kind, "right"): len(said & true),
                    (kind, "wrong"): len(said - true),
                    (kind, "missed"): len(true - said),
                }
            )
    return counts


def figures(kind: str, counts: Counter[tuple[str, str]]) -> dict[str, object]:
    """A row of the table."""
    right, wrong, missed = (counts[kind, what] for what in ("right", "wrong", "missed"))
    return {
        "finding": kind,
        "planted": right + missed,
        "precision": round(right / max(1, right + wrong), 3),
        "recall": round(right / max(1, right + missed), 3),
        "wrong": wrong,
        "missed": missed,
    }


if __name__ == "__main__":
    main()
