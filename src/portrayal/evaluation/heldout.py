"""Held-out loss on fixed timesteps and noise, the same for every model.

Shapes: P photos, T timestep strata, N noise draws, C latent channels, H and W latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrayal.data.encode import EncodedDataset
from portrayal.models.base import BaseModel, in_batches
from portrayal.randomness import generator_for
from portrayal.training.loss import Noise, diffusion_loss

GOLDEN_RATIO = 0.6180339887498949


@dataclass(frozen=True)
class HeldoutGrid:
    """Where the loss is read.

    Attributes:
        num_timesteps: Strata `T` that the timestep range is cut into.
        num_noises: Noise draws `N` in each stratum, in antithetic pairs `(e, -e)`.
        seed: The run's seed; the stage's name keeps these numbers out of training.
        batch_size: Readings made at once, if the memory allows.
    """

    num_timesteps: int
    num_noises: int
    seed: int
    batch_size: int = 16

    def timesteps(self, places: Sequence[int], num_train_timesteps: int) -> NDArray[np.int64]:
        """One timestep in each stratum, shape `(P, T, N)`; offsets follow a low-discrepancy sequence over readings."""
        reading = np.asarray(places)[:, None, None] * self.num_noises + np.arange(self.num_noises)
        start = torch.rand((), generator=generator_for(self.seed, "heldout.timesteps")).item()
        offset = (start + reading * GOLDEN_RATIO) % 1.0
        stratum = np.arange(self.num_timesteps).reshape(1, -1, 1)
        timesteps = (stratum + offset) / self.num_timesteps * num_train_timesteps
        return np.clip(timesteps.astype(np.int64), 0, num_train_timesteps - 1)

    def noise(self, photo: int, shape: tuple[int, ...]) -> Tensor:
        """Noise of one photo, shape `(N, C, H, W)`: every odd draw is the one before it, negated."""
        generator = generator_for(self.seed, "heldout.noise", step=photo)
        drawn = torch.randn(((self.num_noises + 1) // 2, *shape), generator=generator)
        return torch.stack([drawn, -drawn], dim=1).flatten(0, 1)[: self.num_noises]


@torch.no_grad()
def heldout_losses(
    base: BaseModel, data: EncodedDataset, grid: HeldoutGrid, places: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Unweighted denoising loss of whatever is in place on the base, shape `(P, T, N)`.

    Latents are the means of their distributions, so that the model's error is all that is left to vary.

    Args:
        base: The base, tuned or not.
        data: The held-out photos.
        grid: Where to read.
        places: Number of each photo, from which its timesteps and noise follow: a photo of any subset keeps its own.
            Nothing counts them from 0.
    """
    places = range(len(data)) if places is None else places
    steps = grid.timesteps(places, base.noise_scheduler.config.num_train_timesteps)
    latents = data.mean * base.vae.config.scaling_factor
    noise = torch.stack([grid.noise(place, tuple(latents.shape[1:])) for place in places])
    embeds = base.text_encoder(data.input_ids.to(base.device))[0]
    cells = [(p, t, n) for p in range(len(data)) for t in range(grid.num_timesteps) for n in range(grid.num_noises)]

    def read(chunk: Sequence[tuple[int, int, int]]) -> list[float]:
        photos = torch.tensor([p for p, _, _ in chunk])
        drawn = Noise(
            torch.stack([noise[p, n] for p, _, n in chunk]).to(base.device),
            torch.tensor([steps[cell] for cell in chunk], device=base.device),
        )
        clean, prompts = latents[photos].to(base.device), embeds[photos.to(base.device)]
        scheduler, dtype = base.noise_scheduler, base.dtype  # what it is judged by stays in fp32
        found: list[float] = diffusion_loss(
            base.unet, scheduler, clean, prompts, drawn, snr_gamma=None, dtype=dtype
        ).tolist()
        return found

    losses = [value for values in in_batches(cells, grid.batch_size, read) for value in values]
    return np.asarray(losses, dtype=np.float64).reshape(steps.shape)
