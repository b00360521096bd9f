"""Draw the training pictures with every core, and keep them on disk so that a resumed run does not draw again.

Imports no torch at its top: the drawing processes fork before CUDA starts.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

SIZE = 128
CAPTIONS = 4
CANNY_THRESHOLDS = (100, 200)
CHUNK = 20


@dataclass(frozen=True)
class Drawn:
    """Pictures of people, person after person.

    pictures: uint8 ``(N, 128, 128, 3)``; captions: four of each picture. The folder holds more, see :func:`arrays`.
    """

    pictures: np.ndarray
    captions: list[list[str]]


def sample_captions(rng: np.random.Generator, people: int) -> list[str]:
    """Captions of random people in random shots, without drawing them."""
    from pretraining.world import captions, sample_person, sample_shot

    found: list[str] = []
    for _ in range(people):
        person = sample_person(rng)
        for _ in range(4):
            found += captions(person, sample_shot(rng, gender=person.gender), rng, CAPTIONS)
    return found


def canny(picture: np.ndarray) -> np.ndarray:
    """Edges of a uint8 RGB picture ``(H, W, 3)`` as uint8 0 or 255, ``(H, W)``."""
    edges: np.ndarray = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), *CANNY_THRESHOLDS)
    return edges


def arrays(count: int) -> dict[str, tuple[tuple[int, ...], type]]:
    """Shape and type of each array that :func:`render` writes for ``count`` pictures.

    Edges are canny's as packed bits; skeletons are drawn as OpenPose draws them; keypoints and labels are the world's.
    """
    from pretraining.world import LABELS

    return {
        "pictures": ((count, SIZE, SIZE, 3), np.uint8),
        "edges": ((count, SIZE, SIZE // 8), np.uint8),
        "skeletons": ((count, SIZE, SIZE, 3), np.uint8),
        "keypoints": ((count, 17, 3), np.float16),
        "labels": ((count, len(LABELS)), np.int8),
    }


def render(folder: Path, *, people: int, per_person: int, seed: int, processes: int) -> Drawn:
    """Draw ``people * per_person`` pictures into ``folder``; the same seed draws the same world."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, kind) in arrays(people * per_person).items():
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
    job = partial(_draw_people, folder, per_person, seed)
    starts = [range(start, min(start + CHUNK, people)) for start in range(0, people, CHUNK)]
    captions = [row for rows in _map(job, starts, processes) for row in rows]
    return Drawn(np.load(folder / "pictures.npy", mmap_mode="r"), captions)


def _map(job: partial[list[list[str]]], items: list[range], processes: int) -> Iterator[list[list[str]]]:
    if processes <= 1:
        yield from map(job, items)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("fork").Pool(processes, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        yield from pool.imap(job, items)


def _draw_people(folder: Path, per_person: int, seed: int, people: range) -> list[list[str]]:
    """Draw some people; each has a generator of its own, so the number of processes changes nothing."""
    from portrayal.generation.skeleton import draw_skeleton
    from pretraining.world import captions, draw, keypoints, labels, sample_person, sample_shot

    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in arrays(0)}
    texts = []
    for index in people:
        rng = np.random.default_rng([seed, index])
        person = sample_person(rng)
        for row in range(index * per_person, (index + 1) * per_person):
            shot = sample_shot(rng, gender=person.gender)
            picture, joints = draw(person, shot, SIZE), keypoints(person, shot)
            files["pictures"][row] = picture
            files["edges"][row] = np.packbits(canny(picture) > 0, axis=-1)
            files["skeletons"][row] = draw_skeleton(joints, SIZE)
            files["keypoints"][row] = joints
            files["labels"][row] = labels(person, shot)
            texts.append(captions(person, shot, rng, CAPTIONS))
    return texts
