"""The drawn pictures on the training device, and how batches are cut from them.

Shapes: B pictures, H and W their size, L prompt tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

CONTROLS = ("canny", "openpose")


@dataclass(frozen=True)
class Dataset:
    """All pictures in device memory, person after person.

    pictures: uint8 ``(N, H, W, 3)``; edges: uint8 packed bits ``(N, H, W / 8)``; skeletons: uint8 ``(N, H, W, 3)``;
    keypoints: float16 ``(N, 17, 3)``; labels: int8 ``(N, kinds)``; tokens: int16 ``(N, 4, L)``.
    """

    pictures: Tensor
    edges: Tensor
    skeletons: Tensor
    keypoints: Tensor
    labels: Tensor
    tokens: Tensor
    per_person: int

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def device(self) -> torch.device:
        """Where the pictures are."""
        return self.pictures.device

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(self) // self.per_person

    def random_rows(self, count: int) -> Tensor:
        """Indices of ``count`` random pictures."""
        return torch.randint(0, len(self), (count,), device=self.device)

    def pixels(self, rows: Tensor | slice) -> Tensor:
        """Pictures as float32 in [-1, 1], ``(B, 3, H, W)`` in channels-last memory."""
        return self.pictures[rows].permute(0, 3, 1, 2).float() / 127.5 - 1

    def conditions(self, rows: Tensor | slice, kind: str) -> Tensor:
        """Control images of one of ``CONTROLS``, float32 in [0, 1], ``(B, 3, H, W)``: what a ControlNet takes."""
        if kind == "openpose":
            return self.skeletons[rows].permute(0, 3, 1, 2).float() / 255
        shifts = torch.arange(7, -1, -1, device=self.device, dtype=torch.uint8)
        bits = (self.edges[rows].unsqueeze(-1) >> shifts) & 1
        return bits.flatten(2).float().unsqueeze(1).expand(-1, 3, -1, -1)

    def random_tokens(self, rows: Tensor) -> Tensor:
        """Token ids of one random caption of each picture, int64 ``(B, L)``."""
        choice = torch.randint(0, self.tokens.shape[1], rows.shape, device=self.device)
        return self.tokens[rows, choice].long()


def load_dataset(folder: Path, per_person: int, device: torch.device) -> Dataset:
    """What :func:`pretraining.data.render` drew into ``folder``, with its captions' tokens, on ``device``."""
    names = ("pictures", "edges", "skeletons", "keypoints", "labels")
    arrays = {name: torch.from_numpy(np.load(folder / f"{name}.npy")).to(device) for name in names}
    tokens = load_file(folder / "tokens.safetensors")["tokens"].to(device)
    return Dataset(**arrays, tokens=tokens, per_person=per_person)


def roughen(pixels: Tensor) -> Tensor:
    """What generation does to a picture, and a little more: shift and zoom, blur, colour, noise.

    Args:
        pixels: ``(B, 3, H, W)`` in [-1, 1]; every picture draws its own strengths.
    """
    count, device = len(pixels), pixels.device

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device) * (high - low) + low

    zoom, shift = uniform(0.85, 1.05).view(-1), torch.rand(count, 2, device=device) * 0.2 - 0.1
    frame = torch.zeros(count, 2, 3, device=device)
    frame[:, 0, 0], frame[:, 1, 1], frame[:, :, 2] = zoom, zoom, shift
    grid = functional.affine_grid(frame, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    soft = functional.interpolate(functional.avg_pool2d(moved, 2), scale_factor=2, mode="bilinear", align_corners=False)
    mixed = torch.lerp(moved, soft, uniform(0, 1) * (uniform(0, 1) < 0.5))
    tinted = mixed * uniform(0.85, 1.15) + uniform(-0.1, 0.1) + torch.randn(count, 3, 1, 1, device=device) * 0.03
    return (tinted + torch.randn_like(tinted) * uniform(0, 0.06)).clamp(-1, 1)
