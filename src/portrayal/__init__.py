"""Portrayal: ten to twenty photos of a person in; tuned weights, a verdict, pictures and a report out.

    from pathlib import Path
    import portrayal

    config = portrayal.load_config("pocket-demo", ["subject.class_noun=woman"])
    run = portrayal.portray(Path("photos"), config, Path("runs/ann"), consent=True)

Names are imported when first used, so that importing the package is quick. None may be that of a submodule, which would
take its place once it is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portrayal.config import Config
    from portrayal.errors import MachineError, PortrayalError, UsageError
    from portrayal.formats.png import read_settings
    from portrayal.live import request_of_training
    from portrayal.photos.read import RawPhoto, read_photo
    from portrayal.photos.sources import find_photos
    from portrayal.planning import Plan, make_plan
    from portrayal.run import Event, Run, atomic_path
    from portrayal.scale.batch import run_batch
    from portrayal.scale.launch import share_out
    from portrayal.sentences import Said
    from portrayal.settings import effort_settings, load_config
    from portrayal.stages.check import check_photos
    from portrayal.stages.control import control_picture
    from portrayal.stages.doctor import doctor
    from portrayal.stages.export import export_photos
    from portrayal.stages.export_models import export_models
    from portrayal.stages.generate import generate
    from portrayal.stages.hub import publish
    from portrayal.stages.like import paint_like
    from portrayal.stages.models import fetch_models, list_models, models_needed, verify_models
    from portrayal.stages.paint import paint, paint_base
    from portrayal.stages.prepare import prepare
    from portrayal.stages.report import write_report
    from portrayal.stages.train import train
    from portrayal.stages.verify import verify_run
    from portrayal.studio.opening import open_studio
    from portrayal.workflow import evaluate, portray

_HOME = {
    "Config": "config",
    "check_photos": "stages.check",
    "doctor": "stages.doctor",
    "verify_run": "stages.verify",
    "load_config": "settings",
    "MachineError": "errors",
    "PortrayalError": "errors",
    "RawPhoto": "photos.read",
    "Said": "sentences",
    "UsageError": "errors",
    "atomic_path": "run",
    "control_picture": "stages.control",
    "effort_settings": "settings",
    "read_settings": "formats.png",
    "find_photos": "photos.sources",
    "read_photo": "photos.read",
    "request_of_training": "live",
    "paint": "stages.paint",
    "paint_base": "stages.paint",
    "paint_like": "stages.like",
    "Plan": "planning",
    "make_plan": "planning",
    "Event": "run",
    "Run": "run",
    "evaluate": "workflow",
    "export_models": "stages.export_models",
    "export_photos": "stages.export",
    "fetch_models": "stages.models",
    "generate": "stages.generate",
    "list_models": "stages.models",
    "models_needed": "stages.models",
    "portray": "workflow",
    "prepare": "stages.prepare",
    "open_studio": "studio.opening",
    "publish": "stages.hub",
    "run_batch": "scale.batch",
    "share_out": "scale.launch",
    "train": "stages.train",
    "verify_models": "stages.models",
    "write_report": "stages.report",
}

__all__ = [
    "Config",
    "Event",
    "MachineError",
    "Plan",
    "PortrayalError",
    "RawPhoto",
    "Run",
    "Said",
    "UsageError",
    "atomic_path",
    "check_photos",
    "control_picture",
    "doctor",
    "effort_settings",
    "evaluate",
    "export_models",
    "export_photos",
    "fetch_models",
    "find_photos",
    "generate",
    "list_models",
    "load_config",
    "make_plan",
    "models_needed",
    "open_studio",
    "paint",
    "paint_base",
    "paint_like",
    "portray",
    "prepare",
    "publish",
    "read_photo",
    "read_settings",
    "request_of_training",
    "run_batch",
    "share_out",
    "train",
    "verify_models",
    "verify_run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'portrayal' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"portrayal.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
