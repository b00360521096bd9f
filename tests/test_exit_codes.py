"""What a command leaves to scripts: an exit code for each kind of error, one JSON object, and no consent unasked."""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import portrayal
from portrayal import cli, errors
from portrayal.cli import app
from portrayal.cli.outcome import outcome, say
from portrayal.errors import PortrayalError, UsageError
from portrayal.scale.launch import exit_code
from portrayal.scale.outcomes import failure

CODES = {
    "PortrayalError": 1,
    "UsageError": 2,
    "RunConflictError": 2,
    "MachineError": 3,
    "PhotosError": 4,
    "WeightsError": 5,
    "OutOfMemoryError": 6,
    "TrainingDivergedError": 7,
}
CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, PortrayalError)]


def subclasses(kind: type[PortrayalError]) -> list[type[PortrayalError]]:
    return [found for one in kind.__subclasses__() for found in (one, *subclasses(one))]


def test_the_codes_are_frozen_and_everywhere_the_same() -> None:
    """In the classes, in the tree that is drawn above them, and in the help."""
    assert {one.__name__: one.exit_code for one in CLASSES} == CODES
    drawn = re.findall(r"^[│├└─\s]*(\w+Error)\s+(\d+)", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in drawn} == CODES
    told = dict(re.findall(r"(\d+) ([\w ]+?)(?: \(|\.| ·|$)", str(app.info.epilog)))
    assert told.keys() == {str(code) for code in (0, *CODES.values(), 8, 130)}
    words = {
        "2": "usage",
        "3": "machine",
        "4": "photos",
        "5": "weights",
        "6": "memory",
        "7": "diverged",
        "8": "subjects",
    }
    assert all(word in told[code] for code, word in words.items())


def test_every_error_of_ours_has_the_code_of_its_kind() -> None:
    """Those that are defined beside what raises them too."""
    for one in subclasses(PortrayalError):
        kind = next(parent for parent in one.__mro__ if parent.__name__ in CODES)
        assert one.exit_code == CODES[kind.__name__], one


def ended(act: Callable[[], None], as_json: bool, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = 0
    try:
        with outcome("test", as_json):
            act()
    except typer.Exit as end:
        code = end.exit_code
    return code, *capsys.readouterr()


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


ENDS: list[tuple[BaseException, int]] = [
    *((one("what is wrong", "what to do"), one.exit_code) for one in CLASSES),
    (KeyboardInterrupt(), 130),
    *((OSError(number, os.strerror(number), "a.png"), 3) for number in (errno.ENOSPC, errno.EACCES, errno.EROFS)),
    *((OSError(number, os.strerror(number), "a.png"), 3) for number in (errno.EPERM, errno.EDQUOT, errno.EIO)),
    (OSError(errno.ENAMETOOLONG, "File name too long", "x"), 2),
]


@pytest.mark.parametrize(("error", "code"), ENDS, ids=lambda one: repr(one)[:40])
def test_an_error_is_said_with_its_code_as_text_and_as_json(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, output, said = ended(raising(error), False, capsys)
    assert (found, output) == (code, "")
    assert said.startswith("✗ ")
    assert len(said.splitlines()) == 2  # cause, remedy
    found, output, said_again = ended(raising(error), True, capsys)
    assert (found, said_again) == (code, said)
    record = json.loads(output)
    assert (record["ok"], record["schema"], record["command"]) == (False, 1, "test")
    assert record["error"]["code"] == code
    assert record["error"]["message"] in said
    assert record["error"]["fix"] in said


def test_what_is_no_error_of_the_disk_is_a_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (FileNotFoundError(errno.ENOENT, "No such file"), ZeroDivisionError()):
        with pytest.raises(type(error)):
            ended(raising(error), True, capsys)


@pytest.mark.parametrize(("code", "told"), [(0, 0), (7, 7), (130, 130), (-9, 137), (-15, 143)])
def test_a_process_that_a_signal_ended_has_failed(code: int, told: int) -> None:
    assert exit_code(code) == told


def test_a_batch_records_the_code_of_what_stopped_a_subject() -> None:
    for one in CLASSES:
        assert (failure("ann", one("a", "b")).error or {})["code"] == one.exit_code


# One JSON object ---------------------------------------------------------------------------------------------------


class Calls:
    """Stands for the public functions: takes note of what they are called with."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def stand_in(self, name: str, value: Any) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self.seen.append((name, arguments, named))
            progress = named.get("progress")
            if progress is not None:
                progress(portrayal.Event("prepare", "note", message="a note"))
            return value

        return called

    def options(self, name: str) -> dict[str, Any]:
        (found,) = [named for called, _, named in self.seen if called == name]
        return found


@pytest.fixture
def run(tmp_path: Path) -> portrayal.Run:
    from portrayal.run import Run, write_json
    from portrayal.settings import load_config

    run = Run.create(tmp_path / "run", load_config("pocket-demo"), {"base": {}, "photos": []})
    verdict = {"recommended": "lora-8", "winner": None, "best_lora": "lora-8", "sentence": "Use it.", "reasons": []}
    write_json(run.folder / "scores.json", {"models": [], "verdict": verdict, "levels": {}, "encoders": {}})
    return run


@pytest.fixture
def calls(run: portrayal.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The public functions, replaced."""
    found = Calls()
    summary = {"subjects": 1, "failed": [], "done": 1}
    values: dict[str, Any] = {
        "portray": run,
        "prepare": run,
        "train": None,
        "generate": None,
        "evaluate": {},
        "write_report": tmp_path / "report.html",
        "export_models": [tmp_path / "a"],
        "export_photos": tmp_path / "kohya",
        "publish": "https://huggingface.co/me/ann",
        "run_batch": summary,
        "paint": [tmp_path / "0.png"],
        "paint_base": [tmp_path / "0.png"],
    }
    for name, value in values.items():
        monkeypatch.setattr(portrayal, name, found.stand_in(name, value), raising=False)
    monkeypatch.setattr("portrayal.progress.print_scores", lambda *_: print("a table"))
    return found


SETTINGS = ["--recipe", "pocket-demo"]
COMMANDS: dict[str, list[str]] = {
    "run": ["run", "PHOTOS", *SETTINGS],
    "batch": ["batch", "PHOTOS"],
    "plan": ["plan", *SETTINGS],
    "prepare": ["prepare", "PHOTOS", *SETTINGS],
    "train": ["train", "RUN"],
    "generate": ["generate", "RUN"],
    "generate prompts": ["generate", "RUN", "--prompt", "a {subject}"],
    "evaluate": ["evaluate", "RUN"],
    "report": ["report", "RUN"],
    "export": ["export", "RUN"],
    "publish": ["publish", "RUN", "me/ann", "--yes"],
    "export-photos": ["export-photos", "RUN", "OUT"],
    "models list": ["models", "list"],
}


def carried_out(words: list[str], run: portrayal.Run, photos: Path, tmp_path: Path, **options: Any) -> Any:
    places = {"PHOTOS": str(photos), "RUN": str(run.folder), "OUT": str(tmp_path / "out")}
    return CliRunner().invoke(app, [places.get(word, word) for word in words], **options)


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_one_object_on_standard_output_and_nothing_else(
    name: str, run: portrayal.Run, calls: Calls, photos: Path, tmp_path: Path
) -> None:
    """Numbers that are none (NaN) are not JSON, whatever Python's reader takes."""

    def refuse(text: str) -> None:
        pytest.fail(f"{text} is no JSON")

    result = carried_out([*COMMANDS[name], "--json"], run, photos, tmp_path)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout, parse_constant=refuse)
    assert len(result.stdout.splitlines()) == 1
    assert record["schema"] == 1
    assert record["ok"] is True
    assert record["command"] in (name.split()[0], name, name.replace(" ", "."), f"{name.split()[0]}s")


def test_what_is_printed_line_by_line_is_not_printed_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    result: dict[str, Any] = {}
    say(result, True, files=["a", "b"], report="c")
    assert (capsys.readouterr().out, result) == ("", {"files": ["a", "b"], "report": "c"})
    say(result, False, files=["a", "b"], report="c")
    assert capsys.readouterr().out.split() == ["files", "a", "files", "b", "report", "c"]


# Consent -----------------------------------------------------------------------------------------------------------

ASKING = {"run": "portray", "prepare": "prepare", "batch": "run_batch"}


@pytest.mark.parametrize(("command", "function"), ASKING.items())
@pytest.mark.parametrize(("flags", "consent"), [([], None), (["--consent"], True), (["--json"], None)])
def test_consent_is_what_was_stated_and_nothing_where_nobody_was_asked(
    command: str,
    function: str,
    flags: list[str],
    consent: bool | None,
    run: portrayal.Run,
    calls: Calls,
    photos: Path,
    tmp_path: Path,
) -> None:
    result = carried_out([*COMMANDS[command], *flags], run, photos, tmp_path)
    assert result.exit_code == 0, result.output
    assert calls.options(function)["consent"] is consent


@pytest.mark.parametrize(("command", "function"), ASKING.items())
@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_at_a_terminal_it_is_asked_and_no_means_that_nothing_is_done(
    command: str,
    function: str,
    typed: str,
    code: int,
    run: portrayal.Run,
    calls: Calls,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    asked = cli.flags.sys
    monkeypatch.setattr(cli.flags, "sys", type("System", (), {"stdin": Terminal, "argv": asked.argv}))
    result = carried_out(COMMANDS[command], run, photos, tmp_path, input=typed)
    assert result.exit_code == code, result.output
    assert "agree" in result.output
    if code:
        assert calls.seen == []
    else:
        assert calls.options(function)["consent"] is True


def test_publishing_is_private_without_photos_and_asks(
    run: portrayal.Run, calls: Calls, photos: Path, tmp_path: Path
) -> None:
    publish = ["publish", "RUN", "me/ann"]
    carried_out(publish, run, photos, tmp_path)
    plain = calls.options("publish")
    assert (plain["private"], plain["photos"], plain["consent"]) == (True, False, False)
    assert plain["agree"](type("Publication", (), {"lines": lambda self: ["a line"]})()) is False  # nobody is there
    calls.seen.clear()
    carried_out([*publish, "--public", "--photos", "--consent", "--yes"], run, photos, tmp_path)
    asked = calls.options("publish")
    assert (asked["private"], asked["photos"], asked["consent"]) == (False, True, True)
    assert asked["agree"](type("Publication", (), {"lines": lambda self: []})()) is True


def test_what_the_public_functions_take_for_granted_is_private() -> None:
    options = inspect.signature(portrayal.publish).parameters
    assert {name: options[name].default for name in ("private", "photos", "consent")} == {
        "private": True,
        "photos": False,
        "consent": False,
    }
    for function in (portrayal.portray, portrayal.prepare, portrayal.run_batch):
        assert inspect.signature(function).parameters["consent"].default is None


def test_a_usage_error_is_no_other() -> None:
    with pytest.raises(UsageError) as caught:
        raise errors.RunConflictError("cause", "remedy")
    assert (caught.value.cause, caught.value.remedy, str(caught.value)) == ("cause", "remedy", "cause\nremedy")
