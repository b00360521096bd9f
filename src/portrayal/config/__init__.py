"""The whole config tree: frozen sections, unknown keys refused with the nearest name, a docstring under each field.

The docstrings become the settings page of the docs, the JSON schema and the labels of the web form.
"""

from portrayal.config.given import BaseConfig, PrepareConfig, SubjectConfig
from portrayal.config.judging import EvaluationConfig
from portrayal.config.methods import (
    ATTENTION_TARGETS,
    FEED_FORWARD_TARGETS,
    TEXT_ENCODER_TARGETS,
    LoraMethod,
    Method,
    MethodConfig,
    StudyConfig,
    Trial,
    UnetMethod,
)
from portrayal.config.painting import ORIGINAL_SCENES, ControlConfig, ControlName, GenerationConfig
from portrayal.config.section import Section
from portrayal.config.training import OptimizerConfig, SavePrecision, TrainingConfig
from portrayal.config.whole import Config

__all__ = [
    "ATTENTION_TARGETS",
    "FEED_FORWARD_TARGETS",
    "ORIGINAL_SCENES",
    "TEXT_ENCODER_TARGETS",
    "BaseConfig",
    "Config",
    "ControlConfig",
    "ControlName",
    "EvaluationConfig",
    "GenerationConfig",
    "LoraMethod",
    "Method",
    "MethodConfig",
    "OptimizerConfig",
    "PrepareConfig",
    "SavePrecision",
    "Section",
    "StudyConfig",
    "SubjectConfig",
    "TrainingConfig",
    "Trial",
    "UnetMethod",
]
