"""Pictures are those that diffusers' own pipelines paint with the same settings and seeds, to the last bit or so."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from torch.nn.functional import interpolate

from portrayal.config import GenerationConfig
from portrayal.generation.generator import Control, Generator
from portrayal.models.base import SCHEDULERS, BaseModel
from portrayal.models.control import find_controlnet, load_controlnet
from portrayal.pocket import WEIGHTS

PROMPTS, SEEDS = ["a photo of a woman in the forest", "a photo of a man on the street"], [11, 12]
SETTINGS = GenerationConfig(
    num_inference_steps=3, guidance_scale=3.0, negative_prompt="a red hat", width=32, height=48, batch_size=2
)
NAMED = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 2M SDE Karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
}
"""What diffusers' documentation names for AUTOMATIC1111's samplers."""


def pipeline(kind: Any, base: BaseModel, sampler: str, **more: Any) -> Any:
    """One of diffusers' own over the base's parts, with the sampler read from the base's folder."""
    scheduler, options = NAMED[sampler]
    made = kind(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=getattr(diffusers, scheduler).from_pretrained(WEIGHTS, subfolder="scheduler", **options),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **more,
    )
    made.set_progress_bar_config(disable=True)
    return made


def told(**more: Any) -> dict[str, Any]:
    """What the pipelines are told of the settings."""
    return {
        "prompt": PROMPTS,
        "negative_prompt": ["a red hat"] * 2,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "generator": [torch.Generator().manual_seed(seed) for seed in SEEDS],
        **more,
    }


def painted(base: BaseModel, controls: tuple[Control, ...] = (), **changes: Any) -> list[Image.Image]:
    return list(Generator(base, SETTINGS.model_copy(update=changes), controls).paint(PROMPTS, SEEDS))


def furthest(images: list[Image.Image], others: list[Image.Image]) -> int:
    """The largest difference of two pixels."""
    assert [image.size for image in images] == [image.size for image in others]
    pairs = zip(images, others, strict=True)
    return max(int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max()) for one, other in pairs)


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_pictures_are_those_of_diffusers_by_every_sampler(pocket: BaseModel, sampler: str) -> None:
    """A pixel's rounding apart, as prompts are read one by one here."""
    expected = pipeline(StableDiffusionPipeline, pocket, sampler)(**told(width=32, height=48)).images
    assert furthest(painted(pocket, sampler=sampler), expected) <= 1


@pytest.mark.parametrize(
    "changes",
    [{"guidance_scale": 8.0}, {"guidance_scale": 1.0}, {"negative_prompt": ""}, {"num_inference_steps": 2}],
    ids=str,
)
def test_each_setting_reaches_the_pipeline(pocket: BaseModel, changes: dict[str, Any]) -> None:
    """The pictures are those of diffusers with the change, and not those without it."""
    words = {"negative_prompt": [""] * 2} if "negative_prompt" in changes else changes
    expected = pipeline(StableDiffusionPipeline, pocket, "DPM++ 2M")(**told(width=32, height=48) | words).images
    found = painted(pocket, **changes)
    assert furthest(found, expected) <= 1
    assert furthest(found, painted(pocket)) > 5


@pytest.mark.parametrize(("strength", "sampler"), [(0.4, "DPM++ 2M"), (0.7, "Euler a"), (1.0, "DDIM")])
def test_the_second_pass_is_diffusers_image_to_image(pocket: BaseModel, strength: float, sampler: str) -> None:
    options = told(width=32, height=48, output_type="pt")
    first = pipeline(StableDiffusionPipeline, pocket, sampler)(**options).images
    del options["width"], options["height"]
    larger = interpolate(first, (72, 48), mode="bicubic", antialias=True).clamp(0, 1)
    options |= {"image": larger, "strength": strength, "output_type": "pil"}
    expected = pipeline(StableDiffusionImg2ImgPipeline, pocket, sampler)(**options).images
    found = painted(pocket, hires_scale=1.5, hires_strength=strength, sampler=sampler)
    assert furthest(found, expected) <= 2


@pytest.mark.parametrize(("strength", "steps"), [(0.1, 1), (0.25, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_the_second_pass_takes_its_share_of_the_steps_again(
    pocket: BaseModel, strength: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share is of what is painted over, not of what stays; one step is taken at least."""
    sizes: list[int] = []
    forward = type(pocket.unet).forward

    def counted(unet: Any, sample: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        sizes.append(sample.shape[-1])
        return forward(unet, sample, *arguments, **named)

    monkeypatch.setattr(type(pocket.unet), "forward", counted)
    list(
        Generator(
            pocket,
            GenerationConfig(num_inference_steps=4, width=32, height=32, hires_scale=2, hires_strength=strength),
        ).paint(PROMPTS[:1], SEEDS[:1])
    )
    assert (sizes.count(sizes[0]), sizes.count(2 * sizes[0])) == (4, steps)


@pytest.fixture(scope="module")
def controls(pocket: BaseModel) -> tuple[Control, Control]:
    """Two that differ in everything but the network: image, strength, begin and end."""
    known = {"embedded": "controlnet_canny", "hub_id": "lllyasviel/control_v11p_sd15_canny"}
    controlnet = load_controlnet(find_controlnet("auto", pocket.source, **known), pocket)
    images = [Image.new("RGB", (32, 48)) for _ in range(2)]
    images[0].paste("white", (5, 10, 7, 40))
    images[1].paste("white", (20, 5, 22, 30))
    return Control(controlnet, images[0], 0.7, start=0.3, end=0.8), Control(controlnet, images[1], 1.3, end=0.6)


@pytest.mark.parametrize("count", [1, 2])
def test_controls_have_their_own_image_strength_begin_and_end(
    pocket: BaseModel, controls: tuple[Control, Control], count: int
) -> None:
    kept = controls[:count]

    def listed(name: str) -> Any:
        values = [getattr(control, name) for control in kept]
        return values if count > 1 else values[0]

    made = pipeline(StableDiffusionControlNetPipeline, pocket, "DPM++ 2M", controlnet=listed("controlnet"))
    options = told(width=32, height=48, image=listed("image"), controlnet_conditioning_scale=listed("scale"))
    expected = made(**options, control_guidance_start=listed("start"), control_guidance_end=listed("end")).images
    found = painted(pocket, kept)
    assert furthest(found, expected) <= 1
    assert furthest(found, painted(pocket)) > 5
