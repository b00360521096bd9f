"""The whole config tree: frozen sections, unknown keys refused with the nearest name, a docstring under each field.

The docstrings become the settings page of the docs, the JSON schema and the labels of the web form.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import tomli_w
from PIL import ImageColor
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

ORIGINAL_SCENES = {
    "street": "a photo of {subject} on the street",
    "football": "a photo of {subject} on a football field",
    "kitchen": "a photo of {subject} in the kitchen",
    "office": "a photo of {subject} in the office",
    "forest": "a photo of {subject} in the forest",
}

ATTENTION_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD_TARGETS = ("ff.net.0.proj", "ff.net.2")
TEXT_ENCODER_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")

PEOPLE = frozenset(
    {"person", "human", "adult", "woman", "man", "girl", "boy", "lady", "gentleman", "guy", "child", "kid", "baby"}
    | {"toddler", "teenager", "mother", "father", "sister", "brother", "daughter", "son", "wife", "husband", "bride"}
    | {"groom", "grandmother", "grandfather", "actor", "actress", "singer", "dancer", "model", "athlete", "player"}
    | {"doctor", "nurse", "soldier", "king", "queen", "prince", "princess"}
)
"""Nouns of people, whose faces tell them apart."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Precision = Annotated[
    Literal["auto", "no", "fp16", "bf16"], BeforeValidator(lambda value: "no" if value == "fp32" else value)
]
SavePrecision = Literal["fp16", "bf16", "fp32"]
Export = Literal["kohya", "diffusers", "single-file", "pipeline"]
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
LearningRateSchedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]


class Section(BaseModel):
    """A part of the config: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SubjectConfig(Section):
    """Who is in the photos, and the words that call them up."""

    instance_token: str = Field("sks", min_length=1)
    """A rare word that comes to mean the subject."""

    class_noun: str = Field("person", min_length=1)
    """What the subject is: `woman`, `man`, `person`, `dog`. The class is what prior preservation protects."""

    instance_prompt: str = "a photo of {token} {noun}"
    """Caption of a photo that has no `.txt` beside it; `{token}` and `{noun}` are filled in."""

    class_prompt: str = "a photo of a {noun}"
    """Prompt of the class images for prior preservation; `{noun}` is filled in."""

    @property
    def person(self) -> bool:
        """Whether the noun is a person's."""
        return bool(set(self.class_noun.lower().split()) & PEOPLE)

    @property
    def subject(self) -> str:
        """The words that name the subject in a prompt, such as `sks woman`."""
        return f"{self.instance_token} {self.class_noun}"

    @property
    def filled_instance_prompt(self) -> str:
        """The instance prompt with its placeholders filled in."""
        return self.instance_prompt.replace("{token}", self.instance_token).replace("{noun}", self.class_noun)

    @property
    def filled_class_prompt(self) -> str:
        """The class prompt with its placeholder filled in."""
        return self.class_prompt.replace("{noun}", self.class_noun)


class BaseConfig(Section):
    """The text-to-image model that is tuned."""

    name: str = "auto"
    """`pocket` (embedded), `sd15`, a hub id, a diffusers folder or a `.safetensors` file. `auto` chooses."""

    revision: str | None = None
    """Commit, branch or tag of a hub id; nothing means its default branch."""

    config: str | None = None
    """Diffusers folder or hub id whose configs and tokenizer a `.safetensors` file is read with (SD 1.5's)."""

    vae: str | None = None
    """Hub id, diffusers folder or `.safetensors` file of an autoencoder to use instead of the base's own."""

    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the base predicts, where its files do not tell; nothing believes them."""

    resolution: PositiveInt | None = None
    """Side of the training pictures in pixels, a multiple of 8; nothing means the base's own."""

    @field_validator("resolution")
    @classmethod
    def _multiple_of_eight(cls, value: int | None) -> int | None:
        if value is not None and value % 8:
            raise ValueError(f"must be a multiple of 8, such as {max(8, value // 8 * 8)}")
        return value


class PrepareConfig(Section):
    """How photos become training pictures."""

    num_heldout: PositiveInt | None = None
    """Photos kept out of a training to judge it by. Nothing deals all photos over the study's folds; where it has one
    fold, it means a fifth, four at most."""

    min_photos: int = Field(3, ge=3)
    """Fewer usable photos than this stop the run."""

    drop: tuple[str, ...] = ()
    """Names of photos to leave out, as `portrayal prepare --check` advises."""

    keep: tuple[str, ...] = ()
    """Names of photos to train on whatever the check says of them."""

    strict: bool = False
    """Stop before training when the advice is to drop a photo that `keep` does not name."""

    background: str = "white"
    """Colour under what is transparent in a photo: a name or `#rrggbb`."""

    crops: Literal["one", "several"] = "one"
    """Squares of each photo: `one` is the largest; `several` adds, where a face is found and nothing need be enlarged,
    head and shoulders, and down to the waist. Photos to judge by have the largest alone."""

    shape: Literal["square", "bucket"] = "square"
    """What photos to train on become: squares, or the shape nearest to their own of those with the square's area, sides
    in eighths of the resolution. Photos to judge by are squares."""

    crop: dict[str, tuple[NonNegativeInt, NonNegativeInt, PositiveInt]] = {}
    """Squares chosen by hand, by the photo's name: left, top and side in pixels of the upright photo."""

    captions: Literal["template", "captioner"] = "template"
    """Captions of photos that bring none: `template` is the instance prompt for all; `captioner` adds what each photo
    shows besides the subject (clothes, place, framing), so that the instance token stands for the subject alone."""

    masks: Literal["given", "model"] = "given"
    """Masks for `training.background_loss_weight`: `given` are those beside the photos; `model` has CLIPSeg (fetched)
    find the class noun in photos that have none."""

    @field_validator("background")
    @classmethod
    def _known_colour(cls, value: str) -> str:
        ImageColor.getrgb(value)
        return value


class UnetMethod(Section):
    """Train every weight of the UNet (DreamBooth, Ruiz et al. 2023, arXiv:2208.12242)."""

    kind: Literal["unet"] = "unet"

    learning_rate: PositiveFloat = 2e-6
    """Step size of the UNet's weights."""

    max_train_steps: PositiveInt = 800
    """Optimizer updates."""

    train_text_encoder: bool = False
    """Tune the text encoder together with the UNet."""

    text_encoder_learning_rate: PositiveFloat | None = None
    """Step size of the text encoder; nothing means the UNet's."""

    master_weights: bool = True
    """Keep fp32 weights, and their averages in fp32, beside the half ones that compute. Without, a weight takes 6 bytes
    instead of 16: bf16 weights whose steps are rounded by chance, averages in 8 bits; in bf16, with `adamw`."""


class LoraMethod(Section):
    """Train low-rank adapters on a frozen UNet (Hu et al. 2021, arXiv:2106.09685)."""

    kind: Literal["lora"] = "lora"

    rank: PositiveInt = 64
    """Rank `r` of each update `ΔW = scale·B·A`; a study gives each LoRA its own, from `study.ranks`."""

    alpha: PositiveFloat | None = None
    """Numerator of the scale `alpha/rank`. Nothing keeps the scale 1 at every rank, so that ranks compare fairly."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that an input of an adapter is dropped in training."""

    target_modules: tuple[str, ...] = Field(ATTENTION_TARGETS + FEED_FORWARD_TARGETS, min_length=1)
    """Ends of the names of the UNet's layers that get an adapter; each must match at least one layer."""

    learning_rate: PositiveFloat = 1e-4
    """Step size of the adapters."""

    max_train_steps: PositiveInt = 800
    """Optimizer updates."""

    train_text_encoder: bool = False
    """Give the text encoder's attention layers adapters too."""

    text_encoder_learning_rate: PositiveFloat | None = None
    """Step size of the text encoder's adapters; nothing means the UNet's."""


Method = UnetMethod | LoraMethod


class MethodConfig(Section):
    """What is trained: the settings of each method."""

    unet: UnetMethod = UnetMethod()
    """The full UNet."""

    lora: LoraMethod = LoraMethod()
    """The LoRAs; a study gives each its own rank."""


class Trial(NamedTuple):
    """One training of a study."""

    name: str
    """That of its model for the first; of others such as `lora-64.fold-2` or `lora-64.fold-2.seed-3`."""

    model: str
    fold: int
    """Which photos are held out, from 0."""

    seed: int
    """Which of the study's seeds, from 0."""


class StudyConfig(Section):
    """Which models are trained and compared."""

    full_unet: bool = True
    """Train the full UNet."""

    ranks: tuple[PositiveInt, ...] = (32, 64, 128)
    """Train one LoRA at each of these ranks."""

    lora_scale: Literal["equal", "rank_stabilized"] = "equal"
    """By what the ranks' updates `B·A` are multiplied: `equal` is `alpha/rank`, 1 at every rank if alpha is not set;
    `rank_stabilized` is `alpha/√rank` (Kalajdzievski 2023, arXiv:2312.03732), 1 at the smallest rank without alpha."""

    folds: PositiveInt = 3
    """Parts the photos are dealt into: each LoRA trains once without each part and is judged on it. With a single fold
    the luck of a training cannot be told from a difference of methods."""

    unet_folds: PositiveInt = 1
    """How many of these folds the full UNet is trained on, which takes the longest."""

    seeds: PositiveInt = 1
    """Trainings of each LoRA on each fold, each from another seed; the full UNet is trained from one."""

    readings: PositiveInt = 6
    """Times in its course that a training is looked at; the weights are kept until the best step is chosen."""

    final: bool = True
    """Train the recommended model once more, on all photos, up to its best step."""

    loras_at_once: PositiveInt | None = None
    """LoRAs trained in one batch, each as it would train alone; nothing means as many as fit into memory, 1 one by one.
    LoRAs with dropout train one by one."""

    @field_validator("ranks")
    @classmethod
    def _distinct(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(ranks)) != len(ranks):
            raise ValueError("each rank may stand here once")
        return ranks

    @model_validator(mode="after")
    def _unet_has_no_more_folds(self) -> StudyConfig:
        if self.unet_folds > self.folds:
            raise ValueError(f"unet_folds: there are {self.folds} folds")
        return self


class OptimizerConfig(Section):
    """The optimizer, from torch or a kept library."""

    name: Literal["adamw", "adamw8bit", "prodigy", "adafactor"] = "adamw"
    """`adamw` (torch), `adamw8bit` (bitsandbytes), `prodigy` (prodigyopt; finds its own step
    size, so learning rates only set ratios), `adafactor` (torch; reads neither betas nor eps)."""

    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of the running means of gradient and squared gradient."""

    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""


class TrainingConfig(Section):
    """The training loop: the same for every method."""

    train_batch_size: PositiveInt = 1
    """Photos in one forward pass; with prior preservation class images ride along."""

    class_batch_size: PositiveInt | None = None
    """Class images in one forward pass; nothing means as many as photos. Fewer cost less, and their loss weighs the
    same."""

    gradient_accumulation_steps: PositiveInt = 1
    """Forward passes in one step."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    cuda_graph: bool = True
    """Run a step on a CUDA GPU as one graph, recorded once: the same step, and the GPU does not wait for the CPU."""

    mixed_precision: Precision = "auto"
    """`no` (or `fp32`), `fp16`, `bf16`; `auto` is bf16 where the GPU has it, fp16 on older ones, `no` on the CPU."""

    prior_loss_weight: NonNegativeFloat = 1.0
    """Weight of the class images' loss against the photos'; 0 turns prior preservation off."""

    background_loss_weight: float = Field(1.0, ge=0, le=1)
    """Weight of what lies outside a photo's mask (`NAME.mask.png` beside it, white on the subject, or
    `prepare.masks=model`) in its loss; 1 leaves masks out. Photos without a mask count whole."""

    random_crops: NonNegativeInt = 0
    """Slightly smaller crops of each photo, nine tenths of its sides or more, that are trained on in turn with the
    whole; all are encoded once."""

    random_flip: bool = False
    """Train on mirror images too, in turn with the photos as they are. Off, for a face is not symmetrical."""

    num_class_images: PositiveInt = 200
    """Class images the base paints once, kept for later runs."""

    caption_dropout: Fraction = 0.0
    """Chance that a photo is trained on with an empty caption, which keeps guidance at work."""

    lr_scheduler: LearningRateSchedule = "constant"
    """How the learning rate moves over the steps."""

    lr_warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises from 0."""

    max_grad_norm: PositiveFloat = 1.0
    """Gradients longer than this are scaled down to it."""

    snr_gamma: PositiveFloat | None = None
    """Min-SNR weighting of the loss (Hang et al. 2023, arXiv:2303.09556); 5 is usual, nothing is off."""

    noise_offset: NonNegativeFloat = 0.0
    """Strength of a constant added to each channel's noise, which widens the range of brightness."""

    checkpointing_steps: NonNegativeInt = 250
    """Steps between checkpoints for resuming; 0 keeps none."""

    checkpoints_total_limit: PositiveInt = 2
    """Checkpoints that are kept of a training, the newest ones; where the newest is damaged, the one before goes on."""

    shard_optimizer: bool = False
    """Where several processes share the steps of a full UNet: each keeps the optimizer's numbers of its share of the
    weights alone, for less memory (ZeRO stage 1, Rajbhandari et al. 2020, arXiv:1910.02054). Goes with `adamw`."""

    save_precision: SavePrecision = "fp16"
    """Number format of the saved weights."""

    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers besides the run's own files; each needs its package."""

    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""


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


class EvaluationConfig(Section):
    """How models are judged, all on the same random numbers."""

    num_timesteps: int = Field(20, ge=2, le=1000)
    """Strata of the timestep range; each held-out photo is read once or more in each."""

    num_noises: PositiveInt = 2
    """Noise draws in each stratum, in antithetic pairs."""

    identity: str = "auto"
    """Who tells the person from others in photographs: `auraface` or `sface` (faces), `dinov2` (the whole picture), or
    an ONNX file of an ArcFace-like recogniser, whose terms are yours to keep: many are for research only. `auto` takes
    the first that can be had, for people; for others `dinov2`. `pocket` has its own."""

    margin_heldout_loss: PositiveFloat = 0.001
    """Held-out losses closer than this fraction count as equal."""

    margin_identity: PositiveFloat = 0.02
    """Identity cosines closer than this count as equal."""

    margin_prompt: PositiveFloat = 0.005
    """Prompt cosines closer than this count as equal."""

    margin_drift: PositiveFloat = 0.05
    """Cosines of the class's pictures to the person closer than this count as equal."""

    margin_colour: PositiveFloat = 2.0
    """Lightness this near to the photos and the base's pictures, in L*, counts as right; an eye notices about 2."""


class Config(Section):
    """Everything a run is a function of, besides the photos."""

    recipe: str = ""
    """The recipe these settings started from."""

    seed: NonNegativeInt = 0
    """Seed of every random number of the run."""

    subject: SubjectConfig = SubjectConfig()
    base: BaseConfig = BaseConfig()
    prepare: PrepareConfig = PrepareConfig()
    method: MethodConfig = MethodConfig()
    study: StudyConfig = StudyConfig()
    training: TrainingConfig = TrainingConfig()
    generation: GenerationConfig = GenerationConfig()
    control: ControlConfig = ControlConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _something_is_trained(self) -> Config:
        if not self.study.full_unet and not self.study.ranks:
            raise ValueError("study: nothing to train; set full_unet or give ranks")
        return self

    @model_validator(mode="after")
    def _small_state_has_an_optimizer(self) -> Config:
        if self.study.full_unet and not self.method.unet.master_weights and self.training.optimizer.name != "adamw":
            raise ValueError("method.unet.master_weights: false goes with training.optimizer.name=adamw only")
        return self

    @model_validator(mode="after")
    def _shards_are_of_adamw(self) -> Config:
        training, masters = self.training, self.method.unet.master_weights
        plain = training.optimizer.name == "adamw" and masters and training.mixed_precision != "fp16"
        if training.shard_optimizer and not plain:
            raise ValueError(
                "training.shard_optimizer: true goes with training.optimizer.name=adamw, "
                "method.unet.master_weights=true and no fp16"
            )
        return self

    @property
    def methods(self) -> dict[str, Method]:
        """The models of the study by name, in the order they are trained."""
        loras = {f"lora-{rank}": self._lora(rank) for rank in self.study.ranks}
        return ({"unet": self.method.unet} if self.study.full_unet else {}) | loras

    @property
    def trials(self) -> dict[str, Trial]:
        """The trainings of the study by name: method by method, each seed's folds in order."""
        study, found = self.study, {}
        for seed in range(study.seeds):
            for fold in range(study.folds):
                for model in self.methods:
                    if model != "unet" or (fold < study.unet_folds and seed == 0):
                        name = model + (f".fold-{fold + 1}" if fold else "") + (f".seed-{seed + 1}" if seed else "")
                        found[name] = Trial(name, model, fold, seed)
        return found

    def _lora(self, rank: int) -> LoraMethod:
        """The LoRA of a rank. Every file says alpha and rank and means `alpha/rank`: other scales become an alpha."""
        lora = self.method.lora
        if self.study.lora_scale == "equal":
            return lora.model_copy(update={"rank": rank})
        alpha = math.sqrt(min(self.study.ranks)) if lora.alpha is None else lora.alpha
        return lora.model_copy(update={"rank": rank, "alpha": alpha * math.sqrt(rank)})

    def to_toml(self) -> str:
        """The config as TOML; what is not set is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
