"""Train CLIP on pictures and their captions (Radford et al. 2021, arXiv:2103.00020).

Shapes: B pictures, L prompt tokens, D text features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from pretraining.dataset import Dataset, roughen
from pretraining.loop import Clock, Loss, Plan, Training
from pretraining.vae import reconstruct

MAX_LOGIT_SCALE = math.log(100)
REBUILT_SHARE = 1 / 16


def train_clip(clip: CLIPModel, vae: AutoencoderKL, data: Dataset, plan: Plan, clock: Clock) -> CLIPModel:
    """Symmetric contrastive loss over a batch; a sixteenth of the pictures went through the autoencoder."""

    def loss(forward: Callable[..., tuple[Tensor, Tensor]]) -> Loss:
        rows = data.random_rows(plan.batch_size)
        pixels = roughened(data.pixels(rows), vae, REBUILT_SHARE)
        with torch.autocast(data.device.type, torch.bfloat16):
            pictures, texts = forward(pixels, data.random_tokens(rows))
        logits = similarities(clip, pictures, texts)
        target = torch.arange(len(rows), device=data.device)
        total = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.t(), target)) / 2
        return total, {"accuracy": (logits.detach().argmax(1) == target).float().mean()}

    Training(plan, clip, clock).run(
        lambda pixels, tokens: (embed_pictures(clip, pixels), embed_texts(clip, tokens)), loss
    )
    clip.requires_grad_(False)
    return clip


def roughened(pixels: Tensor, vae: AutoencoderKL, share: float) -> Tensor:
    """Augmented pictures, the first ``share`` of them rebuilt by the autoencoder with a little latent noise."""
    rebuilt = max(1, round(len(pixels) * share))
    return roughen(torch.cat([reconstruct(vae, pixels[:rebuilt], noise=0.1), pixels[rebuilt:]]))


def embed_pictures(clip: CLIPModel, pixels: Tensor) -> Tensor:
    """Unnormalised picture embeddings ``(B, D)``."""
    embeddings: Tensor = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    return embeddings


def embed_texts(clip: CLIPModel, tokens: Tensor) -> Tensor:
    """Unnormalised text embeddings ``(B, D)`` of token ids ``(B, L)``."""
    embeddings: Tensor = clip.text_projection(clip.text_model(input_ids=tokens).pooler_output)
    return embeddings


def similarities(clip: CLIPModel, pictures: Tensor, texts: Tensor) -> Tensor:
    """Scaled cosines of every picture with every text, float32."""
    scale: Tensor = clip.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    return scale * functional.normalize(pictures.float(), dim=-1) @ functional.normalize(texts.float(), dim=-1).t()
