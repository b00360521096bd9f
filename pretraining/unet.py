"""Train the denoiser on latents (Ho et al. 2020, arXiv:2006.11239; Rombach et al. 2021, arXiv:2112.10752).

Shapes: B pictures, C latent channels, H and W latent size, L prompt tokens, D text features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pretraining.architecture import build_scheduler
from pretraining.loop import Clock, Loss, Plan, Training

CAPTION_DROPOUT = 0.1
SNR_GAMMA = 5.0


@dataclass(frozen=True)
class Latents:
    """Scaled latents of every picture and its captions, on the training device.

    mean, deviation: float16 ``(N, C, H, W)``; tokens: int16 ``(N, 4, L)``; empty: no words at all, ``(L,)``.
    """

    mean: Tensor
    deviation: Tensor
    tokens: Tensor
    empty: Tensor

    def draw(self, rows: Tensor, wordless: float = CAPTION_DROPOUT) -> tuple[Tensor, Tensor]:
        """Sampled latents ``(B, C, H, W)`` and one caption each ``(B, L)``, a share of them empty."""
        mean = self.mean[rows].float()
        latents = mean + self.deviation[rows].float() * torch.randn_like(mean)
        choice = torch.randint(0, self.tokens.shape[1], rows.shape, device=rows.device)
        dropped = torch.rand(len(rows), 1, device=rows.device) < wordless
        tokens = torch.where(dropped, self.empty, self.tokens[rows, choice])
        return latents.contiguous(memory_format=torch.channels_last), tokens.long()


class Denoiser(nn.Module):
    """The UNet and the text encoder that conditions it, trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def prompts(self, tokens: Tensor) -> Tensor:
        """Conditioning ``(B, L, D)`` of token ids ``(B, L)``."""
        states: Tensor = self.text_encoder(input_ids=tokens).last_hidden_state
        return states


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process: ``alphas`` holds the cumulative products, ``(1000,)``."""

    alphas: Tensor

    @classmethod
    def on(cls, device: torch.device) -> NoiseSchedule:
        """SD 1.5's schedule."""
        return cls(build_scheduler().alphas_cumprod.to(device))

    def diffuse(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Eq. 4 of arXiv:2006.11239."""
        alphas = self.alphas[timesteps].view(-1, 1, 1, 1)
        return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise

    def weights(self, timesteps: Tensor) -> Tensor:
        """Min-SNR weights of the noise loss, arXiv:2303.09556, Sec. 3.4, ``(B,)``."""
        snr = self.alphas[timesteps] / (1 - self.alphas[timesteps])
        return snr.clamp(max=SNR_GAMMA) / snr


def stratified_timesteps(count: int, device: torch.device) -> Tensor:
    """Timesteps spread evenly over [0, 1000) with a common random offset: a steadier loss than independent draws."""
    return ((torch.arange(count, device=device) + torch.rand(1, device=device)) * (1000 / count)).long().clamp(max=999)


def train_unet(denoiser: Denoiser, latents: Latents, plan: Plan, clock: Clock) -> Denoiser:
    """Returns the averaged weights of both."""
    device = latents.mean.device
    schedule = NoiseSchedule.on(device)

    def loss(forward: Callable[..., Tensor]) -> Loss:
        rows = torch.randint(0, len(latents.mean), (plan.batch_size,), device=device)
        clean, tokens = latents.draw(rows)
        noise, timesteps = torch.randn_like(clean), stratified_timesteps(plan.batch_size, device)
        noisy = schedule.diffuse(clean, noise, timesteps)
        with torch.autocast(device.type, torch.bfloat16):
            predicted = forward(noisy, timesteps, denoiser.prompts(tokens))
        return denoising_loss(predicted, noise, schedule.weights(timesteps))

    trained: Denoiser = Training(plan, denoiser, clock).run(
        lambda noisy, timesteps, prompts: denoiser.unet(noisy, timesteps, prompts, return_dict=False)[0], loss
    )  # type: ignore[assignment]  # the model or its average
    trained.requires_grad_(False)
    return trained


def denoising_loss(predicted: Tensor, noise: Tensor, weights: Tensor) -> Loss:
    """Weighted squared error, and the plain one as ``mse``."""
    errors = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
    return (errors * weights).mean(), {"mse": errors.detach().mean()}


@torch.no_grad()
def held_out_loss(denoiser: Denoiser, latents: Latents, seed: int = 0) -> float:
    """Plain noise error on unseen people, on the same noise whenever it is asked."""
    device = latents.mean.device
    generator = torch.Generator(device).manual_seed(seed)
    schedule = NoiseSchedule.on(device)
    errors = []
    for rows in torch.arange(len(latents.mean), device=device).split(256):
        clean = latents.mean[rows].float()
        noise = torch.randn(clean.shape, generator=generator, device=device)
        timesteps = torch.linspace(0, 999, len(rows), device=device).long()
        prompts = denoiser.prompts(latents.tokens[rows, 0].long())
        predicted = denoiser.unet(schedule.diffuse(clean, noise, timesteps), timesteps, prompts, return_dict=False)[0]
        errors.append((predicted.float() - noise).square().mean(dim=(1, 2, 3)))
    return torch.cat(errors).mean().item()
