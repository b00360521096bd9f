"""Every flag of painting and exporting reaches what it is a flag of, under its own name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import portrayal
from portrayal.cli import app
from portrayal.run import Run

CALLED = ("generate", "paint", "paint_base", "paint_like", "export_models", "export_photos")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was called, with which arguments, by their names; of the run its folder."""
    found: list[tuple[str, dict[str, Any]]] = []

    def recorder(name: str) -> Any:
        signature = inspect.signature(getattr(portrayal, name))

        def record(*arguments: Any, **named: Any) -> Any:
            bound = signature.bind(*arguments, **named)
            bound.apply_defaults()
            values = {key: plain(value) for key, value in bound.arguments.items() if key != "progress"}
            found.append((name, values))
            return Path("out") if name == "export_photos" else []

        return record

    for name in CALLED:
        monkeypatch.setattr(portrayal, name, recorder(name))
    return found


def plain(value: Any) -> Any:
    """A run as its folder, sequences as lists."""
    return value.folder if isinstance(value, Run) else list(value) if isinstance(value, list | tuple) else value


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


PAINTING = [
    *("--prompt", "a", "--prompt", "b", "--count", 3, "--seed", 9, "--lora", "x:0.5", "--lora", "y"),
    *("--control", "one.png", "--control-kind", "canny:0.5", "--control", "two.png", "--control-kind", "openpose"),
    *("--set", "generation.sampler=DDIM", "--set", "control.ready_made=true"),
]
PAINTED = {
    "prompts": ["a", "b"],
    "count": 3,
    "seed": 9,
    "loras": ["x:0.5", "y"],
    "controls": [Path("one.png"), Path("two.png")],
    "control_kinds": ["canny:0.5", "openpose"],
    "overrides": ["generation.sampler=DDIM", "control.ready_made=true"],
}
NOTHING = {"loras": [], "controls": [], "control_kinds": [], "overrides": []}


def test_painting_with_a_run_s_models(run: Run, calls: list[Any]) -> None:
    command("generate", run.folder, "--model", "unet", "--model", "lora-2", *PAINTING)
    command("generate", run.folder, "--prompt", "a")

    assert calls == [
        ("paint", {"run": run.folder, "models": ["unet", "lora-2"], **PAINTED}),
        ("paint", {"run": run.folder, "models": [], "prompts": ["a"], "count": 4, "seed": 0, **NOTHING}),
    ]


def test_painting_with_a_base(calls: list[Any]) -> None:
    command("generate", "--base", "pocket", "--out", "there", *PAINTING)
    command("generate", "--prompt", "a")

    plainly = {"prompts": ["a"], "count": 4, "seed": 0, **NOTHING}
    assert calls == [
        ("paint_base", {"base": "pocket", "out": Path("there"), **PAINTED}),
        ("paint_base", {"base": None, "out": Path("pictures"), **plainly}),
    ]


def test_painting_like_another_picture(run: Run, calls: list[Any]) -> None:
    """A seed of 0 is a seed; without one it is the picture's."""
    flags = ["--prompt", "a", "--count", 3, "--seed", 0, "--lora", "x:0.5", "--set", "generation.sampler=DDIM"]
    command("generate", run.folder, "--like", "one.png", "--model", "unet", *flags)
    command("generate", "--like", "one.png", "--base", "pocket", "--out", "there")

    changed = {"prompts": ["a"], "models": ["unet"], "count": 3, "seed": 0, "loras": ["x:0.5"]}
    same = {"prompts": [], "models": [], "count": 1, "seed": None, "loras": [], "overrides": []}
    like = {"picture": Path("one.png")}
    given = {"run": run.folder, "base": None, "out": None, "overrides": ["generation.sampler=DDIM"]}
    assert calls == [
        ("paint_like", like | changed | given),
        ("paint_like", like | same | {"run": None, "base": "pocket", "out": Path("there")}),
    ]


def test_painting_the_scenes(run: Run, calls: list[Any]) -> None:
    command("generate", run.folder)
    command("generate", run.folder, "--model", "unet")

    assert calls == [
        ("generate", {"run": run.folder, "models": []}),
        ("generate", {"run": run.folder, "models": ["unet"]}),
    ]


def test_a_model_without_its_run_is_refused(calls: list[Any]) -> None:
    result = CliRunner().invoke(app, ["generate", "--prompt", "a", "--model", "lora-64"])

    assert result.exit_code == 2
    assert "--model" in result.output
    assert calls == []


def test_exporting_models_and_photos(run: Run, calls: list[Any]) -> None:
    command(
        "export", run.folder, "--to", "kohya, single-file", "--model", "lora-2", "--model", "unet", "--out", "there",
        "--precision", "bf16", "--strength", 0.5, "--rank", 2,
    )  # fmt: skip
    command("export", run.folder)
    command("export-photos", run.folder, "there", "--repeats", 3)

    own = {"run": run.folder}
    forms = {"to": ["kohya", "single-file"], "models": ["lora-2", "unet"], "out": Path("there")}
    plainly = {"to": ["diffusers", "kohya", "single-file"], "models": [], "out": None}
    assert calls == [
        ("export_models", own | forms | {"precision": "bf16", "strength": 0.5, "rank": 2}),
        ("export_models", own | plainly | {"precision": None, "strength": 1.0, "rank": None}),
        ("export_photos", own | {"out": Path("there"), "repeats": 3}),
    ]
