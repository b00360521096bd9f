"""Compile one stage's training step while the pictures are still being drawn.

``python -m pretraining.warm vae`` takes a few steps on noise; the compiler keeps what it made on disk, where the real
stage finds it. Nothing else depends on this: without it the stages compile for themselves.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

STAGES = ("vae", "unet", "controlnet")


def start() -> list[subprocess.Popen[bytes]]:
    """Start one compiling process per stage, beside this one; stop them with :func:`stop`."""
    return [subprocess.Popen([sys.executable, "-m", "pretraining.warm", stage]) for stage in STAGES]


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End the processes that are still compiling."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
        process.wait()


def main() -> None:
    """Take the first steps of the stage named on the command line, on noise."""
    import torch

    from pretraining.architecture import (
        LATENT_CHANNELS,
        LATENT_SIZE,
        PROMPT_LENGTH,
        Vocabulary,
        build_clip,
        build_controlnet,
        build_unet,
        build_vae,
    )
    from pretraining.controlnet import train_controlnet
    from pretraining.dataset import Dataset
    from pretraining.devices import on_device, set_up_device
    from pretraining.loop import Clock, Plan
    from pretraining.settings import Settings
    from pretraining.unet import Denoiser, Latents, train_unet
    from pretraining.vae import train_vae

    stage, device, rows, clock = sys.argv[1], set_up_device(), 64, Clock()
    settings = Settings()

    def warm(plan: Plan) -> Plan:
        return replace(plan, name=f"warm {plan.name}", max_steps=0, state_file=None)

    noise = torch.randint(0, 256, (rows, 128, 128, 3), dtype=torch.uint8, device=device)
    tokens = torch.zeros(rows, 4, PROMPT_LENGTH, dtype=torch.int16, device=device)
    data = Dataset(
        noise,
        noise.view(rows, 128, -1)[..., :16].contiguous(),
        noise,
        noise[:, :17, 0].half(),
        noise[:, 0, 0],
        tokens,
        4,
    )
    if stage == "vae":
        train_vae(on_device(build_vae(), device), data, warm(settings.vae()), clock)
        return
    mean = torch.randn(rows, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, device=device).half()
    latents = Latents(mean, mean.abs(), tokens, tokens[0, 0])
    denoiser = Denoiser(on_device(build_unet(), device), build_clip(Vocabulary()).text_model.to(device))
    if stage == "unet":
        train_unet(denoiser, latents, warm(settings.unet()), clock)
        return
    controlnet = on_device(build_controlnet(denoiser.unet), device)
    train_controlnet(controlnet, denoiser, data, latents, "canny", warm(settings.controlnet_canny()), clock)


if __name__ == "__main__":
    main()
