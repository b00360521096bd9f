"""The whole config: its sections, what must hold between them, and the models and trainings they come to."""

from __future__ import annotations

import math

import tomli_w
from pydantic import NonNegativeInt, model_validator

from portrayal.config.given import BaseConfig, PrepareConfig, SubjectConfig
from portrayal.config.judging import EvaluationConfig
from portrayal.config.methods import DEFAULT_ALPHA, LoraMethod, Method, MethodConfig, StudyConfig, Trial
from portrayal.config.painting import ControlConfig, GenerationConfig
from portrayal.config.section import Section
from portrayal.config.training import TrainingConfig


def short_number(value: float) -> str:
    """`2e-3`, `15e-5`: a number of three significant digits without a point, as names of files hold it."""
    digits, _, exponent = f"{value:.2e}".partition("e")
    digits = digits.replace(".", "").rstrip("0")
    return f"{digits}e{int(exponent) - len(digits) + 1}"


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
    def _alpha_is_of_one_scale(self) -> Config:
        if self.study.lora_scale == "equal" and self.method.lora.alpha is not None and len(self.study.ranks) > 1:
            raise ValueError(
                "method.lora.alpha: with study.lora_scale=equal the scale is 1 at every rank; leave alpha out, or set "
                "study.lora_scale=constant"
            )
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
        pairs = [(rank, multiple) for rank in self.study.ranks for multiple in self.study.learning_rates]
        loras = {self._lora_name(rank, multiple): self._lora(rank, multiple) for rank, multiple in pairs}
        return ({"unet": self.method.unet} if self.study.full_unet else {}) | loras

    @property
    def trials(self) -> dict[str, Trial]:
        """All trainings the study could have, by name: method by method, each seed's folds in order.

        `study.max_trainings` may allow fewer of them.
        """
        study, found = self.study, {}
        for seed in range(study.seeds):
            for fold in range(study.folds):
                for model in self.methods:
                    if model != "unet" or (fold < study.unet_folds and seed == 0):
                        name = model + (f".fold-{fold + 1}" if fold else "") + (f".seed-{seed + 1}" if seed else "")
                        found[name] = Trial(name, model, fold, seed)
        return found

    @property
    def first_round(self) -> list[str]:
        """Names of the trainings that are planned from the start: all, or the full UNet's and each LoRA's first."""
        loras = self.study.num_loras * self.study.folds * self.study.seeds
        if loras <= self.study.most_trainings:
            return [*self.trials]
        return [one.name for one in self.trials.values() if one.model == "unet" or one.fold == one.seed == 0]

    @property
    def num_trials(self) -> int:
        """How many trainings there are, if no LoRA diverges."""
        return self.study.unet_folds * self.study.full_unet + self.study.num_trainings

    def _lora_name(self, rank: int, multiple: float) -> str:
        """`lora-32`, or with its learning rate where there are several: `lora-32-lr1e-4`."""
        if len(self.study.learning_rates) == 1:
            return f"lora-{rank}"
        return f"lora-{rank}-lr{short_number(self.method.lora.learning_rate * multiple)}"

    def _lora(self, rank: int, multiple: float) -> LoraMethod:
        """The LoRA of a rank and a multiple of the learning rate.

        Every file says alpha and rank and means `alpha/rank`: other scales become an alpha.
        """
        lora = self.method.lora
        changes: dict[str, float | None] = {"rank": rank, "learning_rate": lora.learning_rate * multiple}
        if lora.text_encoder_learning_rate is not None:
            changes["text_encoder_learning_rate"] = lora.text_encoder_learning_rate * multiple
        match self.study.lora_scale:
            case "constant":
                changes["alpha"] = lora.alpha or DEFAULT_ALPHA
            case "rank_stabilized":
                changes["alpha"] = (lora.alpha or math.sqrt(min(self.study.ranks))) * math.sqrt(rank)
        return lora.model_copy(update=changes)

    def to_toml(self) -> str:
        """The config as TOML; what is not set is left out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
