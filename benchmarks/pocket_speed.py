"""`pocket` on the CPU against the plain diffusers loop: training and painting, in the same process.

    python -m benchmarks.pocket_speed [--steps 10] [--repeats 3]

The demo's recipe on its photos: two photos and a class image in a step, text encoder trained too, fp32. Theirs is
written here as plainly as diffusers' `train_dreambooth.py` and `train_dreambooth_lora.py` do it: pictures go through
the VAE and prompts through the text encoder in every step, `mse_loss`, gradients clipped, `torch.optim.AdamW`, and
for the LoRA PEFT's adapters on the same layers. Ours reads latents that were encoded before (what that took is given,
and is not counted) and prompts' tokens. Windows of steps of both take turns, so that whatever else the machine does
meets both. A pack of three LoRAs is put beside theirs taken three times.

Painting: the recipe's steps, guidance and batch, ours by the Generator, theirs by `StableDiffusionPipeline` with the
same scheduler; in fp32, and both in bf16, which some CPUs multiply faster.

Medians; Min-SNR weights, which cost nothing, are left out of theirs. Run it on a quiet machine: two threads share two
cores with whatever else there is.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import mse_loss

import portrayal
from benchmarks.record import print_table, save
from benchmarks.timing import WARM_UP_STEPS, base_for, begun, pictures_a_step, squares
from portrayal.config import TEXT_ENCODER_TARGETS, Config, LoraMethod, Method
from portrayal.data.encode import encode, to_pixels
from portrayal.generation.generator import Generator
from portrayal.models.base import BaseModel
from portrayal.training.task import TrainingData

RANKS = (8, 16, 32)
PROMPT = "a photo of sks woman in the forest"


class PlainLoop:
    """The loop of diffusers' examples over a base of its own."""

    def __init__(self, base: BaseModel, config: Config, method: Method, photos: Tensor, others: Tensor) -> None:
        self.base, self.config, self.photos, self.others = base, config, photos, others
        if isinstance(method, LoraMethod):
            from peft import LoraConfig

            for part, targets in ((base.unet, method.target_modules), (base.text_encoder, TEXT_ENCODER_TARGETS)):
                part.add_adapter(LoraConfig(r=method.rank, lora_alpha=method.rank, target_modules=list(targets)))
        else:
            base.unet.requires_grad_(True)
            base.text_encoder.requires_grad_(True)
        base.unet.train()
        base.text_encoder.train()
        every = itertools.chain(base.unet.parameters(), base.text_encoder.parameters())
        self.weights = [weight for weight in every if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=method.learning_rate)

    def __call__(self, steps: int) -> float:
        """Take steps; seconds of one of them."""
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        return (time.perf_counter() - started) / steps

    def step(self) -> None:
        """One update on photos and class images."""
        base, training, subject = self.base, self.config.training, self.config.subject
        counts = (training.train_batch_size, training.class_batch_size or training.train_batch_size)
        parts = zip((self.photos, self.others), counts, strict=True)
        chosen = [part[torch.randperm(len(part))[:count]] for part, count in parts]
        prompts = [subject.filled_instance_prompt] * counts[0] + [subject.filled_class_prompt] * counts[1]
        with torch.no_grad():
            latents = base.vae.encode(torch.cat(chosen)).latent_dist.sample() * base.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, base.noise_scheduler.config.num_train_timesteps, (len(latents),))
        noisy = base.noise_scheduler.add_noise(latents, noise, timesteps)
        embeds = base.text_encoder(base.input_ids(prompts))[0]
        found = base.unet(noisy, timesteps, embeds).sample
        loss = mse_loss(found[: counts[0]], noise[: counts[0]])
        loss = loss + training.prior_loss_weight * mse_loss(found[counts[0] :], noise[counts[0] :])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, training.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()  # their bar shows it


def in_turn(
    ours: Callable[[int], float], theirs: Callable[[int], float], steps: int, repeats: int
) -> list[list[float]]:
    """Seconds of a step in windows of both, one after the other."""
    ours(WARM_UP_STEPS)
    theirs(2)
    return [list(one) for one in zip(*((ours(steps), theirs(steps)) for _ in range(repeats)), strict=True)]


def trained(
    config: Config, base: BaseModel, pictures: Sequence[Image.Image], steps: int, repeats: int
) -> dict[str, Any]:
    """Rows of the full UNet, a LoRA, and a pack of three."""
    half, subject = len(pictures) // 2, config.subject
    started = time.perf_counter()
    photos = encode(base, [(f"p{n}", one, subject.filled_instance_prompt) for n, one in enumerate(pictures[:half])])
    others = encode(base, [(f"c{n}", one, subject.filled_class_prompt) for n, one in enumerate(pictures[half:])])
    encoding = (time.perf_counter() - started) / len(pictures)
    pixels = torch.stack([to_pixels(one) for one in pictures])
    lora = config.method.lora
    loras = [lora.model_copy(update={"rank": rank}) for rank in RANKS]
    kinds: dict[str, list[Method]] = {"full UNet": [config.method.unet], "LoRA 16": [loras[1]], "three LoRAs": [*loras]}
    rows = []
    for name, methods in kinds.items():
        with tempfile.TemporaryDirectory() as temporary:
            data = TrainingData((photos,), (others,))
            middle = methods[len(methods) // 2]
            theirs = PlainLoop(base_for(config), config, middle, pixels[:half], pixels[half:])
            with begun(base, data, config, methods, Path(temporary)) as ours:
                mine, other = in_turn(ours, theirs, steps, repeats)
        rows.append(row(name, len(methods) * pictures_a_step(config), mine, [len(methods) * one for one in other]))
    return {"training": rows, "encoding a picture, seconds": round(encoding, 3)}


def row(name: str, pictures: int, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Speeds of both, and the ratio."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "what": name,
        "ours, pictures/s": round(pictures / mine, 2),
        "plain diffusers, pictures/s": round(pictures / other, 2),
        "times": round(other / mine, 2),
        "of turns": f"{min(ratios):.2f}–{max(ratios):.2f}",
    }


def painted(config: Config, base: BaseModel, repeats: int) -> dict[str, Any]:
    """A row of painting a batch in the base's number format."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    settings = config.generation
    pipeline = StableDiffusionPipeline.from_pretrained(
        base.source.path, safety_checker=None, local_files_only=True, dtype=base.dtype
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    generator, prompts = Generator(base, settings), [PROMPT] * settings.batch_size

    def ours(batches: int) -> float:
        started = time.perf_counter()
        list(generator.paint(prompts * batches, range(len(prompts) * batches)))
        return (time.perf_counter() - started) / batches

    def theirs(batches: int) -> float:
        started = time.perf_counter()
        for number in range(batches):
            generators = [torch.Generator().manual_seed(number * len(prompts) + seed) for seed in range(len(prompts))]
            pipeline(
                prompts,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                generator=generators,
            )
        return (time.perf_counter() - started) / batches

    turns = [(ours(1), theirs(1)) for _ in range(repeats + 1)][1:]
    mine, other = zip(*turns, strict=True)
    what = f"painting {len(prompts)} pictures, {settings.num_inference_steps} steps"
    return row(what + (" in bf16" if base.dtype == torch.bfloat16 else ""), len(prompts), mine, other)


def main() -> None:
    """Measure in turns, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="of a window")
    parser.add_argument("--repeats", type=int, default=3, help="windows of each")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        parser.error("this is a benchmark of CPUs; hide the GPU: CUDA_VISIBLE_DEVICES=")
    config = portrayal.make_plan("pocket-demo", ["subject.class_noun=woman", "base.name=pocket"]).config
    base = base_for(config)
    figures = trained(config, base, squares(config, 18), arguments.steps, arguments.repeats)
    half = config.model_copy(update={"training": config.training.model_copy(update={"mixed_precision": "bf16"})})
    figures["painting"] = [painted(config, one, arguments.repeats) for one in (base, base_for(half))]
    print_table([*figures["training"], *figures["painting"]])
    print(f"encoding a picture once: {figures['encoding a picture, seconds']} s, of which ours pays none in a step")
    if not arguments.dry:
        settings = {"recipe": "pocket-demo", "steps": arguments.steps, "windows": arguments.repeats}
        print(save("pocket_speed", figures, settings | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
