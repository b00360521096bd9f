"""The kinds of ControlNet: what each is shown, where its weights are, and how its pictures are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from portrayal.config import ControlConfig
from portrayal.evaluation.intervals import Floats
from portrayal.evaluation.metrics import edge_f1, pck
from portrayal.generation.annotators import SEEN, canny, depth, fit, openpose, redrawn, softedge
from portrayal.generation.skeleton import read_skeleton

if TYPE_CHECKING:
    from portrayal.models.base import BaseModel
    from portrayal.models.depth import DepthReader
    from portrayal.models.pose import PhotoPoseReader, PoseReader


@dataclass(frozen=True)
class ControlKind:
    """One kind of ControlNet.

    Attributes:
        annotate: Makes the control image of a picture, of the same size.
        adopt: Brings a ready-made control image to a width and height.
        embedded: Folder of `pocket`'s ControlNet.
        hub_id: The ControlNet for SD 1.5.
        agreement: How well each picture keeps to a control image, 0 to 1, or nothing where that cannot be measured.
        measure: What that number is called in `scores.json`; the verdict says `control.MEASURE` of the sentences.
        reader: What reads the control image from a picture, and how well pictures keep to it: `pose` or `depth`.
    """

    annotate: Callable[[Image.Image, ControlConfig, BaseModel], Image.Image]
    adopt: Callable[[Image.Image, tuple[int, int]], Image.Image]
    embedded: str
    hub_id: str
    agreement: Callable[[Sequence[Image.Image], Image.Image, ControlConfig, Any], Floats | None]
    measure: str
    reader: Literal["pose", "depth"] | None = None


def outline(image: Image.Image, settings: ControlConfig, _: BaseModel) -> Image.Image:
    """The edges of a picture."""
    return canny(image, low_threshold=settings.low_threshold, high_threshold=settings.high_threshold)


def pose(image: Image.Image, _: ControlConfig, base: BaseModel) -> Image.Image:
    """The skeleton of the person in a picture."""
    from portrayal.models.pose import load_pose_reader

    return openpose(image, load_pose_reader(base.source, base.device))


def edges_kept(
    pictures: Sequence[Image.Image], control: Image.Image, settings: ControlConfig, _: PoseReader | None
) -> Floats:
    """F1 of each picture's edges against the control image, at its size: a second pass makes pictures larger."""
    thresholds = {"low_threshold": settings.low_threshold, "high_threshold": settings.high_threshold}
    wanted = np.asarray(control.convert("L")) > 127  # a ready-made one may have been softened by scaling
    edges = [canny(picture.resize(control.size, Image.Resampling.LANCZOS), **thresholds) for picture in pictures]
    return np.array([edge_f1(np.asarray(image.convert("L")), wanted) for image in edges])


def joints_kept(
    pictures: Sequence[Image.Image], control: Image.Image, _: ControlConfig, reader: PoseReader | PhotoPoseReader | None
) -> Floats | None:
    """PCK of the joints found in each picture against those of the control image."""
    wanted = read_skeleton(np.asarray(control.convert("RGB")))
    if reader is None or not wanted[:, 2].any():
        return None
    return np.array([pck(found, wanted, seen=SEEN) for found in reader.keypoints(pictures)])


def nearness(image: Image.Image, _: ControlConfig, base: BaseModel) -> Image.Image:
    """How near what a picture shows is, the nearest white."""
    from portrayal.models.depth import load_depth_reader

    return depth(image, load_depth_reader(str(base.device)))


def depth_kept(
    pictures: Sequence[Image.Image], control: Image.Image, _: ControlConfig, reader: DepthReader | None
) -> Floats | None:
    """Correlation of each picture's depth with the control image, not below 0."""
    if reader is None:
        return None
    return np.array([alike(depth(picture, reader), control) for picture in pictures])


def soft_edges_kept(pictures: Sequence[Image.Image], control: Image.Image, _: ControlConfig, __: object) -> Floats:
    """Correlation of each picture's soft edges with the control image, not below 0."""
    return np.array([alike(softedge(picture), control) for picture in pictures])


def alike(one: Image.Image, other: Image.Image) -> float:
    """Pearson's correlation of two pictures' lightness, 0 to 1; a flat one is like none."""
    first, second = (
        np.asarray(image.convert("L").resize(other.size), dtype=np.float64).ravel() for image in (one, other)
    )
    spread = first.std() * second.std()
    return max(0.0, float(((first - first.mean()) * (second - second.mean())).mean() / spread)) if spread else 0.0


CONTROL_KINDS = {
    "canny": ControlKind(
        annotate=outline,
        adopt=fit,
        embedded="controlnet_canny",
        hub_id="lllyasviel/control_v11p_sd15_canny",
        agreement=edges_kept,
        measure="edge_f1",
    ),
    "openpose": ControlKind(
        annotate=pose,
        adopt=redrawn,
        embedded="controlnet_openpose",
        hub_id="lllyasviel/control_v11p_sd15_openpose",
        agreement=joints_kept,
        measure="pck",
        reader="pose",
    ),
    "depth": ControlKind(
        annotate=nearness,
        adopt=fit,
        embedded="controlnet_depth",
        hub_id="lllyasviel/control_v11f1p_sd15_depth",
        agreement=depth_kept,
        measure="depth_correlation",
        reader="depth",
    ),
    "softedge": ControlKind(
        annotate=lambda image, *_: softedge(image),
        adopt=fit,
        embedded="controlnet_softedge",
        hub_id="lllyasviel/control_v11p_sd15_softedge",
        agreement=soft_edges_kept,
        measure="edge_correlation",
    ),
}
