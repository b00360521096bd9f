"""Train the identity encoder: pictures of one person close together, of different people apart.

Shapes: P people, K pictures of each, D features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional
from transformers import ResNetModel

from pretraining.architecture import IDENTITY_SIZE
from pretraining.clip import roughened
from pretraining.dataset import Dataset
from pretraining.loop import Clock, Loss, Plan, Training

PICTURES_EACH = 4
TEMPERATURE = 0.1
REBUILT_SHARE = 0.25


def train_identity(model: ResNetModel, vae: AutoencoderKL, data: Dataset, plan: Plan, clock: Clock) -> ResNetModel:
    """Supervised contrastive loss over people, a quarter of the pictures rebuilt by the autoencoder."""
    each = min(PICTURES_EACH, data.per_person)

    def loss(forward: Callable[..., Tensor]) -> Loss:
        rows = people_rows(data, plan.batch_size // each, each)
        shuffle = torch.randperm(len(rows), device=data.device)
        rows = rows[shuffle]
        pixels = roughened(data.pixels(rows), vae, REBUILT_SHARE)
        with torch.autocast(data.device.type, torch.bfloat16):
            embeddings = functional.normalize(forward(pixels).float(), dim=-1)
        total = contrastive_loss(embeddings, rows // data.per_person)
        return total, {}

    Training(plan, model, clock).run(lambda pixels: embed_people(model, pixels), loss)
    model.requires_grad_(False)
    return model


def people_rows(data: Dataset, people: int, each: int) -> Tensor:
    """Rows of ``each`` pictures of some random people, ``(P * K,)``."""
    chosen = torch.randint(0, data.people, (people, 1), device=data.device)
    shots = torch.rand(people, data.per_person, device=data.device).argsort(1)[:, :each]
    return (chosen * data.per_person + shots).flatten()


def embed_people(model: ResNetModel, pixels: Tensor) -> Tensor:
    """Unnormalised identity embeddings ``(B, D)`` of pictures of any size."""
    size = (IDENTITY_SIZE, IDENTITY_SIZE)
    large = functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
    embeddings: Tensor = model(pixel_values=large).pooler_output.flatten(1)
    return embeddings


def contrastive_loss(embeddings: Tensor, people: Tensor) -> Tensor:
    """Khosla et al. 2020, arXiv:2004.11362, Eq. 2 (the sum outside the logarithm).

    Args:
        embeddings: L2-normalised ``(B, D)``.
        people: Who is in each picture, ``(B,)``.
    """
    logits = embeddings @ embeddings.t() / TEMPERATURE
    itself = torch.eye(len(people), dtype=torch.bool, device=people.device)
    log_share = functional.log_softmax(logits.masked_fill(itself, -1e4), dim=1)
    same = (people.unsqueeze(0) == people.unsqueeze(1)) & ~itself
    return -((log_share * same).sum(1) / same.sum(1).clamp(min=1)).mean()
