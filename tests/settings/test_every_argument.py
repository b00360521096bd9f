"""Every argument of what exports and paints reaches the files: a case for each shows what it alone changes."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from portrayal.errors import UsageError
from portrayal.formats.png import read_settings
from portrayal.run import Run
from portrayal.stages.export_models import export_models
from portrayal.stages.like import paint_like
from portrayal.stages.paint import paint, paint_base
from tests.settings.observations import Facts, digest, dtype_of, loaded
from tests.settings.test_every_setting import CHANGED, DOWN, differences, fits
from tests.settings.world import World

LORA_FILE = "pytorch_lora_weights.safetensors"
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "export_models": export_models,
    "paint": paint,
    "paint_base": paint_base,
    "paint_like": paint_like,
}


def run_with_loras(world: World) -> Run:
    """A run with two trained LoRAs: of rank 2, at two seeds; the last is taken where none is named."""
    run = world.run(f"control.controlnet={world.controlnet}", trained=True)
    shutil.copytree(world.other_lora, run.model_folder("lora-4"))
    return run


def images(paths: list[Path]) -> Facts:
    """The settings inside of images, by key, and their pixels."""
    facts: Facts = {"files": [f"{path.parent.name}/{path.name}" for path in paths]}
    facts["pixels"] = [digest(loaded(path)) for path in paths]
    for path in paths:
        settings = read_settings(path)
        assert settings is not None
        settings["loras"] = [(lora["name"], lora["strength"], lora["own"]) for lora in settings["loras"]]
        settings["controls"] = [
            tuple(control[key] for key in ("kind", "scale", "start", "end")) for control in settings["controls"]
        ]
        for key in ("prompt", "seed", "model", "base", "loras", "controls", "num_inference_steps", "width"):
            facts.setdefault(key, []).append(settings[key])
    return facts


def export_models_facts(world: World, **arguments: Any) -> Facts:
    """Files of two forms, and how far the weights of the whole pipeline are from the base's."""
    paths = export_models(run_with_loras(world), **({"to": ["kohya", "pipeline"]} | arguments))
    facts: Facts = {"names": [path.name for path in paths], "folders": sorted({path.parent.name for path in paths})}
    for path in paths:
        weights = path / "unet" / "diffusion_pytorch_model.safetensors"
        if path.is_file():
            with safe_open(path, framework="pt") as file:
                facts |= {"kohya": dtype_of(path), "rank": file.metadata()["ss_network_dim"]}
        else:
            base, tuned = load_file(world.base / "unet" / weights.name), load_file(weights)
            moved = [(tuned[name].double() - base[name].double()).norm() for name in base if "to_q" in name]
            facts |= {"pipeline": dtype_of(weights), "moved": round(float(torch.stack(moved).norm()), 6)}
    return facts


def paint_facts(world: World, **arguments: Any) -> Facts:
    """A prompt by the models of a run."""
    run = run_with_loras(world)
    return images(paint(run, **({"prompts": ["{subject} dancing"], "count": 1} | arguments)))


def paint_base_facts(world: World, **arguments: Any) -> Facts:
    """A prompt by a base, without a run."""
    settings = ["generation.num_inference_steps=4", f"control.controlnet={world.controlnet}"]
    given: dict[str, Any] = {"prompts": ["a photo"], "out": world.place() / "out", "base": str(world.base), "count": 1}
    given |= arguments
    given["overrides"] = [*settings, *arguments.get("overrides", ())]
    return images(paint_base(**given))


def paint_like_facts(world: World, picture: int = 0, **arguments: Any) -> Facts:
    """An image that the base painted at a seed, again."""
    few, out = ["generation.num_inference_steps=4"], world.place() / "out"
    (first,) = paint_base(["a photo"], out, base=str(world.base), count=1, seed=picture, overrides=few)
    given = {"base": str(world.base)} | arguments
    return images(paint_like(first, **given))


@dataclass(frozen=True)
class Argument:
    """What an argument changes.

    Attributes:
        value: The other value.
        changes: The facts that differ.
        given: Other arguments, the same before and after.
    """

    value: Any
    changes: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)


BOTH = ["run-lora-4.safetensors", "run-lora-4-pipeline"]
PAINTED = {
    "prompts": Argument(["a {subject}"], {"prompt": (["sks woman dancing"], ["a sks woman"]), "pixels": CHANGED}),
    "models": Argument(
        ["base", "lora-2"],
        {
            "files": (["lora-4/0000.png"], ["base/0000.png", "lora-2/0000.png"]),
            "model": (["lora-4"], ["base", "lora-2"]),
            "loras": ([[("lora-4", 1.0, True)]], [[], [("lora-2", 1.0, True)]]),
            **dict.fromkeys(("prompt", "seed", "base", "controls", "num_inference_steps", "width", "pixels"), CHANGED),
        },
    ),
    "count": Argument(2, {"seed": ([0], [0, 1])}),
    "seed": Argument(5, {"seed": ([0], [5]), "pixels": CHANGED}),
    "controls": Argument(["plain.jpg"], {"controls": ([[]], [[("canny", 1.0, 0.0, 1.0)]]), "pixels": CHANGED}),
    "control_kinds": Argument(
        ["canny:0.5:0-0.5"],
        {"controls": ([[("canny", 1.0, 0.0, 1.0)]], [[("canny", 0.5, 0.0, 0.5)]]), "pixels": CHANGED},
        {"controls": ["plain.jpg"]},
    ),
    "loras": Argument(
        ["LORA:0.5"],
        {"loras": ([[("lora-4", 1.0, True)]], [[("lora-4", 1.0, True), ("lora-2", 0.5, False)]]), "pixels": CHANGED},
    ),
    "overrides": Argument(["generation.width=96"], {"width": ([64], [96]), "pixels": CHANGED}),
}
BY_THE_BASE = {
    "loras": Argument(["LORA:0.5"], {"loras": ([[]], [[("lora-2", 0.5, False)]]), "pixels": CHANGED}),
    "prompts": Argument(["a cat"], {"prompt": (["a photo"], ["a cat"]), "pixels": CHANGED}),
    "base": Argument("OTHER", {"base": (["base"], ["configs"])}),
}
ARGUMENTS: dict[str, dict[str, Argument]] = {
    "export_models": {
        "to": Argument(["kohya"], {"names": (BOTH, BOTH[:1])}),
        "models": Argument(
            ["lora-2"], {"names": (BOTH, ["run-lora-2.safetensors", "run-lora-2-pipeline"]), "moved": CHANGED}
        ),
        "out": Argument("there", {"folders": (["exports"], ["there"])}),
        "precision": Argument(
            "fp32",
            {
                "names": (BOTH, ["run-lora-4-fp32.safetensors", "run-lora-4-fp32-pipeline"]),
                "kohya": ("F16 F32", "F32"),
                "pipeline": ("F16", "F32"),
                "moved": CHANGED,
            },
        ),
        "strength": Argument(0.25, {"names": (BOTH, [BOTH[0], "run-lora-4-at-0.25-pipeline"]), "moved": DOWN}),
        "rank": Argument(
            1,
            {
                "names": (BOTH, ["run-lora-4-rank-1.safetensors", "run-lora-4-rank-1-pipeline"]),
                "rank": ("2", "1"),
                "moved": DOWN,
            },
        ),
    },
    "paint": PAINTED,
    "paint_base": {key: argument for key, argument in PAINTED.items() if key != "models"}
    | BY_THE_BASE
    | {"out": Argument("there", {"files": (["out/0000.png"], ["there/0000.png"])})},
    "paint_like": {key: PAINTED[key] for key in ("seed", "overrides")}
    | BY_THE_BASE
    | {
        "picture": Argument(3, {"seed": ([0], [3]), "pixels": CHANGED}),
        "models": Argument(["lora-2"], {"error": (None, "lora-2 is a model of a run.")}),
        "count": Argument(2, {"seed": ([0], [0, 1])}),
        "out": Argument("there", {"files": (["out/0001.png"], ["there/0000.png"])}),
    },
}
NOT_ARGUMENTS = {"run", "progress"}
"""What they work on, and who watches."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_has_a_case(name: str) -> None:
    assert set(ARGUMENTS[name]) == set(inspect.signature(FUNCTIONS[name]).parameters) - NOT_ARGUMENTS


def filled(world: World, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the paths of this world."""
    paths = {
        "out": lambda value: world.place() / value,
        "controls": lambda value: [world.photos / name for name in value],
        "loras": lambda value: [text.replace("LORA", str(world.lora / LORA_FILE)) for text in value],
        "base": lambda value: value.replace("OTHER", str(world.configs)),
    }
    return {key: paths[key](value) if key in paths else value for key, value in arguments.items()}


FACTS = {
    "export_models": export_models_facts,
    "paint": paint_facts,
    "paint_base": paint_base_facts,
    "paint_like": paint_like_facts,
}


def facts_of(world: World, name: str, arguments: dict[str, Any]) -> Facts:
    """What a function makes of arguments; observed once."""
    key = (name, repr(sorted(arguments.items())))
    if key not in world.known:
        try:
            world.known[key] = FACTS[name](world, **filled(world, arguments))
        except UsageError as error:
            world.known[key] = {"error": error.cause}
    return world.known[key]


CASES = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_an_argument_reaches_the_files_and_nothing_else(world: World, name: str, argument: str) -> None:
    case = ARGUMENTS[name][argument]

    before, after = facts_of(world, name, case.given), facts_of(world, name, case.given | {argument: case.value})

    found = differences(before, after)
    if argument in ("count", "models") and "error" not in after:  # of all images; these are more
        found = {key: pair for key, pair in found.items() if key in case.changes}
    assert found.keys() == case.changes.keys(), found
    assert all(fits(expected, *found[key]) for key, expected in case.changes.items()), found
