"""Pose readers: pictures → keypoints. `pocket` brings one that knows drawn people.

Shapes: N pictures, 17 keypoints in COCO's order, h and w of a heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from portrayal.errors import WeightsError
from portrayal.models.source import BaseSource
from portrayal.pocket import embedded_folder

NO_READER = "Poses cannot be read from pictures with the base {}, only with pocket so far."
SKELETON_REMEDY = (
    "Give a ready-made OpenPose skeleton: control.reference=FILE, control.ready_made=true, "
    'control.kinds=["openpose"]; or leave openpose out.'
)
BATCH = 16


@dataclass(frozen=True)
class PoseReader:
    """A ViTPose (Xu et al. 2022, arXiv:2204.12484) for pictures of one person that fills them."""

    model: Any

    @torch.no_grad()
    def keypoints(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        """Keypoints, shape `(N, 17, 3)`: x and y from 0 to 1 of width and height, and the heatmap's height there."""
        device, chunks = next(self.model.parameters()).device, []
        height, width = self.model.config.backbone_config.image_size
        for start in range(0, len(pictures), BATCH):
            resized = [
                np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
                for picture in pictures[start : start + BATCH]
            ]
            pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 127.5 - 1
            chunks.append(self.model(pixel_values=pixels.to(device)).heatmaps.float().cpu().numpy())
        return peaks(np.concatenate(chunks))


def peaks(heatmaps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where each heatmap is highest, to a fraction of a cell: `(N, 17, h, w)` → `(N, 17, 3)`.

    Along each axis the top of a parabola through the logarithms, which is exact for a Gaussian (Zhang et al. 2019,
    arXiv:1910.06278, Sec. 3.1); the third value is the height of the peak, 0 to 1.
    """
    count, joints, height, width = heatmaps.shape
    places = heatmaps.reshape(count, joints, -1).argmax(axis=2)
    found = np.zeros((count, joints, 3))
    for index in np.ndindex(count, joints):
        y, x = divmod(int(places[index]), width)
        logs = np.log(heatmaps[index].astype(np.float64).clip(1e-3))
        x_top, y_top = x + 0.5 + parabola_top(logs[y], x), y + 0.5 + parabola_top(logs[:, x], y)
        found[index] = (x_top / width, y_top / height, heatmaps[index][y, x].clip(0, 1))
    return found


def parabola_top(values: NDArray[np.float64], place: int) -> float:
    """How far beside the highest of some values the parabola through it and its neighbours has its top."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, middle, after = values[place - 1 : place + 2]
    bend = max(2 * middle - before - after, 1e-6)
    return float(np.clip((after - before) / (2 * bend), -0.5, 0.5))


def check_pose_reader(source: BaseSource) -> None:
    """Refuse a base that has no pose reader.

    Raises:
        WeightsError: If it has none.
    """
    if source.kind != "pocket":
        raise WeightsError(NO_READER.format(source.name), SKELETON_REMEDY)


def load_pose_reader(source: BaseSource, device: torch.device) -> PoseReader:
    """The pose reader that fits a base.

    Raises:
        WeightsError: If there is none, or its files are missing.
    """
    check_pose_reader(source)
    return embedded_reader(str(device))


@lru_cache(maxsize=1)
def embedded_reader(device: str) -> PoseReader:
    """`pocket`'s own."""
    from transformers import VitPoseForPoseEstimation

    folder = embedded_folder("pose")
    model = VitPoseForPoseEstimation.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return PoseReader(model.to(device).eval().requires_grad_(False))
