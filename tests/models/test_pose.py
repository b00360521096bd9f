"""Reading poses: where heatmaps peak, and who can read at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.errors import UsageError, WeightsError
from portrayal.generation.annotators import openpose
from portrayal.models.pose import PoseReader, check_pose_reader, load_pose_reader, peaks
from portrayal.models.source import BaseSource


def heatmap(x: float, y: float, height: float = 1.0, side: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return height * np.exp(-((columns - x * side) ** 2 + (rows - y * side) ** 2) / 8)


def small_reader() -> PoseReader:
    """A reader of the right classes with random weights."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    torch.manual_seed(0)
    backbone = VitPoseBackboneConfig(
        image_size=[128, 128], patch_size=[8, 8], hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config = VitPoseConfig(backbone_config=backbone, scale_factor=4, use_simple_decoder=True, num_labels=17)
    return PoseReader(VitPoseForPoseEstimation(config).eval())


def test_peaks_are_found_between_cells() -> None:
    wanted = [(0.5, 0.25), (0.333, 0.8), (0.004, 0.996)]
    found = peaks(np.array([[heatmap(x, y, 0.9) for x, y in wanted]]))[0]
    assert np.abs(found[:2, :2] - wanted[:2]).max() < 1e-4
    assert np.abs(found[2, :2] - wanted[2]).max() < 1 / 64  # beyond the outermost cells' centres nothing is refined
    assert found[:2, 2] == pytest.approx(0.9, abs=0.1)


def test_flat_heatmaps_are_not_sure() -> None:
    assert (peaks(np.full((1, 17, 8, 8), -1.0))[0, :, 2] == 0).all()


def test_a_reader_reads_pictures_of_any_size() -> None:
    pictures = [Image.new("RGB", size, "grey") for size in ((128, 128), (40, 70))] * 9
    keypoints = small_reader().keypoints(pictures)
    assert keypoints.shape == (18, 17, 3)
    assert ((keypoints >= 0) & (keypoints <= 1)).all()


def test_a_picture_of_nobody_is_refused() -> None:
    class Blind(PoseReader):
        def keypoints(self, pictures: object) -> np.ndarray:
            return np.zeros((1, 17, 3))

    with pytest.raises(UsageError, match="No pose can be made out"):
        openpose(Image.new("RGB", (64, 64)), Blind(None))


def test_other_bases_are_told_to_bring_a_skeleton() -> None:
    with pytest.raises(WeightsError, match=r"control\.ready_made=true") as caught:
        check_pose_reader(BaseSource("owner/name", "hub", Path("nowhere")))
    assert "owner/name" in caught.value.cause


@pytest.mark.usefixtures("needs_pose")
def test_the_embedded_reader_reads_a_drawn_person(pocket) -> None:
    from portrayal.photos import read_photo

    reader = load_pose_reader(pocket.source, torch.device("cpu"))
    photo = read_photo(sorted((Path(__file__).parents[2] / "examples" / "photos").glob("*.jpg"))[0]).image
    assert reader.keypoints([photo]).shape == (1, 17, 3)
