"""What one H100 could do at most with Stable Diffusion 1.5: operations of its shapes, over what the card multiplies.

    python -m benchmarks.limits

counts the operations anew (a multiplication with its addition is two; convolutions, linear layers and attention, at
512 px, nothing recomputed), and on a GPU measures the product of two matrices. Speeds are given as shares of the
limits that follow. No training reaches them: norms, activations and optimizers multiply nothing and move memory.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.standins import SD15_UNET, SD15_VAE

CARD = 785.0
"""TFLOP/s: the product of two bf16 matrices of 8192 × 8192 on an H100 SXM, as `main` measures it (data sheet: 989)."""
FORWARD, TRAIN_UNET, TRAIN_LORA = 0.803, 2.407, 1.765
"""TFLOP of a picture: the UNet's pass; forward and backward of the full UNet, and of a LoRA of rank 64 on attention."""
CONTROLNET, CONTROL_IMAGE, DECODE = 0.269, 0.015, 2.515
"""TFLOP of a picture: a ControlNet's pass, the features of its control image, the VAE's decoder."""


def training_limit(kind: str) -> float:
    """Images per second of training, `unet` or `lora`; ranks 32 to 128 differ by 2 %."""
    return CARD / (TRAIN_UNET if kind == "unet" else TRAIN_LORA)


def painting_limit(steps: int, *, control: bool = False) -> float:
    """Pictures per second, guided: each step is two passes."""
    held = 2 * steps * CONTROLNET + CONTROL_IMAGE if control else 0.0
    return CARD / (2 * steps * FORWARD + held + DECODE)


def count() -> dict[str, float]:
    """The operations in TFLOP, counted on shapes alone."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from peft import LoraConfig

    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**SD15_UNET), AutoencoderKL(**SD15_VAE)
        controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        latents, time_step, prompt = torch.zeros(1, 4, 64, 64), torch.zeros(1), torch.zeros(1, 77, 768)
        image = torch.zeros(1, 3, 512, 512)
    found = {"FORWARD": operations(lambda: unet(latents, time_step, prompt))}
    found["TRAIN_UNET"] = operations(lambda: unet(latents, time_step, prompt).sample.sum().backward())
    unet.requires_grad_(False)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    with torch.device("meta"):
        unet.add_adapter(LoraConfig(r=64, lora_alpha=64, target_modules=targets))
    found["TRAIN_LORA"] = operations(lambda: unet(latents, time_step, prompt).sample.sum().backward())
    found["CONTROL_IMAGE"] = operations(lambda: controlnet.controlnet_cond_embedding(image))
    whole = operations(lambda: controlnet(latents, time_step, prompt, image))
    found["CONTROLNET"] = whole - found["CONTROL_IMAGE"]
    return found | {"DECODE": operations(lambda: vae.decode(latents))}


def operations(act: Any) -> float:
    """TFLOP of an act."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        act()
    return float(counter.get_total_flops()) / 1e12


def product() -> float:
    """TFLOP/s of a product of two matrices on this GPU."""
    import torch

    one = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for rounds in (10, 100):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(rounds):
            one @ one
        torch.cuda.synchronize()
    return 2 * 8192**3 * rounds / (time.perf_counter() - started) / 1e12


def main() -> None:
    """Count, measure, print."""
    import torch

    for name, found in count().items():
        print(f"{name:<14}{found:.4f} TFLOP a picture; {globals()[name]} here")
    if torch.cuda.is_available():
        print(f"{'CARD':<14}{product():.0f} TFLOP/s; {CARD:.0f} here")
    print(f"training: {training_limit('unet'):.0f} images/s full UNet, {training_limit('lora'):.0f} LoRA")
    free, held = painting_limit(25), painting_limit(25, control=True)
    print(f"painting in 25 steps: {free:.1f} pictures/s, {held:.1f} with a ControlNet")


if __name__ == "__main__":
    main()
