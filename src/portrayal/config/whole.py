"""The whole config: its sections, what must hold between them, and the models and trainings they come to."""

from __future__ import annotations

import math

import tomli_w
from pydantic import NonNegativeInt, model_validator

from portrayal.config.given import BaseConfig, PrepareConfig, SubjectConfig
from portrayal.config.judging import EvaluationConfig
from portrayal.config.methods import LoraMethod, Method, MethodConfig, StudyConfig, Trial
from portrayal.config.painting import ControlConfig, GenerationConfig
from portrayal.config.section import Section
from portrayal.config.training import TrainingConfig


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
