"""``python -m pretraining.world --out FILE.png``: a contact sheet, some captions, and the speed of drawing."""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pretraining.world import POSES, SCENES, Person, Shot, captions, draw, keypoints, sample_person, sample_shot

_BONES = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13),
    (13, 15), (12, 14), (14, 16),
)  # fmt: skip
"""Pairs of COCO keypoints that a skeleton joins."""


def contact_sheet(seed: int, people: int, size: int, *, poses: bool, skeleton: bool) -> npt.NDArray[np.uint8]:
    """Draw one row per person and one column per scene, or per pose, ``size`` pixels each, in mixed framings."""
    rng = np.random.default_rng(seed)
    crowd = [sample_person(rng) for _ in range(people)]
    rows = []
    for person in crowd:
        if poses:
            shots = [sample_shot(rng, pose=pose, gender=person.gender) for pose in POSES]
        else:
            shots = [sample_shot(rng, scene=scene, gender=person.gender) for scene in SCENES]
        rows.append(np.concatenate([_picture(person, shot, size, skeleton) for shot in shots], axis=1))
    return np.concatenate(rows, axis=0)


def _picture(person: Person, shot: Shot, size: int, skeleton: bool) -> npt.NDArray[np.uint8]:
    """One picture, with its bones and keypoints over it if asked."""
    pixels = draw(person, shot, size)
    if not skeleton:
        return pixels
    image = Image.fromarray(pixels)
    ink = ImageDraw.Draw(image)
    places = [(float(x) * size, float(y) * size) for x, y, _ in keypoints(person, shot)]
    for first, second in _BONES:
        ink.line([places[first], places[second]], fill=(0, 255, 255), width=max(1, size // 100))
    for x, y in places:
        dot = size / 90
        ink.ellipse((x - dot, y - dot, x + dot, y + dot), fill=(255, 0, 255))
    return np.asarray(image, np.uint8)


def milliseconds(seed: int, count: int, size: int) -> float:
    """Measure the processor time of drawing one picture, people and shots sampled beforehand."""
    rng = np.random.default_rng(seed)
    crowd = [sample_person(rng) for _ in range(count)]
    pairs = [(person, sample_shot(rng, gender=person.gender)) for person in crowd]
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
    parser.add_argument("--poses", action="store_true", help="one column per pose instead of per scene")
    parser.add_argument("--skeleton", action="store_true", help="draw bones and keypoints over the pictures")
    args = parser.parse_args()
    sheet = contact_sheet(args.seed, args.people, args.size, poses=args.poses, skeleton=args.skeleton)
    Image.fromarray(sheet).save(args.out)
    rng = np.random.default_rng(args.seed)
    for _ in range(5):
        person = sample_person(rng)
        print(*captions(person, sample_shot(rng, gender=person.gender), rng, 1))
    print(f"{milliseconds(args.seed, 200, args.size):.2f} ms per picture of {args.size} px")


if __name__ == "__main__":
    main()
