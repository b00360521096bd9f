"""Train a ControlNet beside the frozen denoiser (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import ControlNetModel
from torch import Tensor

from pretraining.dataset import Dataset
from pretraining.loop import Clock, Loss, Plan, Training
from pretraining.unet import Denoiser, Latents, NoiseSchedule, denoising_loss, stratified_timesteps

WORDLESS_SHARE = 0.3
"""Without words the control image must carry the picture: Sec. 3.3 of the paper drops half of the prompts."""


def train_controlnet(
    controlnet: ControlNetModel,
    denoiser: Denoiser,
    data: Dataset,
    latents: Latents,
    kind: str,
    plan: Plan,
    clock: Clock,
) -> ControlNetModel:
    """Learn residuals that let the UNet follow control images of one kind; returns the averaged weights."""
    device = data.device
    schedule = NoiseSchedule.on(device)
    unet = denoiser.requires_grad_(False).eval().unet

    def denoise(noisy: Tensor, timesteps: Tensor, prompts: Tensor, control: Tensor) -> Tensor:
        down, middle = controlnet(noisy, timesteps, prompts, controlnet_cond=control, return_dict=False)
        predicted: Tensor = unet(
            noisy,
            timesteps,
            prompts,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return predicted

    def loss(forward: Callable[..., Tensor]) -> Loss:
        rows = data.random_rows(plan.batch_size)
        clean, tokens = latents.draw(rows, WORDLESS_SHARE)
        noise, timesteps = torch.randn_like(clean), stratified_timesteps(plan.batch_size, device)
        noisy = schedule.diffuse(clean, noise, timesteps)
        control = data.conditions(rows, kind).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                prompts = denoiser.prompts(tokens)
            predicted = forward(noisy, timesteps, prompts, control)
        return denoising_loss(predicted, noise, schedule.weights(timesteps))

    trained = Training(plan, controlnet, clock).run(denoise, loss)
    trained.requires_grad_(False)
    return trained
