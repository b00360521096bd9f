"""How pictures are painted: of the study's scenes, and held to a reference picture's outline or pose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from portrayal.config.section import Fraction, Section

ORIGINAL_SCENES = {
    "street": "a photo of {subject} on the street",
    "football": "a photo of {subject} on a football field",
    "kitchen": "a photo of {subject} in the kitchen",
    "office": "a photo of {subject} in the office",
    "forest": "a photo of {subject} in the forest",
}
ControlName = Literal["canny", "openpose", "depth", "softedge"]
SamplerName = Literal[
    "DPM++ 2M",
    "DPM++ 2M Karras",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Karras",
    "Euler",
    "Euler a",
    "Heun",
    "DDIM",
    "UniPC",
    "LMS",
]


def sampler_named(value: object) -> object:
    """The sampler that is meant, however its name is written: `dpm++_2m_karras`, `euler-a`."""

    def plain(name: str) -> str:
        return "".join(character for character in name.lower() if character.isalnum() or character == "+")

    known_as = {plain(name): name for name in get_args(SamplerName)} | {"eulerancestral": "Euler a"}
    return known_as.get(plain(value), value) if isinstance(value, str) else value


Sampler = Annotated[SamplerName, BeforeValidator(sampler_named)]
Side = Annotated[PositiveInt, Field(multiple_of=8)]


class GenerationConfig(Section):
    """How pictures are painted."""

    scenes: dict[str, str] = ORIGINAL_SCENES
    """Name and prompt of each scene, or a TOML file of them such as `recipes/scenes.toml`; `{subject}` is where the
    person goes."""

    num_images_per_scene: PositiveInt = 4
    """Pictures of each scene by each model, at the same seeds."""

    num_inference_steps: PositiveInt = 25
    """Denoising steps."""

    sampler: Sampler = "DPM++ 2M"
    """What takes the steps, by the name that AUTOMATIC1111 gives it (`DPM++ 2M`: Lu et al. 2022, arXiv:2211.01095)."""

    width: Side | None = None
    """Width of the pictures in pixels, a multiple of 8; nothing means the training resolution."""

    height: Side | None = None
    """Height of the pictures in pixels, a multiple of 8; nothing means the training resolution."""

    hires_scale: float = Field(1.0, ge=1, le=4)
    """How many times as wide and high pictures are painted over in a second pass; 1 is without."""

    hires_strength: float = Field(0.5, gt=0, le=1)
    """How much of the first pass the second one paints over: this share of the steps is done again."""

    lora_strength: float = Field(1.0, ge=-4, le=4)
    """How strongly a trained LoRA counts: 1 as it was trained, 0 not at all."""

    guidance_scale: NonNegativeFloat = 7.5
    """Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598); 1 or less is none."""

    negative_prompt: str = ""
    """What the pictures should not show."""

    batch_size: PositiveInt = 4
    """Pictures painted at once."""

    @field_validator("scenes")
    @classmethod
    def _scenes_are_named(cls, scenes: dict[str, str]) -> dict[str, str]:
        for name, prompt in scenes.items():
            if not name.isidentifier():
                raise ValueError(f"{name!r} names a folder: use letters, digits and _ only")
            if "{subject}" not in prompt:
                raise ValueError(f"the prompt of {name!r} lacks {{subject}}, the place of the person")
        return scenes


class ControlConfig(Section):
    """Pictures held to a reference picture's outline or pose (ControlNet, Zhang et al. 2023, arXiv:2302.05543)."""

    enabled: bool = True
    """Paint them."""

    kinds: tuple[ControlName, ...] = ("canny",)
    """What they are held to: `canny` (the outline), `softedge` (the outline, softly), `openpose` (the pose), `depth`;
    each kind has its own ControlNet. `pocket` has those of `canny` and `openpose`."""

    reference: Path | None = None
    """The reference picture; nothing means a picture of the class, painted by the base."""

    ready_made: bool = False
    """The reference that is given is a control image already: white edges, or OpenPose's skeleton, on black."""

    controlnet: str | dict[str, str] = "auto"
    """Hub id, folder or `.safetensors` file of the ControlNet, or a table with one for each kind. `auto` is `pocket`'s
    own, or ControlNet 1.1's for any other base."""

    prompt: str = "a photo of {subject}"
    """Prompt of these pictures."""

    num_images: PositiveInt = 4
    """Pictures by each model."""

    scales: tuple[NonNegativeFloat, ...] = Field((0.0, 0.25, 0.5, 0.75, 1.0), min_length=1)
    """Strengths of the control image, rising, at which pictures are painted and measured; 0 is without it."""

    controlnet_conditioning_scale: NonNegativeFloat = 1.0
    """Strength of the control image in `portrayal generate --control`."""

    control_guidance_start: Fraction = 0.0
    """Share of the steps after which `portrayal generate --control` begins to keep to the control image."""

    control_guidance_end: Fraction = 1.0
    """Share of the steps after which it lets go of the control image."""

    low_threshold: int = Field(100, ge=0, le=255)
    """Canny's lower threshold."""

    high_threshold: int = Field(200, ge=0, le=255)
    """Canny's upper threshold."""

    @field_validator("scales")
    @classmethod
    def _rising(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if list(scales) != sorted(set(scales)) or scales[-1] == 0:
            raise ValueError("give rising strengths, the last above 0, such as [0, 0.5, 1]")
        return scales

    @model_validator(mode="after")
    def _kinds_fit_the_rest(self) -> ControlConfig:
        names = [*self.controlnet] if isinstance(self.controlnet, dict) else []
        unknown = [name for name in names if name not in get_args(ControlName)]
        if unknown:
            raise ValueError(f"controlnet: no kind {unknown[0]!r}; there are {', '.join(get_args(ControlName))}")
        if not self.kinds:
            raise ValueError("kinds: name at least one, or turn control off with enabled=false")
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds: each kind may stand here once")
        if len(self.kinds) > 1 and isinstance(self.controlnet, str) and self.controlnet != "auto":
            raise ValueError('controlnet: with several kinds, give one for each, such as {canny = "auto"}')
        if self.ready_made and len(self.kinds) > 1:
            raise ValueError("ready_made: a control image is of one kind; give that one in kinds")
        return self

    @property
    def reference_is_control_image(self) -> bool:
        """Whether a ready-made control image was given."""
        return self.ready_made and self.reference is not None

    def controlnet_of(self, kind: str) -> str:
        """Hub id, folder or `auto`: the ControlNet of a kind."""
        return self.controlnet if isinstance(self.controlnet, str) else self.controlnet.get(kind, "auto")
