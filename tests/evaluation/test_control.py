"""The table of ControlNet kinds, and how well pictures keep to control images."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from portrayal.config import ControlConfig, ControlName
from portrayal.evaluation.control import CONTROL_KINDS
from portrayal.generation.annotators import canny
from portrayal.generation.skeleton import draw_skeleton, read_skeleton
from portrayal.report.gallery import CONTROL_WORDS
from portrayal.sentences import say

SETTINGS = ControlConfig()
POSE = np.column_stack([np.random.default_rng(0).uniform(0.1, 0.9, (17, 2)), np.ones(17)])


class Reader:
    """Sees this in every picture."""

    def __init__(self, keypoints: np.ndarray) -> None:
        self.found = keypoints

    def keypoints(self, pictures: list[Image.Image]) -> np.ndarray:
        return np.array([self.found] * len(pictures))


def test_every_kind_of_the_settings_is_in_the_tables() -> None:
    assert set(CONTROL_KINDS) == set(CONTROL_WORDS) == set(get_args(ControlName))


def test_edges_are_measured_against_the_outline() -> None:
    picture = Image.fromarray(np.kron(np.eye(8), np.ones((16, 16))).astype(np.uint8) * 255)
    found = CONTROL_KINDS["canny"].agreement([picture, Image.new("RGB", (128, 128))], canny(picture), SETTINGS, None)
    assert found is not None
    assert found.tolist() == [1, 0]


def test_joints_are_measured_against_the_skeleton() -> None:
    def measured(reader: Any) -> Any:
        skeleton = Image.fromarray(draw_skeleton(POSE, 256))
        return CONTROL_KINDS["openpose"].agreement([Image.new("RGB", (256, 256))] * 2, skeleton, SETTINGS, reader)

    assert measured(Reader(POSE)).tolist() == [1, 1]
    assert measured(Reader(POSE + np.array([0.3, 0, 0]))).tolist() == [0, 0]
    assert measured(Reader(POSE * [1, 1, 0.1])).tolist() == [0, 0]
    assert measured(None) is None


def test_without_joints_to_look_for_nothing_is_measured() -> None:
    black = Image.new("RGB", (64, 64))
    assert CONTROL_KINDS["openpose"].agreement([black], black, SETTINGS, Reader(POSE)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(CONTROL_KINDS))
def test_what_the_verdict_says_names_the_model(kind: str) -> None:
    assert "LoRA 8" in say(f"control.{CONTROL_KINDS[kind].measure}", model="LoRA 8")


def test_a_ready_made_skeleton_is_drawn_anew_for_the_base() -> None:
    """Scaled down, sticks of 8 pixels would be 2 thin; the ControlNet knows 4."""
    large = Image.fromarray(draw_skeleton(POSE, (768, 512)))
    small = np.asarray(CONTROL_KINDS["openpose"].adopt(large, (128, 128)))
    square = (POSE * [1.5, 1, 1]) - np.array([0.25, 0, 0])
    inside = (square[:, 0] > 0.02) & (square[:, 0] < 0.98)
    found = read_skeleton(small)
    assert np.abs(found - square)[inside, :2].max() < 0.04
    grey = Image.new("RGB", (200, 200), "grey")
    assert CONTROL_KINDS["openpose"].adopt(grey, (128, 128)).getpixel((5, 5)) == (128, 128, 128)
