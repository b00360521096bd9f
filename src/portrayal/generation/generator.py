"""The Generator: base + weights + optional ControlNets → images."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Generator as Generating
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from portrayal.config import GenerationConfig
from portrayal.errors import OutOfMemoryError
from portrayal.generation.captured import captured, features_once
from portrayal.generation.prompts import PromptEmbeds
from portrayal.models.base import BaseModel, pipeline_of


@dataclass(frozen=True)
class Control:
    """A ControlNet and what it keeps pictures to.

    Attributes:
        controlnet: The ControlNet.
        image: Its control image, of the pictures' shape.
        scale: Strength (`controlnet_conditioning_scale`).
        kind: Such as `canny`.
        start: Share of the steps after which it begins (`control_guidance_start`).
        end: Share of the steps after which it ends (`control_guidance_end`).
    """

    controlnet: Any
    image: Image.Image
    scale: float = 1.0
    kind: str = "canny"
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Generator:
    """Paints pictures with whatever is in place on a base.

    Attributes:
        base: The base, tuned or not.
        settings: Steps, sampler, guidance, size, batch size, negative prompt.
        controls: What to keep to; several are followed at once.
        resolution: Side in pixels where the settings leave it open; nothing means the base's own.
    """

    base: BaseModel
    settings: GenerationConfig
    controls: tuple[Control, ...] = ()
    resolution: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, of their first pass if there are two."""
        side = self.resolution or self.base.resolution
        return self.settings.width or side, self.settings.height or side

    @property
    def final_size(self) -> tuple[int, int]:
        """Width and height of the pictures in the end, multiples of 8."""
        scale = self.settings.hires_scale
        width, height = (side if scale == 1 else round(side * scale / 8) * 8 for side in self.size)
        return width, height

    def paint(
        self, prompts: Sequence[str], seeds: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> Generating[Image.Image, None, None]:
        """Paint one picture for each prompt and seed, in batches; the same seed gives the same start on every device.

        Args:
            prompts: What each picture shows, of any length; `(word:1.2)` weighs a word.
            seeds: Seed of each picture's noise.
            progress: Called with the number of pictures done.

        Raises:
            UsageError: If a weight in a prompt cannot be meant.
            OutOfMemoryError: If not one picture fits on the device: a batch that does not is painted in parts.
        """
        embeds, launched, done = PromptEmbeds(self.base), deque[list[Painted]](), 0
        most = self.settings.batch_size
        with torch.inference_mode():
            lengths = [self._length(embeds, prompt) for prompt in prompts]
        with ExitStack() as quick:
            quick.enter_context(captured(*self._models))
            for controlnet in self._models[1:]:
                quick.enter_context(features_once(controlnet))
            batches = self._batches(lengths)
            for number, part in enumerate(batches):
                painted, most = self._in_parts(embeds, prompts[part], seeds[part], lengths[part.start], most)
                launched.append(painted)
                ahead = self.base.device.type == "cuda" and number + 1 < len(batches)
                while len(launched) > ahead:  # a GPU paints the next batch while this one is fetched
                    pictures = [picture for one in launched.popleft() for picture in one.fetch()]
                    yield from pictures
                    done += len(pictures)
                    if progress is not None:
                        progress(done)

    @property
    def _models(self) -> list[Any]:
        """The UNet, and each ControlNet once."""
        return [self.base.unet, *{id(control.controlnet): control.controlnet for control in self.controls}.values()]

    def _length(self, embeds: PromptEmbeds, prompt: str) -> int:
        """Tokens of a prompt and the negative one, whichever is longer."""
        return max(len(embeds.of(prompt)), len(embeds.of(self.settings.negative_prompt)))

    def _batches(self, lengths: Sequence[int]) -> list[slice]:
        """Which pictures are painted at once: neighbours, of prompts of one length, since longer ones would change.

        None of these batches crosses a multiple of the batch size: what is painted again in whole batches is painted
        in the same company.
        """
        keys = [(place // self.settings.batch_size, length) for place, length in enumerate(lengths)]
        groups = [list(group) for _, group in groupby(range(len(lengths)), keys.__getitem__)]
        return [slice(places[0], places[-1] + 1) for places in groups]

    def _in_parts(
        self, embeds: PromptEmbeds, prompts: Sequence[str], seeds: Sequence[int], length: int, most: int
    ) -> tuple[list[Painted], int]:
        """Start painting a batch, in parts of `most` pictures or as few as fit; how many that are."""
        found: list[Painted] = []
        start = 0
        while start < len(prompts):
            part = slice(start, start + most)
            try:
                found.append(self._batch(embeds, prompts[part], seeds[part], length))
                start += most
                continue
            except torch.OutOfMemoryError as error:
                if most == 1:
                    raise OutOfMemoryError(
                        f"Not one picture fits on {self.base.device}.", "Paint smaller pictures."
                    ) from error
            most = max(1, min(most, len(prompts)) // 2)
            logging.getLogger(__name__).warning("Too little memory: %d pictures are painted at once from here on", most)
            torch.cuda.empty_cache()
        return found, most

    def _batch(self, embeds: PromptEmbeds, prompts: Sequence[str], seeds: Sequence[int], length: int) -> Painted:
        """Start painting one batch."""
        settings = self.settings
        with torch.inference_mode():
            negative = embeds.stretched(settings.negative_prompt, length)
            options: dict[str, Any] = {
                "prompt_embeds": torch.stack([embeds.stretched(prompt, length) for prompt in prompts]),
                "negative_prompt_embeds": negative.expand(len(prompts), -1, -1),
                "num_inference_steps": settings.num_inference_steps,
                "guidance_scale": settings.guidance_scale,
                "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
                "output_type": "pt",
            }
            pixels = self._first_pass(options)
            return Painted(pixels if settings.hires_scale == 1 else self._second_pass(options, pixels))

    def _first_pass(self, options: dict[str, Any]) -> Tensor:
        """Pictures from noise, `(B, 3, height, width)` in [0, 1]."""
        width, height = self.size
        pipeline = pipeline_of(self.base, [one.controlnet for one in self.controls], sampler=self.settings.sampler)
        held = self._held("image", self.size)
        pixels: Tensor = pipeline(**options, **held, width=width, height=height).images
        return pixels

    def _second_pass(self, options: dict[str, Any], pixels: Tensor) -> Tensor:
        """The pictures larger, and partly painted over."""
        width, height = self.final_size
        larger = functional.interpolate(pixels.float(), (height, width), mode="bicubic", antialias=True).clamp(0, 1)
        nets = [one.controlnet for one in self.controls]
        pipeline = pipeline_of(self.base, nets, sampler=self.settings.sampler, painting_over=True)
        held = self._held("control_image", self.final_size)
        strength = max(self.settings.hires_strength, 1.01 / self.settings.num_inference_steps)  # one step at least
        strength = min(strength, 1.0)
        painted: Tensor = pipeline(**options, **held, image=larger.to(pixels.dtype), strength=strength).images
        return painted

    def _held(self, name: str, size: tuple[int, int]) -> dict[str, Any]:
        """What a pipeline is told of the controls; one alone is no list."""
        if not self.controls:
            return {}
        told: dict[str, list[Any]] = {
            name: [one.image.resize(size, Image.Resampling.LANCZOS) for one in self.controls],
            "controlnet_conditioning_scale": [one.scale for one in self.controls],
            "control_guidance_start": [one.start for one in self.controls],
            "control_guidance_end": [one.end for one in self.controls],
        }
        return dict(told) if len(self.controls) > 1 else {key: values[0] for key, values in told.items()}


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
