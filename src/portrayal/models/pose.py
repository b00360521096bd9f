"""Pose readers: pictures → keypoints. `pocket` brings one that knows drawn people.

Shapes: N pictures, 17 keypoints in COCO's order, h and w of a heatmap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from portrayal.errors import WeightsError
from portrayal.models import store
from portrayal.models.catalog import KnownModel, known_model
from portrayal.models.source import BaseSource
from portrayal.models.store import fetch_known, look_for
from portrayal.pocket import embedded_folder

READERS = ("vitpose", "rtdetr")
PERSON_SEEN = 0.3
ROOM = 1.25
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SKELETON_REMEDY = (
    "Or give a ready-made OpenPose skeleton: control.reference=FILE, control.ready_made=true, "
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


@dataclass(frozen=True)
class PhotoPoseReader:
    """A ViTPose for photographs: an RT-DETR (Zhao et al. 2023, arXiv:2304.08069) finds the person first.

    Attributes:
        model: A `VitPoseForPoseEstimation`.
        finder: An `RTDetrForObjectDetection`; its class 0 is a person.
    """

    model: Any
    finder: Any

    @torch.no_grad()
    def keypoints(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        """Keypoints of the largest person, shape `(N, 17, 3)`: x and y from 0 to 1 of the picture, and how sure.

        Where nobody is found, nothing is sure.
        """
        return np.stack([self._read(picture) for picture in pictures])

    def _read(self, picture: Image.Image) -> NDArray[np.float64]:
        box = self._person(picture)
        if box is None:
            return np.zeros((17, 3))
        height, width = self.model.config.backbone_config.image_size
        left, top, wide, high = widened(box, picture.size, width / height)
        # Pillow's transform maps places of the cut to places of the picture; what lies outside is black.
        cut = picture.convert("RGB").transform(
            (width, height),
            Image.Transform.AFFINE,
            (wide / width, 0, left, 0, high / height, top),
            Image.Resampling.BILINEAR,
        )
        found: NDArray[np.float64] = peaks(
            self.model(pixel_values=normalised(cut, self.model, IMAGENET)).heatmaps.float().cpu().numpy()
        )[0]
        found[:, 0] = (left + found[:, 0] * wide) / picture.width
        found[:, 1] = (top + found[:, 1] * high) / picture.height
        outside = ((found[:, :2] < 0) | (found[:, :2] > 1)).any(axis=1)
        found[outside, 2] = 0
        found[:, :2] = found[:, :2].clip(0, 1)
        return found

    def _person(self, picture: Image.Image) -> tuple[float, float, float, float] | None:
        """Left, top, width and height in pixels of the person who is largest."""
        side = 640
        resized = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        seen = self.finder(pixel_values=normalised(resized, self.finder, ((0.0,) * 3, (1.0,) * 3)))
        chances = seen.logits[0, :, 0].sigmoid().float().cpu().numpy()
        boxes = seen.pred_boxes[0].float().cpu().numpy()[chances >= PERSON_SEEN]
        if not len(boxes):
            return None
        x, y, wide, high = max(boxes, key=lambda box: box[2] * box[3]).tolist()
        return (
            (x - wide / 2) * picture.width, (y - high / 2) * picture.height, wide * picture.width, high * picture.height
        )  # fmt: skip


def normalised(picture: Image.Image, model: Any, colours: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    """Pixels as a model wants them, `(1, 3, height, width)`."""
    mean, deviation = (np.array(values, dtype=np.float32) for values in colours)
    values = (np.asarray(picture, dtype=np.float32) / 255 - mean) / deviation
    return torch.from_numpy(values).permute(2, 0, 1)[None].to(next(model.parameters()).device)


def widened(
    box: tuple[float, float, float, float], size: tuple[int, int], aspect: float
) -> tuple[float, float, float, float]:
    """A box around the same middle with this proportion of width to height, a quarter larger, as ViTPose was shown."""
    left, top, wide, high = box
    x, y = left + wide / 2, top + high / 2
    wide, high = max(wide, high * aspect, 1 / max(size)), max(high, wide / aspect, 1 / max(size))
    return x - wide * ROOM / 2, y - high * ROOM / 2, wide * ROOM, high * ROOM


def check_pose_reader(source: BaseSource) -> None:
    """Refuse a base whose pose reader is neither here nor to be had, before hours of training.

    Raises:
        WeightsError: If it cannot be had.
    """
    if source.kind == "pocket":
        return
    missing = [name for name in READERS if look_for(catalogued(name)).state == "missing"]
    if missing and not store.online():
        raise WeightsError(
            f"Poses are read from pictures by {' and '.join(missing)}, which this machine has not.",
            f"With a network: portrayal models fetch {' '.join(missing)}. {SKELETON_REMEDY}",
        )


def catalogued(name: str) -> KnownModel:
    """A model of the catalogue."""
    model = known_model(name)
    assert model is not None
    return model


def load_pose_reader(source: BaseSource, device: torch.device) -> PoseReader | PhotoPoseReader:
    """The pose reader that fits a base: `pocket`'s own, or ViTPose for photographs.

    Raises:
        WeightsError: If its files are missing and cannot be had.
    """
    if source.kind == "pocket":
        return embedded_reader(str(device))
    check_pose_reader(source)
    return photo_reader(*(fetch_known(name) for name in READERS), str(device))


@lru_cache(maxsize=1)
def photo_reader(pose: Path, finder: Path, device: str) -> PhotoPoseReader:
    """The reader in two folders."""
    from transformers import RTDetrForObjectDetection, VitPoseForPoseEstimation

    options = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
    models = [
        kind.from_pretrained(folder, **options).to(device).eval().requires_grad_(False)
        for kind, folder in ((VitPoseForPoseEstimation, pose), (RTDetrForObjectDetection, finder))
    ]
    return PhotoPoseReader(*models)


@lru_cache(maxsize=1)
def embedded_reader(device: str) -> PoseReader:
    """`pocket`'s own."""
    from transformers import VitPoseForPoseEstimation

    folder = embedded_folder("pose")
    options = {"dtype": torch.float32, "local_files_only": True, "use_safetensors": True}
    model = VitPoseForPoseEstimation.from_pretrained(folder, **options)
    return PoseReader(model.to(device).eval().requires_grad_(False))
