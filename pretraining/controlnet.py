"""Train the canny ControlNet beside the frozen denoiser (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from pretraining.dataset import Dataset
from pretraining.loop import Clock, Loss, Plan, Training
from pretraining.unet import Latents, NoiseSchedule, denoising_loss, stratified_timesteps

NO_PROMPT_SHARE = 0.2


def train_controlnet(
    controlnet: ControlNetModel,
    unet: UNet2DConditionModel,
    data: Dataset,
    latents: Latents,
    plan: Plan,
    clock: Clock,
) -> ControlNetModel:
    """Learn residuals that let ``unet`` follow edges; returns the averaged weights."""
    device = data.device
    schedule = NoiseSchedule.on(device)
    unet.requires_grad_(False).eval()

    def denoise(noisy: Tensor, timesteps: Tensor, prompts: Tensor, edges: Tensor) -> Tensor:
        down, middle = controlnet(noisy, timesteps, prompts, controlnet_cond=edges, return_dict=False)
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
        clean, prompts = latents.draw(rows)
        # without words the edges must carry the picture: Sec. 3.3 of the paper drops half of the prompts
        wordless = torch.rand(plan.batch_size, 1, 1, device=device) < NO_PROMPT_SHARE
        prompts = torch.where(wordless, latents.empty, prompts)
        noise, timesteps = torch.randn_like(clean), stratified_timesteps(plan.batch_size, device)
        noisy = schedule.diffuse(clean, noise, timesteps)
        edges = data.conditions(rows).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            predicted = forward(noisy, timesteps, prompts, edges)
        return denoising_loss(predicted, noise, schedule.weights(timesteps))

    trained = Training(plan, controlnet, clock).run(denoise, loss)
    trained.requires_grad_(False)
    return trained
