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
    from portrayal.errors import PortrayalError
    from portrayal.planning import Plan, make_plan
    from portrayal.run import Event, Run
    from portrayal.settings import load_config
    from portrayal.stages.check import check_photos
    from portrayal.stages.doctor import doctor
    from portrayal.stages.export import export_photos
    from portrayal.stages.export_models import export_models
    from portrayal.stages.generate import generate
    from portrayal.stages.hub import publish
    from portrayal.stages.like import paint_like
    from portrayal.stages.models import fetch_models, list_models, verify_models
    from portrayal.stages.paint import paint, paint_base
    from portrayal.stages.prepare import prepare
    from portrayal.stages.report import write_report
    from portrayal.stages.train import train
    from portrayal.stages.verify import verify_run
    from portrayal.workflow import evaluate, portray

_HOME = {
    "Config": "config",
    "check_photos": "stages.check",
    "doctor": "stages.doctor",
    "verify_run": "stages.verify",
    "load_config": "settings",
    "PortrayalError": "errors",
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
    "portray": "workflow",
    "prepare": "stages.prepare",
    "publish": "stages.hub",
    "train": "stages.train",
    "verify_models": "stages.models",
    "write_report": "stages.report",
}

__all__ = [
    "Config",
    "Event",
    "Plan",
    "PortrayalError",
    "Run",
    "check_photos",
    "doctor",
    "evaluate",
    "export_models",
    "export_photos",
    "fetch_models",
    "generate",
    "list_models",
    "load_config",
    "make_plan",
    "paint",
    "paint_base",
    "paint_like",
    "portray",
    "prepare",
    "publish",
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
