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


OPENPOSE = [
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
]
"""Joints in the order of OpenPose's 18 (`POSE_COCO_BODY_PARTS`), each of which has its colour."""

COCO = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
]
"""Keypoints in the order of COCO's annotations."""

BONES = [
    "neck-right_shoulder",
    "neck-left_shoulder",
    "right_shoulder-right_elbow",
    "right_elbow-right_wrist",
    "left_shoulder-left_elbow",
    "left_elbow-left_wrist",
    "neck-right_hip",
    "right_hip-right_knee",
    "right_knee-right_ankle",
    "neck-left_hip",
    "left_hip-left_knee",
    "left_knee-left_ankle",
    "neck-nose",
    "nose-right_eye",
    "right_eye-right_ear",
    "nose-left_eye",
    "left_eye-left_ear",
]
"""Limbs in the order in which controlnet_aux draws and colours them."""


@pytest.mark.parametrize("joint", [name for name in OPENPOSE if name != "neck"])
def test_each_joint_is_drawn_in_openpose_s_colour_for_it(joint: str) -> None:
    alone = pose(unseen=tuple(number for number, name in enumerate(COCO) if name != joint))
    assert colours(draw_skeleton(alone, 128)) == {(0, 0, 0), COLOURS[OPENPOSE.index(joint)]}


@pytest.mark.parametrize("bone", BONES)
def test_each_limb_is_drawn_in_openpose_s_colour_for_it(bone: str) -> None:
    ends = {"left_shoulder", "right_shoulder"} if "neck" in bone else set()
    seen = ends | set(bone.split("-"))
    drawn = colours(draw_skeleton(pose(unseen=tuple(n for n, name in enumerate(COCO) if name not in seen)), 256))
    assert LIMB_COLOURS[BONES.index(bone)] in drawn
