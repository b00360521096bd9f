"""The drawing of poses: OpenPose's colours and order, there and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from portrayal.generation.skeleton import COLOURS, LIMB_COLOURS, draw_skeleton, read_skeleton

STANDING = np.array([
    [0.50, 0.20], [0.54, 0.17], [0.46, 0.17], [0.59, 0.19], [0.41, 0.19], [0.60, 0.35], [0.40, 0.35], [0.70, 0.45],
    [0.30, 0.45], [0.75, 0.30], [0.25, 0.60], [0.56, 0.60], [0.44, 0.60], [0.57, 0.75], [0.43, 0.75], [0.57, 0.92],
    [0.43, 0.92],
])  # fmt: skip


def pose(unseen: tuple[int, ...] = ()) -> np.ndarray:
    seen = np.array([[float(joint not in unseen)] for joint in range(17)])
    return np.concatenate([STANDING, seen], axis=1)


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(int(value) for value in colour) for colour in np.unique(picture.reshape(-1, 3), axis=0)}


def test_all_joints_and_limbs_have_their_colours() -> None:
    picture = draw_skeleton(pose(), 256)
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8
    assert colours(picture) == {(0, 0, 0), *COLOURS, *LIMB_COLOURS[:17]}


def test_the_person_s_right_is_where_openpose_has_it() -> None:
    """The right wrist, at the picture's left, is OpenPose's joint 4; the neck, its joint 1, between the shoulders."""
    picture = draw_skeleton(pose(), 256)
    assert tuple(picture[int(0.60 * 256), int(0.25 * 256)]) == COLOURS[4]
    assert tuple(picture[int(0.35 * 256), int(0.50 * 256)]) == COLOURS[1]
    assert tuple(picture[int(0.40 * 256), int(0.35 * 256)]) == LIMB_COLOURS[2]


def test_a_limb_with_an_unseen_end_is_left_out() -> None:
    missing = {(0, 0, 0), *COLOURS, *LIMB_COLOURS[:17]} - colours(draw_skeleton(pose(unseen=(10,)), 256))
    assert missing == {COLOURS[4], LIMB_COLOURS[3]}
    assert not draw_skeleton(pose(unseen=tuple(range(17))), 64).any()


def test_sticks_grow_with_the_picture() -> None:
    thickness = [
        int((draw_skeleton(pose(), side)[int(0.835 * side), : side // 2] > 0).any(axis=1).sum())
        for side in (128, 512, 1024)
    ]
    assert thickness[0] in (4, 5)
    assert thickness[1] in (8, 9)
    assert thickness[2] in (16, 17)


def test_width_and_height_may_differ() -> None:
    assert draw_skeleton(pose(), (64, 96)).shape == (96, 64, 3)


@pytest.mark.parametrize("side", [128, 512])
def test_joints_can_be_read_back(side: int) -> None:
    read = read_skeleton(draw_skeleton(pose(unseen=(7, 15)), side))
    assert (read[:, 2] == pose(unseen=(7, 15))[:, 2]).all()
    seen = read[:, 2] > 0
    assert np.abs(read - pose())[seen, :2].max() < 0.02


def test_it_is_had_without_torch() -> None:
    code = "import sys, portrayal.generation.skeleton; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
