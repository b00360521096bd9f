"""``python -m pretraining.world --out FILE.png``: a contact sheet of people x scenes, and the speed of drawing."""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pretraining.world import SCENES, captions, draw, sample_person, sample_shot


def contact_sheet(seed: int, people: int, size: int) -> npt.NDArray[np.uint8]:
    """Draw one row per person and one column per scene, ``size`` pixels each."""
    rng = np.random.default_rng(seed)
    crowd = [sample_person(rng) for _ in range(people)]
    rows = [[draw(person, sample_shot(rng, scene=scene), size) for scene in SCENES] for person in crowd]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)


def milliseconds(seed: int, count: int, size: int) -> float:
    """Measure the processor time of drawing one picture, people and shots sampled beforehand."""
    rng = np.random.default_rng(seed)
    pairs = [(sample_person(rng), sample_shot(rng)) for _ in range(count)]
    start = time.process_time()
    for person, shot in pairs:
        draw(person, shot, size)
    return (time.process_time() - start) / count * 1e3


def main() -> None:
    """Save the sheet; print a few captions and the time per picture."""
    parser = argparse.ArgumentParser(prog="python -m pretraining.world", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--people", type=int, default=8, help="rows")
    parser.add_argument("--size", type=int, default=128, help="pixels per picture")
    args = parser.parse_args()
    Image.fromarray(contact_sheet(args.seed, args.people, args.size)).save(args.out)
    rng = np.random.default_rng(args.seed)
    for _ in range(5):
        print(*captions(sample_person(rng), sample_shot(rng), rng, 1))
    print(f"{milliseconds(args.seed, 200, args.size):.2f} ms per picture of {args.size} px")


if __name__ == "__main__":
    main()
