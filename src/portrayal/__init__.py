"""Portrayal: ten to twenty photos of a person in; tuned weights, a verdict, pictures and a report out.

    from pathlib import Path
    import portrayal

    config = portrayal.load_config("pocket-demo", ["subject.class_noun=woman"])
    run = portrayal.portray(Path("photos"), config, Path("runs/ann"), consent=True)

Names are imported when first used, so that importing the package is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portrayal.config import Config, load_config
    from portrayal.errors import PortrayalError
    from portrayal.paint import paint
    from portrayal.planning import Plan, make_plan
    from portrayal.run import Event, Run
    from portrayal.workflow import evaluate, generate, portray, prepare, report, train

_HOME = {
    "Config": "config",
    "load_config": "config",
    "PortrayalError": "errors",
    "paint": "paint",
    "Plan": "planning",
    "make_plan": "planning",
    "Event": "run",
    "Run": "run",
    "evaluate": "workflow",
    "generate": "workflow",
    "portray": "workflow",
    "prepare": "workflow",
    "report": "workflow",
    "train": "workflow",
}

__all__ = [
    "Config",
    "Event",
    "Plan",
    "PortrayalError",
    "Run",
    "evaluate",
    "generate",
    "load_config",
    "make_plan",
    "paint",
    "portray",
    "prepare",
    "report",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'portrayal' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"portrayal.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
