"""People are counted by the faces that several windows agree on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.models.people import WINDOWS, count_people, faces
from portrayal.models.pose import load_pose_reader
from portrayal.models.source import BaseSource
from portrayal.pocket import WEIGHTS


def windows_on(noses: list[tuple[float, float]], sure: float = 0.9) -> np.ndarray:
    """What a perfect reader of one person sees in each window: the first nose that lies well inside, or nothing."""
    keypoints = np.zeros((len(WINDOWS), 17, 3))
    for points, (left, top, side) in zip(keypoints, WINDOWS, strict=True):
        for x, y in noses:
            inside = ((x - left) / side, (y - top) / side)
            if all(0.15 < value < 0.85 for value in inside):
                points[0] = *inside, sure
                points[1] = inside[0] + 0.06, inside[1] - 0.05, sure
                points[2] = inside[0] - 0.06, inside[1] - 0.05, sure
                break
    return keypoints


@pytest.mark.parametrize("noses", [[], [(0.5, 0.4)], [(0.25, 0.4), (0.75, 0.35)]])
def test_faces_that_stand_apart_are_people(noses: list[tuple[float, float]]) -> None:
    found = faces(windows_on(noses))
    assert sorted(found) == [pytest.approx(nose, abs=1e-6) for nose in sorted(noses)]


def test_what_is_unsure_or_no_face_is_nobody() -> None:
    assert faces(windows_on([(0.5, 0.4)], sure=0.3)) == []
    upside_down = windows_on([(0.5, 0.4)])
    upside_down[:, 1:3, 1] += 0.1
    assert faces(upside_down) == []


def test_one_drawn_person_is_not_two() -> None:
    pytest.importorskip("skia", reason="skia-python or the libEGL it needs is missing", exc_type=ImportError)
    from pretraining.world import draw, sample_person, sample_shot

    rng = np.random.default_rng(17)
    pictures = []
    for _ in range(24):
        person = sample_person(rng)
        pictures.append(Image.fromarray(draw(person, sample_shot(rng, gender=person.gender), 256)))
    counted = count_people(pictures, load_pose_reader(BaseSource("pocket", "pocket", WEIGHTS), torch.device("cpu")))
    assert max(counted) == 1
    assert sum(counted) >= 8
