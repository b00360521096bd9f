"""How near what a picture shows is, by Depth Anything V2 (Yang et al. 2024, arXiv:2406.09414), its small model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from portrayal.models.store import fetch_known

PATCH = 14
SIDE = 518
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DepthReader:
    """Reads relative nearness from pictures of any shape.

    Attributes:
        model: A `DepthAnythingForDepthEstimation`.
    """

    model: Any

    @torch.no_grad()
    def nearness(self, picture: Image.Image) -> NDArray[np.float64]:
        """From 0, the farthest, to 1, the nearest, shape `(height, width)`; a flat field is all 0."""
        device = next(self.model.parameters()).device
        scale = SIDE / min(picture.size)
        width, height = (max(PATCH, round(side * scale / PATCH) * PATCH) for side in picture.size)
        resized = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        normal = (resized / 255 - np.array(MEAN)) / np.array(STD)
        pixels = torch.from_numpy(normal).permute(2, 0, 1)[None].float().to(device)
        found = self.model(pixel_values=pixels).predicted_depth[:, None].float()
        full = functional.interpolate(found, picture.size[::-1], mode="bicubic", align_corners=False)[0, 0].cpu()
        span = float(full.max() - full.min())
        return np.asarray((full - full.min()) / span if span else torch.zeros_like(full), dtype=np.float64)


@lru_cache(maxsize=1)
def load_depth_reader(device: str) -> DepthReader:
    """The reader, fetched if it must be.

    Raises:
        WeightsError: If it cannot be had.
    """
    return depth_reader(fetch_known("depth-anything"), device)


def depth_reader(folder: Path, device: str) -> DepthReader:
    """The reader in a folder."""
    from transformers import AutoModelForDepthEstimation

    model = AutoModelForDepthEstimation.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return DepthReader(model.to(device).eval().requires_grad_(False))
