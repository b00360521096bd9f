"""Compile one stage's training step while the pictures are still being drawn.

``python -m pretraining.warm vae`` takes a few steps on noise; the compiler keeps what it made on disk, where the real
stage finds it. Nothing else depends on this: without it the stages compile for themselves.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

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
        TEXT_FEATURES,
        build_controlnet,
        build_unet,
        build_vae,
    )
    from pretraining.controlnet import train_controlnet
    from pretraining.dataset import Dataset
    from pretraining.devices import on_device, set_up_device
    from pretraining.loop import Clock
    from pretraining.settings import Settings
    from pretraining.unet import Latents, train_unet
    from pretraining.vae import train_vae

    stage, device, rows, clock = sys.argv[1], set_up_device(), 64, Clock()
    settings = Settings()
    noise = torch.randint(0, 256, (rows, 128, 128, 3), dtype=torch.uint8, device=device)
    tokens = torch.zeros(rows, 4, PROMPT_LENGTH, dtype=torch.int16, device=device)
    data = Dataset(noise, noise[..., 0, :1].expand(-1, -1, 16).contiguous(), tokens, 4)
    mean = torch.randn(rows, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, device=device).half()
    prompts = torch.randn(rows, 4, PROMPT_LENGTH, TEXT_FEATURES, device=device).bfloat16()
    latents = Latents(mean, mean.abs(), prompts, prompts[0, 0])
    if stage == "vae":
        train_vae(on_device(build_vae(), device), data, replace(settings.vae(), name="warm vae", max_steps=0), clock)
        return
    unet = on_device(build_unet(), device)
    if stage == "unet":
        plan = replace(settings.unet(), name="warm unet", max_steps=0)
        with tempfile.TemporaryDirectory() as folder:
            train_unet(unet, latents, plan, clock, Path(folder) / "unet.safetensors")
        return
    plan = replace(settings.controlnet(), name="warm controlnet", max_steps=0)
    train_controlnet(on_device(build_controlnet(unet), device), unet, data, latents, plan, clock)


if __name__ == "__main__":
    main()
