"""Images by all LoRAs of a pack at once: each adapter works on its own rows of one batch, as in training.

Shapes: K LoRAs, N images of each, U different prompts, L prompt tokens, D text features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from portrayal.config import GenerationConfig
from portrayal.generation.captured import calling, captured
from portrayal.generation.generator import Painted
from portrayal.models.base import BaseModel, pipeline_of
from portrayal.models.packed_lora import Pack


def generate_packed(
    base: BaseModel,
    pack: Pack,
    settings: GenerationConfig,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    size: int | None = None,
    at_once: int = 432,
) -> list[list[Image.Image]]:
    """Generate the same prompts and seeds with every LoRA of a pack that is in place on a base.

    Args:
        base: The base.
        pack: The LoRAs.
        settings: Steps, sampler, guidance and negative prompt; one pass only.
        prompts: Prompt of each image, `N` of them, without weights and of at most 77 tokens.
        seeds: Seed of each image's noise, `N`.
        size: Side of the images in pixels; `None` means the base's own.
        at_once: Images of all LoRAs in one batch, if that is not fewer than one of each.

    Returns:
        For each LoRA its `N` images.

    Raises:
        UsageError: If a prompt is too long.
    """
    count, side = len(pack.members), size or base.resolution
    each = max(1, at_once // count)
    found: list[list[Image.Image]] = [[] for _ in pack.members]
    guided = members_together(base.unet, count) if settings.guidance_scale > 1 else nullcontext()
    pipeline = pipeline_of(base, sampler=settings.sampler)
    with torch.inference_mode(), guided, captured(base.unet):
        for first in range(0, len(prompts), each):
            part = slice(first, first + each)
            embeds, negative = packed_prompts(base, count, prompts[part], settings.negative_prompt)
            pixels = pipeline(
                prompt_embeds=embeds,
                negative_prompt_embeds=negative,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for _ in pack.members for seed in seeds[part]],
                output_type="pt",
                width=side,
                height=side,
            ).images
            images = iter(Painted(pixels).fetch())
            for row in found:
                row.extend(islice(images, len(prompts[part])))
    return found


def packed_prompts(base: BaseModel, count: int, prompts: Sequence[str], negative: str) -> tuple[Tensor, Tensor]:
    """Features of prompts and of the negative one by each LoRA's own text encoder, each `(K·N, L, D)`."""
    unique = list(dict.fromkeys([negative, *prompts]))
    ids_UL = base.input_ids(unique)
    features: Tensor = base.text_encoder(ids_UL.repeat(count, 1))[0]
    features_KULD = features.unflatten(0, (count, -1))
    places = torch.tensor([unique.index(prompt) for prompt in prompts], device=features.device)
    wanted, unwanted = features_KULD[:, places], features_KULD[:, [0] * len(prompts)]
    return wanted.flatten(0, 1), unwanted.flatten(0, 1)


@contextmanager
def members_together(unet: Any, count: int) -> Iterator[None]:
    """Let a UNet be called with rows as guidance orders them: all without the prompt, then all with it.

    A pack wants each LoRA's rows after one another, so they are brought into that order and back.
    """
    forward: Callable[..., Any] = unet.forward

    def in_order(sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **options: Any) -> Any:
        order = torch.arange(len(sample), device=sample.device).view(2, count, -1).transpose(0, 1).flatten()
        options |= {"encoder_hidden_states": encoder_hidden_states[order], "return_dict": False}
        (found,) = forward(sample[order], timestep, **options)
        return (found[order.argsort()],)

    with calling(unet, in_order):
        yield
