"""The denoising loss: one number per picture.

Shapes: B pictures, C latent channels, H and W latent size, L prompt tokens, D text features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Noise:
    """The random part of a loss.

    Attributes:
        values: Gaussian noise, shape `(B, C, H, W)`.
        timesteps: Its strength, an index into the noise schedule, shape `(B,)`.
    """

    values: Tensor
    timesteps: Tensor

    @classmethod
    def join(cls, parts: Iterable[Noise]) -> Noise:
        """The noise of several batches after one another; of one batch, itself."""
        found = list(parts)
        return cls(torch.cat([part.values for part in found]), torch.cat([part.timesteps for part in found]))


def draw_noise(latents_BCHW: Tensor, num_timesteps: int, *, generator: Generator, offset: float = 0.0) -> Noise:
    """Noise and uniform timesteps for a batch, drawn on the CPU so that every device sees the same.

    `offset` adds a constant of that strength to each channel (Guttenberg 2023, "Diffusion with Offset Noise").
    """
    values = torch.randn(latents_BCHW.shape, generator=generator)
    if offset:
        values = values + offset * torch.randn((*latents_BCHW.shape[:2], 1, 1), generator=generator)
    timesteps = torch.randint(num_timesteps, (len(latents_BCHW),), generator=generator)
    return Noise(values.to(latents_BCHW.device), timesteps.to(latents_BCHW.device))


def diffusion_loss(
    unet: Any,
    scheduler: Any,
    latents_BCHW: Tensor,
    prompt_embeds_BLD: Tensor,
    noise: Noise,
    *,
    snr_gamma: float | None,
    place_weights_B1HW: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Denoising loss of each picture, shape `(B,)`; the caller weights and sums it.

    Ho et al. 2020, arXiv:2006.11239, Eq. 14. `snr_gamma` adds Min-SNR weights, arXiv:2303.09556, Sec. 3.4.

    Args:
        unet: Predicts the noise (or the velocity) from noisy latents, timesteps and prompt features.
        scheduler: The noise schedule.
        latents_BCHW: Clean latents, scaled.
        prompt_embeds_BLD: Prompt features.
        noise: What is added and has to be found again.
        snr_gamma: The paper's gamma, or nothing for the plain loss.
        place_weights_B1HW: Weight of each place in its picture's mean, or nothing for the plain mean. Only their
            proportions count, so that a small subject's loss is no smaller than a large one's.
        dtype: Number format that the UNet computes in by itself; with autocast, fp32.
    """
    noisy_BCHW = scheduler.add_noise(latents_BCHW, noise.values, noise.timesteps)
    prediction_BCHW = unet(noisy_BCHW.to(dtype), noise.timesteps, prompt_embeds_BLD.to(dtype)).sample
    target_BCHW = training_target(scheduler, latents_BCHW, noise)
    error_BCHW: Tensor = (prediction_BCHW.float() - target_BCHW.float()).square()
    loss_B = weighted_mean(error_BCHW, place_weights_B1HW)
    return loss_B if snr_gamma is None else loss_B * min_snr_weight(scheduler, noise.timesteps, snr_gamma)


def weighted_mean(error_BCHW: Tensor, weights_B1HW: Tensor | None) -> Tensor:
    """Mean over channels and places, shape `(B,)`; weights that are 1 all over give the plain mean exactly.

    Weights that are 0 all over give 0, not 0 / 0: a crop may have nothing of the subject in it.
    """
    if weights_B1HW is None:
        return error_BCHW.mean(dim=(1, 2, 3))
    total_B = weights_B1HW.mean(dim=(1, 2, 3)).clamp(min=torch.finfo(weights_B1HW.dtype).tiny)
    return (error_BCHW * weights_B1HW).mean(dim=(1, 2, 3)) / total_B


def training_target(scheduler: Any, latents_BCHW: Tensor, noise: Noise) -> Tensor:
    """What the UNet should predict, shape `(B, C, H, W)`: the noise, or the velocity (arXiv:2202.00512, Sec. 4)."""
    if scheduler.config.prediction_type == "v_prediction":
        velocity: Tensor = scheduler.get_velocity(latents_BCHW, noise.values, noise.timesteps)
        return velocity
    return noise.values


def min_snr_weight(scheduler: Any, timesteps_B: Tensor, gamma: float) -> Tensor:
    """Min-SNR weight of each timestep, shape `(B,)`, in (0, 1] (Hang et al. 2023, arXiv:2303.09556, Sec. 3.4)."""
    alphas_cumprod = scheduler.alphas_cumprod.to(timesteps_B.device)[timesteps_B]
    snr_B: Tensor = alphas_cumprod / (1 - alphas_cumprod)
    denominator_B = snr_B + 1 if scheduler.config.prediction_type == "v_prediction" else snr_B
    return snr_B.clamp(max=gamma) / denominator_B
