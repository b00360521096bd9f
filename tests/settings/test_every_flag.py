"""Every flag is passed on: for each parameter of each command a case shows what it alone changes in the call of the
public API that the command makes, and `--set` changes any key of the config."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import portrayal
from portrayal.cli import app
from portrayal.config import Config
from portrayal.errors import UsageError
from portrayal.settings import load_config
from tests.settings.observations import Facts, flat
from tests.settings.test_every_setting import CASES
from tests.settings.world import SMALL

TINY = str(Path(__file__).parents[1] / "tiny.toml")
CALLED = (
    *("portray", "share_out", "check_photos", "prepare", "train", "generate", "paint", "paint_base", "paint_like"),
    *("evaluate", "write_report", "export_models", "export_photos", "publish", "run_batch", "open_studio"),
    *("verify_run", "doctor", "list_models", "fetch_models", "verify_models"),
)
"""What commands call; of `run` and `plan` also what prints a plan."""


def plain(value: Any) -> Any:
    """A value as it can be compared: runs by their folders, configs as tables."""
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, SimpleNamespace):
        return f"run {value.folder}"
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


class Recorder:
    """Notes the first call of the public API, and ends the command there."""

    def __init__(self) -> None:
        self.facts: Facts = {}

    def spy(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """What takes the place of a function."""
        signature = inspect.signature(real)

        def called(*arguments: Any, **keywords: Any) -> Any:
            bound = signature.bind(*arguments, **keywords)
            bound.apply_defaults()
            given = {key: value for key, value in bound.arguments.items() if key not in ("progress", "watch")}
            if "agree" in given:
                given["agree"] = given["agree"](SimpleNamespace(lines=lambda: []))
            self.facts = {"function": name} | {
                key: item for name, value in given.items() for key, item in flat(plain(value), name).items()
            }
            raise UsageError("Recorded.")

        return called


def call(*arguments: str) -> Facts:
    """What a command asks of the public API, and whether it answers in JSON."""
    recorder = Recorder()

    def make_plan(recipe: str | None, overrides: list[str]) -> Any:
        source = SimpleNamespace(name="pocket", reason="")
        return SimpleNamespace(config=load_config(recipe, overrides), source=source, device="cpu")

    def show_plan(plan: Any, result: dict[str, Any], as_json: bool) -> None:
        recorder.spy("show_plan", lambda config: None)(plan.config)

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLED:
            patch.setattr(portrayal, name, recorder.spy(name, getattr(portrayal, name)))
        patch.setattr(portrayal, "make_plan", make_plan)
        patch.setattr(portrayal, "Run", SimpleNamespace(open=lambda folder: SimpleNamespace(folder=folder)))
        patch.setattr("portrayal.cli.whole.show_plan", show_plan)
        patch.setattr(sys, "argv", ["portrayal", *arguments])
        result = CliRunner().invoke(app, list(arguments))
    assert recorder.facts, result.output
    return recorder.facts | {"json": result.stdout.startswith("{")}


COMMANDS = typer.main.get_command(app).commands | {  # type: ignore[attr-defined]
    f"models {name}": command
    for name, command in typer.main.get_command(app).commands["models"].commands.items()  # type: ignore[attr-defined]
}
RECIPE = ("--recipe", TINY)
BASES: dict[str, tuple[str, ...]] = {
    "run": ("photos", *RECIPE),
    "plan": RECIPE,
    "batch": ("people",),
    "prepare": ("photos", *RECIPE),
    "train": ("runs/ann",),
    "generate": ("runs/ann", "--prompt", "{subject} at sea"),
    "evaluate": ("runs/ann",),
    "report": ("runs/ann",),
    "export": ("runs/ann",),
    "studio": (),
    "publish": ("runs/ann", "ann/lora"),
    "export-photos": ("runs/ann", "out"),
    "verify": ("runs/ann",),
    "doctor": (),
    "models list": (),
    "models fetch": ("clip",),
    "models verify": (),
}
"""How each command is called where nothing else is said."""


class Flag:
    """What a parameter changes in the call.

    Args:
        arguments: How it is given; `None` in place of all others leaves the base's first argument out.
        changes: The arguments of the call that differ, with their values before and after.
        instead: All the command's arguments after it, where the base's cannot stay.
    """

    def __init__(self, arguments: Sequence[str], instead: Sequence[str] | None = None, /, **changes: Any) -> None:
        self.arguments, self.instead, self.changes = tuple(arguments), instead, changes


JSON = Flag(["--json"], json=(False, True))
QUICK = {"folds": (2, 1), "readings": (2, 3), "final": (True, False)}
THOROUGH = {"folds": (2, 5), "unet_folds": (1, 5), "seeds": (1, 3), "max_trainings": (None, 45)}


def of_config(prefix: str = "config.", **changes: Any) -> dict[str, Any]:
    """Changes of a config in a call."""
    return {prefix + key.replace("__", "."): pair for key, pair in changes.items()}


def of_study(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of a config's study in a call."""
    return {f"config.study.{key}": pair for key, pair in changes.items()}


ANOTHER_RECIPE = of_config(recipe=("tiny", "sd15-8gb"), base__name=("pocket", "sd15"))
OF_PLANS = {
    "base": Flag(["--base", "sd15"], **of_config(base__name=("pocket", "sd15"))),
    "class_noun": Flag(["--class", "dog"], **of_config(subject__class_noun=("woman", "dog"))),
    "recipe": Flag([], ["--recipe", "sd15-8gb"], **ANOTHER_RECIPE),
    "settings": Flag(["--set", "seed=7", "--set", "study.seeds=2"], **of_config(seed=(0, 7), study__seeds=(1, 2))),
    "quick": Flag(["--quick"], **of_study(QUICK)),
    "thorough": Flag(["--thorough"], **of_study(THOROUGH)),
    "vae": Flag(["--vae", "someone/vae"], **of_config(base__vae=(None, "someone/vae"))),
    "as_json": JSON,
}
OF_RUNS = OF_PLANS | {
    "photos": Flag([], ["other", *RECIPE], photos=("photos", "other"), out=("runs/photos", "runs/other")),
    "out": Flag(["--out", "there"], out=("runs/photos", "there")),
    "consent": Flag(["--consent"], consent=(None, True)),
    "recipe": Flag([], ["photos", "--recipe", "sd15-8gb"], **ANOTHER_RECIPE),
}


def folder_of(function: str = "run") -> Flag:
    """The folder of a run."""
    return Flag([], ["runs/bea"], **{function: ("run runs/ann", "run runs/bea")})


FLAGS: dict[str, dict[str, Flag]] = {
    "run": OF_RUNS
    | {
        "gpus": Flag(
            ["--gpus", "2"],
            function=("portray", "share_out"),
            arguments=(None, ["run", "photos", "--recipe", TINY]),
            count=(None, 2),
        ),
        "dry_run": Flag(["--dry-run"], function=("portray", "show_plan")),
        "live": Flag(["--live"], live=(False, True)),
    },
    "plan": OF_PLANS,
    "prepare": OF_RUNS
    | {
        "check": Flag(["--check"], function=("prepare", "check_photos"), sheet=(None, "photos-check.jpg")),
        "strict": Flag(["--strict"], **of_config(prepare__strict=(False, True))),
    },
    "batch": {
        "subjects": Flag([], ["table.csv"], subjects=("people", "table.csv")),
        "base": Flag(["--base", "sd15"], settings=([], ['base.name="sd15"'])),
        "class_noun": Flag(["--class", "dog"], settings=([], ['subject.class_noun="dog"'])),
        "out": Flag(["--out", "s3://bucket/runs"], out=("runs", "s3://bucket/runs")),
        "recipe": Flag(["--recipe", "a", "--recipe", "b"], recipes=([], ["a", "b"])),
        "settings": Flag(["--set", "seed=7"], settings=([], ["seed=7"])),
        "quick": Flag(["--quick"], settings=([], portrayal.effort_settings("quick"))),
        "thorough": Flag(["--thorough"], settings=([], portrayal.effort_settings("thorough"))),
        "consent": Flag(["--consent"], consent=(None, True)),
        "address": Flag(["--address", "10.0.0.1:6379"], address=(None, "10.0.0.1:6379")),
        "at_once": Flag(["--at-once", "2"], at_once=(None, 2)),
        "as_json": JSON,
    },
    "train": {
        "folder": folder_of(),
        "model": Flag(["--model", "unet", "--model", "lora-4"], models=([], ["unet", "lora-4"])),
        "gpus": Flag(
            ["--gpus", "2"], function=("train", "share_out"), arguments=(None, ["train", "runs/ann"]), count=(None, 2)
        ),
        "as_json": JSON,
    },
    "generate": {
        "folder": Flag([], ["runs/bea", "--prompt", "{subject} at sea"], run=("run runs/ann", "run runs/bea")),
        "model": Flag(["--model", "lora-4"], models=([], ["lora-4"])),
        "prompt": Flag(
            ["--prompt", "a {subject}"], prompts=(["{subject} at sea"], ["{subject} at sea", "a {subject}"])
        ),
        "count": Flag(["--count", "8"], count=(4, 8)),
        "seed": Flag(["--seed", "3"], seed=(0, 3)),
        "lora": Flag(["--lora", "ann.safetensors:0.5"], loras=([], ["ann.safetensors:0.5"])),
        "control": Flag(["--control", "pose.png"], controls=([], ["pose.png"])),
        "control_kind": Flag(["--control-kind", "canny:0.5"], control_kinds=([], ["canny:0.5"])),
        "like": Flag(
            ["--like", "0001.png"],
            function=("paint", "paint_like"),
            picture=(None, "0001.png"),
            count=(4, 1),
            seed=(0, None),
        ),
        "base": Flag(
            [],
            ["--prompt", "{subject} at sea", "--base", "sd15"],
            function=("paint", "paint_base"),
            base=(None, "sd15"),
            out=(None, "pictures"),
        ),
        "out": Flag(
            [],
            ["--prompt", "{subject} at sea", "--out", "there"],
            function=("paint", "paint_base"),
            base=(None, None),
            out=(None, "there"),
        ),
        "settings": Flag(["--set", "generation.sampler=Euler"], overrides=([], ["generation.sampler=Euler"])),
        "as_json": JSON,
    },
    "evaluate": {"folder": folder_of(), "as_json": JSON},
    "report": {"folder": folder_of(), "as_json": JSON},
    "verify": {"folder": folder_of(), "as_json": JSON},
    "export": {
        "folder": folder_of(),
        "to": Flag(["--to", "kohya, pipeline"], to=(["diffusers", "kohya", "single-file"], ["kohya", "pipeline"])),
        "model": Flag(["--model", "lora-4"], models=([], ["lora-4"])),
        "out": Flag(["--out", "there"], out=(None, "there")),
        "precision": Flag(["--precision", "fp32"], precision=(None, "fp32")),
        "strength": Flag(["--strength", "0.25"], strength=(1.0, 0.25)),
        "rank": Flag(["--rank", "8"], rank=(None, 8)),
        "as_json": JSON,
    },
    "studio": {
        "root": Flag(["--root", "there"], root=("runs", "there")),
        "port": Flag(["--port", "8000"], port=(7860, 8000)),
        "share_on_lan": Flag(["--share-on-lan"], share_on_lan=(False, True)),
        "no_browser": Flag(["--no-browser"], browser=(True, False)),
        "recipe": Flag(["--recipe", "pocket-demo"], recipe=(None, "pocket-demo")),
    },
    "publish": {
        "folder": Flag([], ["runs/bea", "ann/lora"], run=("run runs/ann", "run runs/bea")),
        "repository": Flag([], ["runs/ann", "bea/lora"], repo_id=("ann/lora", "bea/lora")),
        "model": Flag(["--model", "lora-4"], model=(None, "lora-4")),
        "public": Flag(["--public"], private=(True, False)),
        "photos": Flag(["--photos"], photos=(False, True)),
        "consent": Flag(["--consent"], consent=(False, True)),
        "yes": Flag(["--yes"], agree=(False, True)),
        "as_json": JSON,
    },
    "export-photos": {
        "folder": Flag([], ["runs/bea", "out"], run=("run runs/ann", "run runs/bea")),
        "out": Flag([], ["runs/ann", "there"], out=("out", "there")),
        "repeats": Flag(["--repeats", "3"], repeats=(10, 3)),
        "as_json": JSON,
    },
    "doctor": {"out": Flag(["--out", "there"], folder=("runs", "there")), "as_json": JSON},
    "models list": {"as_json": JSON},
    "models fetch": {"names": Flag(["dinov2"], names=(["clip"], ["clip", "dinov2"])), "as_json": JSON},
    "models verify": {"names": Flag(["clip"], names=([], ["clip"])), "as_json": JSON},
}
PARAMETERS = [
    (name, parameter.name)
    for name, command in COMMANDS.items()
    if not hasattr(command, "commands")
    for parameter in command.params
]


def test_every_parameter_of_every_command_has_a_case() -> None:
    assert {(name, flag) for name, flags in FLAGS.items() for flag in flags} == set(PARAMETERS)


@pytest.mark.parametrize(("command", "parameter"), PARAMETERS)
def test_a_flag_is_passed_on_and_nothing_else(command: str, parameter: str) -> None:
    flag = FLAGS[command][parameter]

    before = call(*command.split(), *BASES[command])
    after = call(*command.split(), *(flag.instead or BASES[command]), *flag.arguments)

    other = before["function"] != after["function"]  # whose parameters have other names
    both = before.keys() & after.keys() if other or parameter == "recipe" else before.keys() | after.keys()
    found = {key: (before.get(key), after.get(key)) for key in both if before.get(key) != after.get(key)}
    expected = {key: pair for key, pair in flag.changes.items() if pair[0] != pair[1]}
    if parameter == "recipe":  # what else is in it, another test looks at
        found = {key: pair for key, pair in found.items() if key in expected}
    assert found | {key: (before.get(key), after.get(key)) for key in flag.changes} == flag.changes
    assert found.keys() <= flag.changes.keys()
    assert any(pair[0] != pair[1] for pair in flag.changes.values())


def test_settings_win_over_flags_and_flags_over_the_recipe() -> None:
    flags = ("--quick", "--class", "dog", "--base", "sd15")
    settings = ("--set", "study.folds=4", "--set", "subject.class_noun=cat", "--set", "base.name=pocket")
    for command in ("run", "prepare"):
        facts = call(command, "photos", *RECIPE, *settings, *flags)
        assert facts["config.study.folds"] == 4
        assert facts["config.study.final"] is False
        assert facts["config.subject.class_noun"] == "cat"
        assert facts["config.base.name"] == "pocket"


def test_flags_without_settings_make_no_settings() -> None:
    facts = call("run", "photos", *RECIPE)
    assert {key: value for key, value in facts.items() if key.startswith("config.")} == flat(
        load_config(TINY).model_dump(mode="json"), "config"
    )


@pytest.mark.parametrize("key", list(CASES))
def test_set_reaches_every_key_and_that_alone(key: str) -> None:
    case = CASES[key][0]
    given = [word for text in (*SMALL, *case.given) for word in ("--set", text)]
    before = call("run", "photos", *given)
    after = call("run", "photos", *given, "--set", f"{key}={case.value}")
    found = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert found
    assert {name.removeprefix("config.")[: len(key)] for name in found} == {key}


def test_a_model_without_a_run_is_refused() -> None:
    """The base paints there: a model's name would do nothing."""
    result = CliRunner().invoke(app, ["generate", "--base", "pocket", "--prompt", "a cat", "--model", "lora-4"])
    assert result.exit_code == 2
    assert "--model names a model of a run" in result.output
