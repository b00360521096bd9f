"""The Generator: base + weights + optional ControlNet → images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as Generating
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from portrayal.config import GenerationConfig
from portrayal.errors import OutOfMemoryError
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
        pipeline = pipeline_of(self.base, self.control.controlnet if self.control else None)
        size = self.settings.batch_size
        for start in range(0, len(prompts), size):
            yield from self._batch(pipeline, prompts[start : start + size], seeds[start : start + size])
            if progress is not None:
                progress(min(start + size, len(prompts)))

    def _batch(self, pipeline: Any, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Paint one batch."""
        side = self.resolution or self.base.resolution
        options: dict[str, Any] = {"height": side, "width": side}
        if self.control is not None:
            options |= {"image": [self.control.image] * len(prompts)}
            options["controlnet_conditioning_scale"] = self.control.scale
        try:
            with torch.inference_mode():
                pictures: list[Image.Image] = pipeline(
                    list(prompts),
                    negative_prompt=[self.settings.negative_prompt] * len(prompts),
                    num_inference_steps=self.settings.num_inference_steps,
                    guidance_scale=self.settings.guidance_scale,
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                    **options,
                ).images
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{len(prompts)} pictures at once do not fit on {self.base.device}.",
                "Try --set generation.batch_size=1.",
            ) from error
        return pictures
