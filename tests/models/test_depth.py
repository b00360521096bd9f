"""Depth from a network of Depth Anything's class, with random weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.config import ControlConfig
from portrayal.evaluation.control import CONTROL_KINDS, alike
from portrayal.generation.annotators import depth, softedge
from portrayal.models.depth import DepthReader, depth_reader

SETTINGS = ControlConfig()


def write_reader(folder: Path) -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 70, "patch_size": 14}
    backbone = Dinov2Config(**sizes, out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False)
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        patch_size=14,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder


def test_pictures_of_any_shape_are_read(tmp_path: Path) -> None:
    reader = depth_reader(write_reader(tmp_path), "cpu")
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)

    found = reader.nearness(Image.fromarray(noise))

    assert found.shape == (60, 90)
    assert (found.min(), found.max()) == (0, 1)
    made = depth(Image.fromarray(noise), reader)
    assert made.size == (90, 60)
    assert made.mode == "RGB"
    agreement = CONTROL_KINDS["depth"].agreement([Image.fromarray(noise)], made, SETTINGS, reader)
    assert agreement is not None
    assert agreement[0] > 0.99
    assert CONTROL_KINDS["depth"].agreement([Image.fromarray(noise)], made, SETTINGS, None) is None


def test_soft_edges_are_bright_where_the_picture_changes() -> None:
    picture = Image.new("RGB", (128, 96), "white")
    picture.paste("black", (40, 30, 80, 70))

    edges = np.asarray(softedge(picture).convert("L"), dtype=int)

    assert edges.shape == (96, 128)
    assert edges[30, 60] > 150
    assert edges[5, 5] < 10
    assert edges[50, 60] < 10
    flat = np.asarray(softedge(Image.new("RGB", (32, 32), "red")))
    assert not flat.any()


def test_soft_edges_kept_are_told_from_those_lost() -> None:
    rng = np.random.default_rng(0)
    picture, other = (
        Image.fromarray(np.kron(rng.integers(0, 2, (8, 8)), np.ones((16, 16))).astype(np.uint8) * 255) for _ in range(2)
    )
    kept = CONTROL_KINDS["softedge"].agreement([picture, other], softedge(picture), SETTINGS, None)

    assert kept is not None
    assert kept[0] > 0.99
    assert kept[1] < 0.7
    assert alike(Image.new("L", (8, 8)), picture) == 0


def test_the_network_s_nearness_is_told_as_it_is_and_it_sees_imagenet_s_colours() -> None:
    """A stand-in that says how red each place is: Depth Anything's numbers grow with nearness, and red is white."""
    seen: list[torch.Tensor] = []

    class Red(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anything = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
            seen.append(pixel_values)
            return SimpleNamespace(predicted_depth=pixel_values[:, 0])

    picture = Image.new("RGB", (120, 80), (0, 51, 255))
    picture.paste((255, 51, 255), (60, 0, 120, 80))

    found = np.asarray(depth(picture, DepthReader(Red().eval())).convert("L"))

    assert found.shape == (80, 120)
    assert (found[:, :50] < 10).all()
    assert (found[:, 70:] > 245).all()
    assert seen[0].shape == (1, 3, 518, 784)  # 777 to a multiple of 14
    corners = seen[0][0, :, 5, [5, -5]].T
    green, blue = (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225
    assert corners[0].tolist() == pytest.approx([-0.485 / 0.229, green, blue], abs=1e-4)
    assert corners[1].tolist() == pytest.approx([(1 - 0.485) / 0.229, green, blue], abs=1e-4)
