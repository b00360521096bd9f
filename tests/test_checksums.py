"""Damage is told by content, of every kind of file; and one process at a time works on what is whole."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from portrayal import checksums, files, live, lock
from portrayal.errors import MachineError, RunConflictError
from portrayal.models import store
from portrayal.models.source import weights_hash
from portrayal.parallel import in_threads
from portrayal.run import Run
from portrayal.settings import load_config
from portrayal.stages import verify
from portrayal.stages.shared import at_work, silent
from portrayal.training.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint

PROVENANCE = {"base": {"name": "pocket", "sha256": "0"}, "photos": ["a"], "consent": "not stated"}
KINDS = (
    "run.json",
    "config.toml",
    "scores.json",
    "looks.json",
    "cuts.json",
    "report.html",
    "report.md",
    "report/street.webp",
    "report/chart.svg",
    "dataset/manifest.json",
    "dataset/images/a.png",
    "dataset/masks/a.png",
    "encoded/photos-128x128.safetensors",
    "stages/evaluate.json",
    "votes.json",
    "models/stopped.json",
    "models/base/heldout.json",
    "models/lora-2/method.json",
    "models/lora-2/training.jsonl",
    "models/lora-2/README.md",
    "models/lora-2/pytorch_lora_weights.safetensors",
    "models/lora-2/lora-2.kohya.safetensors",
    "models/unet/unet/diffusion_pytorch_model.safetensors",
    "models/lora-2/trackers/tensorboard/events.out.tfevents.1",
    "images/lora-2/street/0.png",
    "images/control/canny/control.png",
    "pictures/final/0000.png",
    "exports/ann.safetensors",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with a file of each kind, of which checksums are kept."""
    for number, name in enumerate(KINDS):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * 100)
    checksums.keep(tmp_path / "run")
    return tmp_path / "run"


def turn_a_bit(path: Path, *, at: int = 50, hidden: bool) -> None:
    """Change a bit; hidden, the file's size and time stay as they were."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    if hidden:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize("name", KINDS)
def test_one_bit_of_any_file_is_told(folder: Path, name: str) -> None:
    assert checksums.faults(folder) == []
    turn_a_bit(folder / name, hidden=True)
    assert checksums.faults(folder) == [f"{name} is not what was written"]


def test_what_is_rewritten_at_the_same_size_is_read_again(folder: Path) -> None:
    """By a command of ours: then it is as it should be."""
    for name in KINDS:
        turn_a_bit(folder / name, hidden=False)
    checksums.keep(folder)
    assert checksums.faults(folder) == []
    assert {name: row["sha256"] for name, row in checksums.read(folder).items()} == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in KINDS
    }


def test_only_what_grows_or_is_hidden_has_no_checksum(folder: Path) -> None:
    for name in ("events.jsonl", "estimate.json", "live.json", ".lock", "models/.unet.training/unet.jsonl"):
        files.write_text(folder / name, "")
    assert {name for name, _ in checksums.made(folder)} == set(KINDS)
    assert set(checksums.read(folder)) == set(KINDS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run.json": 1}', '{"run.json": {"sha256": 1}}'])
def test_damaged_checksums_are_none(folder: Path, content: str) -> None:
    (folder / checksums.NAME).write_text(content)
    assert checksums.read(folder) == {}
    checksums.keep(folder)
    assert set(checksums.read(folder)) == set(KINDS)


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("at", [30, -3])
def test_one_bit_of_a_checkpoint_is_told_and_the_one_before_is_taken(tmp_path: Path, file: str, at: int) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step, "weight": torch.full((8,), float(step))}, keep=2)
    turn_a_bit(tmp_path / "00000002" / file, at=at, hidden=True)
    with pytest.raises(Exception):  # noqa: B017,PT011 - JSON's, safetensors' or ours
        read_checkpoint(tmp_path / "00000002")
    said: list[str] = []
    found = load_checkpoint(tmp_path, said.append)
    assert found is not None
    assert (found["step"], len(said), found["weight"].tolist()) == (1, 1, [1.0] * 8)
    assert not (tmp_path / "00000002").exists()


@pytest.mark.parametrize("digits", [64, 40])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.onnx"])
def test_one_bit_of_a_model_of_others_is_told(tmp_path: Path, name: str, digits: int) -> None:
    """Large files are named by SHA-256 in the hub's cache, small ones as git names them."""
    file = tmp_path / "file"
    save_file({"a": torch.zeros(64)}, file)
    content = file.read_bytes()
    named = {64: hashlib.sha256(content), 40: hashlib.sha1(b"blob %d\0" % len(content) + content)}
    blob = file.rename(tmp_path / named[digits].hexdigest())
    (tmp_path / name).symlink_to(blob)
    assert store.fault_of(tmp_path / name) == ""
    turn_a_bit(blob, at=-5, hidden=True)
    assert store.fault_of(tmp_path / name) == "its content is not what was fetched"


# Whether a model paints --------------------------------------------------------------------------------------------


@dataclass
class Painter:
    """Paints the one picture it has."""

    picture: Image.Image
    settings: Any = field(default_factory=lambda: load_config("pocket-demo").generation)

    def paint(self, prompts: list[str], seeds: list[int]) -> Iterator[Image.Image]:
        yield self.picture


@pytest.mark.parametrize(
    ("picture", "fine"),
    [
        (Image.new("RGB", (16, 16), "black"), False),  # of weights that are not finite
        (Image.new("RGB", (16, 16), (120, 120, 120)), False),
        (Image.linear_gradient("L").convert("RGB"), True),
        (Image.effect_noise((16, 16), 8).convert("RGB"), True),
    ],
)
def test_a_model_paints_if_its_picture_shows_anything(
    picture: Image.Image, fine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", load_config("pocket-demo"), PROVENANCE)
    monkeypatch.setattr(verify, "base_of", lambda run: None)
    monkeypatch.setattr(verify, "generator_of", lambda run: Painter(picture))
    monkeypatch.setattr(verify, "in_place", lambda *_: nullcontext())
    with nullcontext() if fine else pytest.raises(ValueError, match="of one colour"):
        verify.check_painting(run, "base", None)


# At work -----------------------------------------------------------------------------------------------------------


def test_what_a_run_has_made_is_noted_however_its_command_ends(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", load_config("pocket-demo"), PROVENANCE)
    for number, error in enumerate((None, MachineError("enough"), KeyboardInterrupt(), ZeroDivisionError())):
        with nullcontext() if error is None else pytest.raises(type(error)), at_work(run.folder, silent):
            files.write_text(run.folder / f"{number}.txt", "a")
            if error is not None:
                raise error
        assert f"{number}.txt" in checksums.read(run.folder)


def test_what_is_being_written_is_swept_by_no_command_inside_another(tmp_path: Path) -> None:
    """Only what a command that was killed left is."""
    folder = tmp_path / "run"
    with at_work(folder, silent):
        with files.atomic_path(folder / "a.txt") as temporary:
            temporary.write_text("whole")
            (folder / "events.jsonl").write_text('{"half')
            with at_work(folder, silent):
                pass
            assert temporary.is_file()
            assert (folder / "events.jsonl").read_text() == '{"half'
        assert (folder / "a.txt").read_text() == "whole"
        (folder / ".b.txt.7.tmp").touch()
    with at_work(folder, silent):
        assert not (folder / ".b.txt.7.tmp").exists()
        assert (folder / "events.jsonl").read_text() == ""


def test_a_folder_goes_from_its_place_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, half of it would be taken for all."""
    (tmp_path / "steps" / "2").mkdir(parents=True)
    seen: list[bool] = []
    remove: Callable[..., None] = shutil.rmtree

    def removing(path: Path, **options: Any) -> None:
        seen.append((tmp_path / "steps").exists())
        remove(path, **options)

    monkeypatch.setattr(files.shutil, "rmtree", removing)
    files.drop_folder(tmp_path / "steps")
    files.drop_folder(tmp_path / "steps")  # there is none any more
    assert seen == [False, False]
    assert list(tmp_path.iterdir()) == []


def test_the_old_folder_is_there_until_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.txt").write_text("old")
    replace = Path.replace

    def failing(path: Path, target: Path) -> Path:
        found = list(tmp_path.glob("**/a.txt"))
        assert "old" in [one.read_text() for one in found]
        if path.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(MachineError), files.atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a.txt").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "a.txt").read_text() == "old"


# The lock ----------------------------------------------------------------------------------------------------------


def test_a_lock_file_that_went_with_its_owner_is_not_the_lock(tmp_path: Path) -> None:
    """Opened before its owner let it go, locked after: another may hold the new one."""
    path = tmp_path / lock.NAME
    opened = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert lock._locked(opened, path)
        path.unlink()
        assert not lock._locked(opened, path)
        path.touch()
        assert not lock._locked(opened, path)
    finally:
        os.close(opened)


def test_a_lock_that_another_holds_is_refused_and_free_once_it_lets_go(tmp_path: Path) -> None:
    other = os.open(tmp_path / lock.NAME, os.O_RDWR | os.O_CREAT)
    os.write(other, json.dumps(lock.owner()).encode())
    for mode in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        fcntl.flock(other, mode)
        with pytest.raises(RunConflictError), lock.held(tmp_path):
            pass
    os.close(other)
    with lock.held(tmp_path), pytest.raises(BlockingIOError):
        ours = os.open(tmp_path / lock.NAME, os.O_RDWR)
        try:
            fcntl.flock(ours, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(ours)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "dead"),
    [
        ({}, False),
        ({"host": "elsewhere"}, False),  # nobody can know
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),
        ({"pid": 2**22 + 1}, True),
        ({"started": 1}, True),  # another process has its number
        ({"pid": "12"}, True),
        ({"pid": None}, True),
    ],
)
def test_an_owner_is_dead_if_it_is_known_to_be(changed: dict[str, Any], dead: bool) -> None:
    assert lock.gone(json.loads(json.dumps(lock.owner() | changed))) is dead


@pytest.mark.parametrize(
    ("error", "lives"), [(ProcessLookupError(), False), (PermissionError(), True), (OSError(errno.EINVAL, ""), True)]
)
def test_a_process_that_may_not_be_asked_lives(error: OSError, lives: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(pid: int, number: int) -> None:
        assert number == 0
        raise error

    monkeypatch.setattr(os, "kill", asked)
    assert lock.alive(1) is lives


# Weights and checkpoints -------------------------------------------------------------------------------------------


def test_other_weights_of_the_same_size_are_another_base(tmp_path: Path) -> None:
    """By which a run knows that it is not the same run, and a picture tells what painted it."""
    seen = []
    for number in range(3):
        save_file({"a": torch.full((64,), float(number))}, tmp_path / "base.safetensors")
        os.utime(tmp_path / "base.safetensors", ns=(number, number))  # clocks of disks are coarse
        seen.append(weights_hash(tmp_path / "base.safetensors"))
        assert seen[-1] == hashlib.sha256((tmp_path / "base.safetensors").read_bytes()).hexdigest()
    assert len(set(seen)) == 3


def test_older_checkpoints_go_once_the_new_one_is_there(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    with pytest.raises(MachineError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "flush", lambda path: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        save_checkpoint(tmp_path, {"step": 2})
    assert load_checkpoint(tmp_path) == {"step": 1}
    save_checkpoint(tmp_path, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["00000002"]


def test_work_in_threads_is_given_back_in_order_and_its_first_error_raised() -> None:
    def act(number: int) -> int:
        if number < 0:
            raise ValueError(number)
        time.sleep(0.002 * (number % 3))
        return number**2

    assert in_threads(act, range(40)) == [number**2 for number in range(40)]
    assert in_threads(act, []) == []
    with pytest.raises(ValueError, match="-1"):
        in_threads(act, [3, -1, 2, -2])


# Swept, asked ------------------------------------------------------------------------------------------------------


def test_nothing_but_what_is_half_written_is_swept(tmp_path: Path) -> None:
    """Trainings under way keep their checkpoints, whatever dots are in their names."""
    names = (".lora-2.fold-2.training", ".unet.training", ".lora-2.fold-2.seed-3.training", ".pack-0a1b.training")
    kept = [f"models/{name}/checkpoint/00000001/state.json" for name in names]
    kept += [".requests/stop", ".lock", ".my.own.file", "a.1.tmp", ".a.tmp", "models/unet.1.old/a.txt"]
    swept = ["models/.unet.17.tmp/a.txt", "models/.lora-2.fold-2.x_1.tmp/a.txt", ".scores.json.17.tmp"]
    for name in (*kept, *swept, ".gone.17.old/a.txt"):
        files.make_folder((tmp_path / name).parent)
        (tmp_path / name).touch()
    assert len(files.sweep(tmp_path)) == len(swept) + 1
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, "gone/a.txt"}  # which had stepped aside


def test_what_is_asked_of_a_training_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SECONDS", 0.0)
    requests = live.Requests(tmp_path)
    requests.open()
    live.request_of_training(tmp_path, "sample")
    assert [requests.take(), requests.take()] == [{"sample"}, set()]
    live.request_of_training(tmp_path, "stop")
    live.Requests(tmp_path).open()  # of the next training: what was asked before is not meant
    assert requests.take() == set()
