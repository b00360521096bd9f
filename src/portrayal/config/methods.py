"""What is trained: the full UNet, or LoRAs; and which of them a study trains, how often, on which photos."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from portrayal.config.section import Section

DEFAULT_ALPHA = 32.0
"""Alpha of a LoRA where none is set, at every rank. Of 8, 16, 32 and 64 it has the widest range of learning rates that
neither learn too little nor diverge (`python -m benchmarks.alpha_trials`), and at rank 32 the scale is 1."""

ATTENTION_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD_TARGETS = ("ff.net.0.proj", "ff.net.2")
TEXT_ENCODER_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


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
    """Numerator of the scale `alpha/rank`. None means 32, or what `study.lora_scale` says."""

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


LearningRateMultiple = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class StudyConfig(Section):
    """Which models are trained and compared."""

    full_unet: bool = True
    """Train the full UNet."""

    ranks: tuple[PositiveInt, ...] = (32, 64, 128)
    """Train LoRAs at each of these ranks."""

    learning_rates: tuple[LearningRateMultiple, ...] = Field((0.5, 1.0, 2.0), min_length=1)
    """Train a LoRA of each rank at each of these multiples of `method.lora.learning_rate` (and of the text encoder's
    rate). What the best rate is depends on the photos, the base and the steps: see docs/verdict.md."""

    lora_scale: Literal["constant", "equal", "rank_stabilized"] = "constant"
    """By what the ranks' updates `B·A` are multiplied. `constant`: `alpha/rank` with one alpha for all ranks, so that
    one learning rate moves the model equally far at every rank. `equal`: 1 at every rank; larger ranks learn faster.
    `rank_stabilized`: `alpha/√rank` (Kalajdzievski 2023, arXiv:2312.03732), 1 at the smallest rank without alpha."""

    max_trainings: PositiveInt | None = None
    """LoRA trainings at most. Where the study could have more, every LoRA is trained on the first fold, and the best of
    them on the others (sequential halving, Karnin et al. 2013); one that diverges does not count. None means 13, or
    four more than there are LoRAs."""

    folds: PositiveInt = 3
    """Parts the photos are dealt into: a LoRA trains once without each part and is judged on it. With a single fold the
    luck of a training cannot be told from a difference of methods."""

    unet_folds: PositiveInt = 1
    """How many of these folds the full UNet is trained on, which takes the longest."""

    seeds: PositiveInt = 1
    """Trainings of each LoRA on each fold, each from another seed; the full UNet is trained from one."""

    readings: PositiveInt = 6
    """Times in its course that a training is looked at; the weights are kept until the best step is chosen."""

    keep_readings: bool = False
    """Keep the weights of all readings, in `models/NAME/readings`, not only those of the best step."""

    final: bool = True
    """Train the recommended model once more, on all photos, up to its best step."""

    loras_at_once: PositiveInt | None = None
    """LoRAs trained in one batch, each as it would train alone; nothing means as many as fit into memory, 1 one by one.
    LoRAs with dropout train one by one."""

    @field_validator("ranks")
    @classmethod
    def _distinct_ranks(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(ranks)) != len(ranks):
            raise ValueError("each rank may stand here once")
        return ranks

    @field_validator("learning_rates")
    @classmethod
    def _distinct_rates(cls, multiples: tuple[float, ...]) -> tuple[float, ...]:
        if len({f"{multiple:.3g}" for multiple in multiples}) != len(multiples):
            raise ValueError("each learning rate may stand here once")
        return multiples

    @model_validator(mode="after")
    def _unet_has_no_more_folds(self) -> StudyConfig:
        if self.unet_folds > self.folds:
            raise ValueError(f"unet_folds: there are {self.folds} folds")
        return self

    @model_validator(mode="after")
    def _grid_within_the_budget(self) -> StudyConfig:
        if self.num_loras > self.most_trainings:
            raise ValueError(
                f"max_trainings: {len(self.ranks)} ranks at {len(self.learning_rates)} learning rates are "
                f"{self.num_loras} LoRAs, and each is trained once at least; allow more trainings or try fewer"
            )
        return self

    @property
    def num_loras(self) -> int:
        """LoRAs that are compared: each rank at each learning rate."""
        return len(self.ranks) * len(self.learning_rates)

    @property
    def most_trainings(self) -> int:
        """How many LoRA trainings there may be."""
        return max(13, self.num_loras + 4) if self.max_trainings is None else self.max_trainings

    @property
    def num_trainings(self) -> int:
        """How many LoRA trainings there are, if none diverges."""
        return min(self.most_trainings, self.num_loras * self.folds * self.seeds)
