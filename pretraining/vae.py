"""Train the autoencoder, and encode the pictures with it.

Shapes: B pictures, C latent channels, H and W latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from pretraining.architecture import LATENT_CHANNELS, LATENT_SIZE
from pretraining.dataset import Dataset
from pretraining.loop import Clock, Loss, Plan, Training

KL_WEIGHT = 3e-4
GRADIENT_WEIGHT = 0.5
SQUARE_WEIGHT = 25.0
"""Squared errors are what PSNR counts; at 32 dB they weigh about three times as much as absolute ones."""
ENCODE_BATCH = 256


def train_vae(vae: AutoencoderKL, data: Dataset, plan: Plan, clock: Clock) -> AutoencoderKL:
    """Absolute and squared errors, those of differences, a light KL term; sets the config's ``scaling_factor``."""

    def autoencode(pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = encode(vae, pixels)
        latents = mean + torch.exp(0.5 * log_variance) * noise
        return decode(vae, latents), mean, log_variance

    def loss(forward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Loss:
        pixels = data.pixels(data.random_rows(plan.batch_size))
        noise = torch.randn(plan.batch_size, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, device=data.device)
        with torch.autocast(data.device.type, torch.bfloat16):
            painted, mean, log_variance = forward(pixels, noise)
        error = painted.float() - pixels
        mean, log_variance = mean.float(), log_variance.float()
        # Kingma and Welling 2013, arXiv:1312.6114, Appendix B, per latent element
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        down, right = error[..., 1:, :] - error[..., :-1, :], error[..., 1:] - error[..., :-1]
        pixelwise = error.abs().mean() + SQUARE_WEIGHT * error.square().mean()
        steps = down.abs().mean() + right.abs().mean()
        return pixelwise + GRADIENT_WEIGHT * steps + KL_WEIGHT * kl, {"psnr": psnr(error.detach()), "kl": kl.detach()}

    Training(plan, vae, clock).run(autoencode, loss)
    vae.requires_grad_(False)
    vae.register_to_config(scaling_factor=1.0 / _latent_deviation(vae, data))
    return vae


def encode(vae: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latents, each ``(B, C, H, W)``, unscaled."""
    mean, log_variance = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)
    return mean, log_variance.clamp(-30.0, 20.0)


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures around [-1, 1] from unscaled latents."""
    painted: Tensor = vae.decoder(vae.post_quant_conv(latents))
    return painted


def psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of an error between pictures in [-1, 1]."""
    return 10 * torch.log10(4 / error.square().mean())


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pixels: Tensor, noise: float = 0.0, precise: bool = False) -> Tensor:
    """Through the autoencoder and back; ``noise``, in standard deviations of all latents, imitates generation."""
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=not precise):
        mean, _ = encode(vae, pixels)
        mean = mean + torch.randn_like(mean) * (noise / vae.config.scaling_factor)
        return decode(vae, mean).float().clamp(-1, 1)


def encode_all(vae: AutoencoderKL, data: Dataset) -> tuple[Tensor, Tensor]:
    """Scaled mean and standard deviation of every picture's latents, float16 ``(N, C, H, W)``."""
    scale = vae.config.scaling_factor
    parts = [
        (mean * scale, (0.5 * log_variance).exp() * scale) for mean, log_variance in _encoded(vae, data, len(data))
    ]
    return torch.cat([mean.half() for mean, _ in parts]), torch.cat([deviation.half() for _, deviation in parts])


@torch.no_grad()
def _encoded(vae: AutoencoderKL, data: Dataset, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, count, ENCODE_BATCH):
        with torch.autocast(data.device.type, torch.bfloat16):
            mean, log_variance = encode(vae, data.pixels(slice(start, min(start + ENCODE_BATCH, count))))
        yield mean.float(), log_variance.float()


def _latent_deviation(vae: AutoencoderKL, data: Dataset) -> float:
    """Standard deviation over all latents, so that scaled latents have unit variance (arXiv:2112.10752, Sec. G)."""
    samples = [
        mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        for mean, log_variance in _encoded(vae, data, min(len(data), 8192))
    ]
    return torch.cat(samples).std().item()
