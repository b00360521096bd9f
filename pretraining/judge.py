"""Train the judge: a classifier of what a drawn picture shows, by which generated pictures are measured.

Shapes: B pictures, H and W their size, D features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

from pretraining.dataset import Dataset
from pretraining.loop import Clock, Loss, Plan, Training
from pretraining.pose import retouched
from pretraining.world.labels import LABELS, UNSEEN

MOST_SHIFT = 4
"""Pixels by which a picture is moved."""


class Judge(nn.Module):
    """One linear head per kind of label on the pooled features of a small ResNet, 3 million parameters."""

    def __init__(self, classes: dict[str, int]) -> None:
        super().__init__()
        self.classes = classes
        self.backbone = ResNetModel(
            ResNetConfig(embedding_size=32, hidden_sizes=[48, 96, 192, 256], depths=[1, 1, 2, 1], layer_type="basic")
        )
        # a face in a whole-body picture is 20 pixels high: too small to halve twice before the first block
        self.backbone.embedder.pooler = nn.Identity()
        self.heads = nn.Linear(self.backbone.config.hidden_sizes[-1], sum(classes.values()))

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled features ``(B, D)`` of pictures in [-1, 1], ``(B, 3, H, W)``."""
        pooled: Tensor = self.backbone(pixel_values=pixels).pooler_output.flatten(1)
        return pooled

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of all kinds side by side, ``(B, sum of classes)``."""
        logits: Tensor = self.heads(self.features(pixels))
        return logits

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """Logits ``(B, classes)`` by kind."""
        return dict(zip(self.classes, logits.split(list(self.classes.values()), dim=1), strict=True))


def build_judge() -> Judge:
    """A judge of the drawn world's ``LABELS``, untrained."""
    return Judge({kind: len(names) for kind, names in LABELS.items()})


def judge_logits(model: Judge, pixels: Tensor) -> dict[str, Tensor]:
    """Logits ``(B, classes)`` of every kind, for pictures in [-1, 1]."""
    return model.split(model(pixels))


@torch.no_grad()
def read_pictures(model: Judge, pictures: Sequence[Image.Image]) -> dict[str, list[str]]:
    """The most likely class name of every kind, for each of some 128x128 pictures."""
    pixels = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])
    logits = judge_logits(model, pixels.float() / 127.5 - 1)
    return {kind: [LABELS[kind][index] for index in values.argmax(1).tolist()] for kind, values in logits.items()}


def train_judge(model: Judge, vae: AutoencoderKL, data: Dataset, plan: Plan, clock: Clock) -> Judge:
    """Cross-entropy of every kind where the picture shows it; a quarter of the batch rebuilt by the autoencoder."""

    def loss(forward: Callable[..., Tensor]) -> Loss:
        rows = data.random_rows(plan.batch_size)
        pixels = retouched(shifted(data.pixels(rows)), vae)
        with torch.autocast(data.device.type, torch.bfloat16):
            logits = forward(pixels)
        return judgement_loss(model.split(logits.float()), data.labels[rows].long())

    Training(plan, model, clock).run(model, loss)
    model.requires_grad_(False)
    return model


def judgement_loss(logits: dict[str, Tensor], labels: Tensor) -> Loss:
    """Mean over the kinds of the cross-entropy of what is seen, and the share of right answers.

    Args:
        logits: ``(B, classes)`` of every kind.
        labels: ``(B, kinds)`` in the same order, ``UNSEEN`` where there is no answer.
    """
    losses, right, asked = [], [], []
    for column, values in enumerate(logits.values()):
        target = labels[:, column]
        seen = target != UNSEEN
        total = functional.cross_entropy(values, target, ignore_index=UNSEEN, reduction="sum")
        losses.append(total / seen.sum().clamp(min=1))
        right.append(((values.detach().argmax(1) == target) & seen).sum())
        asked.append(seen.sum())
    return torch.stack(losses).mean(), {"accuracy": torch.stack(right).sum() / torch.stack(asked).sum()}


def shifted(pixels: Tensor) -> Tensor:
    """The batch moved by a few pixels and, half of the time, mirrored: no label tells left from right."""
    moves = torch.randint(0, 2 * MOST_SHIFT + 1, (2,)).tolist()
    padded = functional.pad(pixels, (MOST_SHIFT,) * 4, mode="reflect")
    height, width = pixels.shape[-2:]
    moved = padded[..., moves[0] : moves[0] + height, moves[1] : moves[1] + width]
    mirrored = torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5
    return torch.where(mirrored, moved.flip(-1), moved)


def save_judge(model: Judge, folder: Path) -> None:
    """Write ``judge.safetensors`` in fp16, and the classes that it tells apart as ``judge.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / "judge.safetensors")
    (folder / "judge.json").write_text(json.dumps({"labels": LABELS}, indent=2) + "\n", encoding="utf-8")


def load_judge(folder: Path) -> Judge:
    """Read what :func:`save_judge` wrote, ready to judge in float32.

    Raises:
        ValueError: If the judge tells other classes apart than the drawn world has now.
    """
    known = json.loads((folder / "judge.json").read_text(encoding="utf-8"))["labels"]
    if {kind: tuple(names) for kind, names in known.items()} != LABELS:
        raise ValueError(f"{folder} holds a judge of other labels than this world's; train it again")
    model = build_judge()
    model.load_state_dict(load_file(folder / "judge.safetensors"))
    return model.float().requires_grad_(False).eval()
