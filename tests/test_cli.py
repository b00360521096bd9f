"""The command line: its flags are frozen, its mistakes are said with remedy and exit code, never with a traceback."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from portrayal.cli import app, overrides
from portrayal.cli.printing import show_scores
from portrayal.progress import ProgressLines
from portrayal.run import Event, Run
from portrayal.settings import load_config

OPTIONS = {
    "run": ["--base", "--class", "--out", "--recipe", "--set", "--consent", "--dry-run", "--json"],
    "batch": ["--base", "--class", "--out", "--recipe", "--set", "--consent", "--address", "--json"],
    "plan": ["--base", "--class", "--recipe", "--set", "--json"],
    "prepare": ["--base", "--class", "--out", "--recipe", "--set", "--consent", "--check", "--json"],
    "train": ["--model", "--gpus", "--json"],
    "generate": ["--model", "--prompt", "--seed", "--lora", "--control", "--like", "--set", "--json"],
    "evaluate": ["--json"],
    "export": ["--to", "--model", "--out", "--precision", "--strength", "--rank", "--json"],
    "studio": ["--root", "--port", "--share-on-lan", "--no-browser", "--recipe"],
    "publish": ["--model", "--public", "--photos", "--consent", "--yes", "--json"],
    "export-photos": ["--repeats", "--json"],
    "verify": ["--json"],
    "doctor": ["--out", "--json"],
    "report": ["--json"],
}
SETTINGS = ["--recipe", str(Path(__file__).with_name("tiny.toml"))]


def portrayal(*arguments: object) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return result


def refused(code: int, *arguments: object) -> str:
    """The message of a command that must fail with this exit code, as text and as JSON alike."""
    result = portrayal(*arguments)
    assert result.exit_code == code, result.output
    assert "✗ " in result.stderr
    assert not result.stdout
    told = portrayal(*arguments, "--json")
    record = json.loads(told.stdout)
    assert told.exit_code == code == record["error"]["code"]
    assert record["ok"] is False
    assert record["error"]["message"] in result.stderr
    assert record["error"]["fix"] in result.stderr
    return result.stderr


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# Flags and help --------------------------------------------------------------------------------------------------


def test_the_flags_are_frozen_and_at_most_eight() -> None:
    commands = typer.main.get_command(app).commands
    found = {
        name: [
            option.opts[0]
            for option in command.params
            if option.param_type_name == "option" and not getattr(option, "hidden", False)
        ]
        for name, command in commands.items()
        if not hasattr(command, "commands")
    }
    assert found == OPTIONS
    assert max(len(options) for options in found.values()) <= 8


@pytest.mark.parametrize("command", [[], *([name] for name in OPTIONS)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_flag(command: list[str], flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    result = portrayal(*command, flag)
    assert result.exit_code == 0
    for option in OPTIONS[command[0]] if command else []:
        assert option in result.stdout
    if not command:
        assert all(name in result.stdout for name in OPTIONS)
        assert "Exit codes" in result.stdout


def test_help_imports_nothing_that_takes_long() -> None:
    """What makes it quick: libraries that take seconds to import are left alone."""
    code = """if True:
        import sys
        from portrayal.cli import main
        sys.argv[1:] = ["run", "--help"]
        try:
            main()
        except SystemExit as end:
            assert not end.code
        slow = {"torch", "diffusers", "transformers", "peft", "accelerate", "numpy", "cv2", "PIL", "gradio", "ray"}
        print("loaded:", sorted(slow & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_every_setting_of_the_help_s_examples_is_one() -> None:
    from portrayal import cli

    examples = inspect.getdoc(cli.run) or ""
    settings = [word for line in examples.splitlines() for word in line.split() if "=" in word]
    assert settings
    load_config(None, settings)


# Plans -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_settled_plan_and_makes_nothing(photos: Path, out: Path) -> None:
    result = portrayal("run", photos, "--out", out, "--dry-run", *SETTINGS)
    assert result.exit_code == 0
    plan = tomllib.loads(result.stdout)
    assert plan["base"] == {"name": "pocket", "resolution": 128}
    assert plan["training"]["mixed_precision"] == "no"
    assert plan["study"]["ranks"] == [2, 4]
    assert "trains unet (3 steps), lora-2 (3 steps, 2 times), lora-4 (3 steps, 2 times)" in result.stdout
    assert "paints 24 pictures" in result.stdout
    assert not out.exists()


def planned(photos: Path, *arguments: object) -> dict[str, Any]:
    """What would be done, as JSON."""
    result = portrayal("run", photos, "--dry-run", "--json", *SETTINGS, *arguments)
    assert result.exit_code == 0
    return dict(json.loads(result.stdout)["plan"])


def test_a_study_is_quick_or_thorough(photos: Path) -> None:
    assert planned(photos, "--quick")["trainings"] == {"unet": 1, "lora-2": 1, "lora-4": 1}
    assert planned(photos, "--thorough")["trainings"] == {"unet": 5, "lora-2": 15, "lora-4": 15}
    assert planned(photos, "--thorough", "--set", "study.seeds=1")["trainings"]["lora-2"] == 5
    assert "opposites" in portrayal("run", photos, "--quick", "--thorough").output


def test_a_rank_above_a_layer_s_width_is_noted(photos: Path) -> None:
    plain, wide = planned(photos), planned(photos, "--set", "study.ranks=[4,200]")
    assert plain["notes"] == []
    assert len(wide["notes"]) == 1
    assert wide["notes"][0].startswith("lora-200: rank 200 is above the width of")
    assert wide["disk_gib"] > plain["disk_gib"]


def test_a_dry_run_s_toml_is_a_recipe(photos: Path, out: Path, tmp_path: Path) -> None:
    first = portrayal("run", photos, "--out", out, "--dry-run", *SETTINGS).stdout
    (tmp_path / "again.toml").write_text(first)
    assert portrayal("run", photos, "--out", out, "--dry-run", "--recipe", tmp_path / "again.toml").stdout == first


def test_a_dry_run_as_json(photos: Path, out: Path) -> None:
    record = json.loads(portrayal("run", photos, "--out", out, "--dry-run", "--json", *SETTINGS).stdout)
    assert record["ok"] is True
    assert record["plan"]["models"] == {"unet": 3, "lora-2": 3, "lora-4": 3}
    assert record["plan"]["base"]["name"] == "pocket"
    assert record["plan"]["config"]["seed"] == 0


def test_flags_become_settings_whatever_is_in_them() -> None:
    settings = overrides('/models/ümläut "x" 😀', "dog 🐕", ["seed=3"])
    config = load_config(None, settings)
    assert config.base.name == '/models/ümläut "x" 😀'
    assert config.subject.class_noun == "dog 🐕"
    assert config.seed == 3


# A run, by commands ------------------------------------------------------------------------------------------------


def test_commands_on_a_finished_run_say_where_things_are(tiny_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_run.folder, folder)
    result = portrayal("report", folder, "--json")
    assert json.loads(result.stdout) == {
        "schema": 1, "ok": True, "command": "report", "report": str(folder / "report.html"),
    }  # fmt: skip
    record = json.loads(portrayal("evaluate", folder, "--json").stdout)
    assert record["run"] == str(folder)
    assert [model["name"] for model in record["scores"]["models"]] == ["base", "unet", "lora-2", "lora-4"]
    table = portrayal("evaluate", folder).stdout
    assert record["scores"]["verdict"]["sentence"].split(":")[0][:40] in table.replace("\n", " ")
    for model in ("base", "unet", "lora-2", "lora-4"):
        assert model in table
    assert record["cuts"]["sentence"] in table
    assert json.loads(portrayal("train", folder, "--json").stdout)["next"] == f"portrayal generate {folder}"
    arguments = ["--model", "lora-4", "--prompt", "{subject} at sea", "--count", 1, "--json"]
    painted = json.loads(portrayal("generate", folder, *arguments).stdout)
    assert [Path(path).is_file() for path in painted["pictures"]] == [True]


def test_a_summary_tells_the_smallest_file_that_does_and_the_command_that_writes_it(
    tiny_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "my run", tiny_run.config)
    run.folder.mkdir()
    shutil.copy(tiny_run.folder / "scores.json", run.folder)
    recommended = json.loads((run.folder / "scores.json").read_text())["verdict"]["recommended"]
    said = "The smallest file: rank 2. To write it: portrayal export RUN --to kohya --rank 2"
    for model, shown in ((recommended, True), ("lora-64", False)):  # which was recommended before
        (run.folder / "cuts.json").write_text(json.dumps({"model": model, "sentence": said}))
        result: dict[str, Any] = {}
        show_scores(run, result, False)
        text = capsys.readouterr().out
        assert (f"To write it: portrayal export '{run.folder}' --to kohya --rank 2\n" in text) is shown
        assert result.get("cuts") == ({"model": model, "sentence": said} if shown else None)


def test_a_text_file_among_good_photos_is_noted_and_the_run_goes_on(photos: Path, out: Path, tmp_path: Path) -> None:
    own = tmp_path / "photos"
    shutil.copytree(photos, own)
    (own / "notes [draft].jpg").write_text("no picture at all")
    (own / "empty.jpg").touch()
    result = portrayal("prepare", own, "--out", out, *SETTINGS)
    assert result.exit_code == 0, result.output
    told = " ".join(result.stderr.split())
    assert "notes [draft].jpg" in told
    assert "empty.jpg" in told
    assert len(Run.open(out).provenance["photos"]) == 6


# Mistakes --------------------------------------------------------------------------------------------------------


def test_photos_that_cannot_be_used(photos: Path, out: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    unreadable = tmp_path / "unreadable"
    unreadable.mkdir()
    (unreadable / "a.jpg").write_text("no picture")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.iterdir())[:2]:
        shutil.copy(path, few)
    file = next(photos.glob("*.jpg"))
    for folder in (empty, unreadable, few, tmp_path / "missing", file):
        message = refused(4, "run", folder, "--out", out, *SETTINGS)
        assert str(folder) in message or folder.name in message
        assert not out.exists()


@pytest.mark.parametrize(
    ("code", "settings", "said"),
    [
        (5, ["--base", "pockt"], "did you mean pocket?"),
        (5, ["--base", "model.ckpt"], "never loaded"),
        (5, ["--base", "/nowhere/model.safetensors"], "does not exist"),
        (2, ["--set", "study.ranks=[0]"], "study.ranks.0"),
        (2, ["--set", "method.lora.rank=0"], "method.lora.rank"),
        (2, ["--set", "method.lora.ranks=8"], "did you mean rank?"),
        (2, ["--set", "method.lora.target_modules=['to_kk']"], "did you mean to_k"),
        (2, ["--set", "nonsense"], "section.key=value"),
        (2, ["--set", "generation.scenes.loud='{subject} (woman:20)'"], "weight of 20"),
        (2, ["--set", "generation.negative_prompt='<lora:ann:1>'"], "names a LoRA"),
        (2, ["--set", "generation.sampler=PLMS"], "DPM++ 2M"),
        (2, ["--set", "generation.width=500"], "multiple of 8"),
        (2, ["--set", f"subject.class_noun={'woman ' * 76}elephant"], "elephant"),
        (2, ["--recipe", "pocket-dmo"], "did you mean pocket-demo?"),
        (4, ["--set", "prepare.min_photos=7"], "7"),
        (2, ["--set", "prepare.num_heldout=6", "--set", "study.folds=1"], "Hold out 4 at most"),
    ],
)
def test_settings_that_cannot_be_meant(photos: Path, out: Path, code: int, settings: list[str], said: str) -> None:
    assert said in refused(code, "run", photos, "--out", out, *SETTINGS, *settings)
    assert not out.exists()


def test_a_missing_network_is_said(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("portrayal.models.store.online", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "portrayal models fetch sd15" in refused(5, "run", photos, "--out", out, "--base", "sd15")
    assert not out.exists()


def test_an_output_folder_that_holds_something_else(photos: Path, tiny_run: Run, tmp_path: Path, hashes) -> None:
    taken = tmp_path / "taken"
    shutil.copytree(tiny_run.folder, taken)
    before = hashes(taken)
    assert "another run" in refused(2, "run", photos, "--out", taken, *SETTINGS, "--set", "seed=9")
    assert hashes(taken) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert "not empty" in refused(2, "run", photos, "--out", other, *SETTINGS)
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").touch()
    refused(2, "run", photos, "--out", tmp_path / "file", *SETTINGS)
    refused(3, "run", photos, "--out", tmp_path / "file" / "run", *SETTINGS)


def test_a_full_disk(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path) -> object:
        return shutil._ntuple_diskusage(10**9, 10**9, 1000)

    monkeypatch.setattr(shutil, "disk_usage", no_space)
    assert "GiB free" in refused(3, "run", photos, "--out", out, *SETTINGS)
    assert not out.exists()


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "report"])
def test_no_run_where_one_is_wanted(tmp_path: Path, command: str) -> None:
    assert "holds no run" in refused(2, command, tmp_path)


LONG = "x" * 5000


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (2, ["run", LONG]),
        (2, ["train", LONG]),
        (2, ["generate", LONG]),
        (2, ["verify", LONG]),
        (2, ["batch", LONG]),
        (2, ["doctor", "--out", LONG]),
        (2, ["run", "PHOTOS", "--recipe", LONG]),
        (2, ["run", "PHOTOS", "--set", f"generation.scenes={LONG}"]),
        (2, ["run", "PHOTOS", "--out", LONG, "--consent"]),
        (5, ["run", "PHOTOS", "--base", LONG]),
        (5, ["generate", "--base", "pocket", "--prompt", "a", "--lora", LONG]),
    ],
)
def test_a_name_that_no_disk_can_hold(code: int, command: list[str], photos: Path) -> None:
    refused(code, *(photos if word == "PHOTOS" else word for word in command))


def test_a_prompt_or_model_a_run_cannot_paint(tiny_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"  # the attempts are events of the run
    shutil.copytree(tiny_run.folder, folder)
    assert "weight of 20" in refused(2, "generate", folder, "--prompt", "a (woman:20)")
    assert "names a LoRA" in refused(2, "generate", folder, "--prompt", "a woman <lora:ann:0.8>")
    assert "lora-9" in refused(2, "generate", folder, "--model", "lora-9")
    assert portrayal("generate", folder, "--set", "generation.batch_size=1").exit_code == 2
    assert "seed" in refused(2, "generate", folder, "--prompt", "x", "--set", "seed=3")


@pytest.mark.parametrize("arguments", [["run"], ["run", "x", "--bse", "y"], ["rnu"], ["generate", "x", "--count", "0"]])
def test_what_is_no_command_is_exit_code_2(arguments: list[str]) -> None:
    assert portrayal(*arguments).exit_code == 2


def test_ctrl_c_is_exit_code_130(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("portrayal.workflow.portray", interrupted)
    assert "same command" in refused(130, "run", photos, "--out", out, *SETTINGS)


def test_from_a_shell_there_is_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from portrayal.cli import main; main()", "run", str(tmp_path / "none"), "--json"]
    done = subprocess.run(
        [*command, "--base", "pockt"], capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"}
    )
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == 5
    assert "Traceback" not in done.stderr
    assert "did you mean pocket?" in done.stderr


# Progress --------------------------------------------------------------------------------------------------------


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLines() as lines:
        lines.show(Event("prepare", "note", message="IMG [copy].jpg: [/] cannot be read"))
    assert "IMG [copy].jpg: [/] cannot be read" in capsys.readouterr().err


def test_every_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLines() as lines:
        for done in range(4):
            lines.show(Event("train.lora-4", "progress", done, 3))
        lines.show(Event("train.lora-4", "finished"))
        lines.show(Event("generate.unet", "skipped"))
    assert capsys.readouterr().err.splitlines() == ["train lora-4: done", "paint scenes unet: done before"]
