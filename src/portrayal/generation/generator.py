"""The Generator: base + weights + optional ControlNet → images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Generator as Generating
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from portrayal.config import GenerationConfig
from portrayal.errors import OutOfMemoryError
from portrayal.generation.captured import captured, features_once
from portrayal.models.base import BaseModel, check_prompts, pipeline_of


@dataclass(frozen=True)
class Control:
    """A ControlNet, its control image, its strength (`controlnet_conditioning_scale`) and its kind."""

    controlnet: Any
    image: Image.Image
    scale: float = 1.0
    kind: str = "canny"


@dataclass(frozen=True)
class Generator:
    """Paints pictures with whatever is in place on a base.

    Attributes:
        base: The base, tuned or not.
        settings: Steps, guidance, batch size, negative prompt.
        control: What to keep to, or nothing.
        resolution: Side of the pictures in pixels; nothing means the base's own.
    """

    base: BaseModel
    settings: GenerationConfig
    control: Control | None = None
    resolution: int | None = None

    def paint(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> Generating[Image.Image, None, None]:
        """Paint one picture for each prompt and seed, in batches; the same seed gives the same start on every device.

        Args:
            prompts: What each picture shows.
            seeds: Seed of each picture's noise.
            progress: Called with the number of pictures done.

        Raises:
            UsageError: If a prompt is longer than the model reads.
            OutOfMemoryError: If a batch does not fit on the device.
        """
        check_prompts(self.base.tokenizer, [*prompts, self.settings.negative_prompt])
        controlnet = self.control.controlnet if self.control else None
        pipeline, size = pipeline_of(self.base, controlnet), self.settings.batch_size
        embeds, launched, done = Embeds(self.base), deque[Painted](), 0
        with ExitStack() as quick:
            quick.enter_context(captured(*(model for model in (self.base.unet, controlnet) if model is not None)))
            if controlnet is not None:
                quick.enter_context(features_once(controlnet))
            for start in range(0, len(prompts), size):
                part = slice(start, start + size)
                launched.append(self._batch(pipeline, embeds, prompts[part], seeds[part]))
                ahead = self.base.device.type == "cuda" and start + size < len(prompts)
                while len(launched) > ahead:  # a GPU paints the next batch while this one is fetched
                    pictures = launched.popleft().fetch()
                    yield from pictures
                    done += len(pictures)
                    if progress is not None:
                        progress(done)

    def _batch(self, pipeline: Any, embeds: Embeds, prompts: Sequence[str], seeds: Sequence[int]) -> Painted:
        """Start painting one batch."""
        side = self.resolution or self.base.resolution
        options: dict[str, Any] = {"height": side, "width": side}
        if self.control is not None:
            options |= {"image": self.control.image, "controlnet_conditioning_scale": self.control.scale}
        try:
            with torch.inference_mode():
                pixels = pipeline(
                    prompt_embeds=embeds.of(prompts),
                    negative_prompt_embeds=embeds.of([self.settings.negative_prompt] * len(prompts)),
                    num_inference_steps=self.settings.num_inference_steps,
                    guidance_scale=self.settings.guidance_scale,
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                    output_type="pt",
                    **options,
                ).images
                return Painted(pixels)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{len(prompts)} pictures at once do not fit on {self.base.device}.",
                "Try --set generation.batch_size=1.",
            ) from error


class Embeds:
    """Prompt embeddings, each computed once, alone: a prompt's does not depend on its neighbours in a batch."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.known: dict[str, Tensor] = {}

    def of(self, prompts: Sequence[str]) -> Tensor:
        """Shape `(B, L, D)`."""
        for prompt in prompts:
            if prompt not in self.known:
                self.known[prompt] = self.base.encode_prompts([prompt])[0]
        return torch.stack([self.known[prompt] for prompt in prompts])


class Painted:
    """A batch on its way from the device.

    Args:
        pixels: Shape `(B, 3, height, width)` in [0, 1]; rounded to bytes where they are, so that less is fetched.
    """

    def __init__(self, pixels: Tensor) -> None:
        bytes_BHWC = pixels.float().mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        self.bytes, self.done = bytes_BHWC, None
        if pixels.is_cuda:
            self.bytes, self.done = torch.empty_like(bytes_BHWC, device="cpu", pin_memory=True), torch.cuda.Event()
            self.bytes.copy_(bytes_BHWC, non_blocking=True)
            self.done.record()

    def fetch(self) -> list[Image.Image]:
        """The pictures, once they are there."""
        if self.done:
            self.done.synchronize()
        return [Image.fromarray(one) for one in self.bytes.cpu().numpy()]
