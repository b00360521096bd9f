"""A run's folder: files appear whole or not at all, and one folder holds one run."""

from __future__ import annotations

import errno
import json
import os
import resource
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import save_file

from portrayal.errors import MachineError, RunConflictError, UsageError
from portrayal.run import Event, Run, atomic_folder, atomic_path, write_json, write_text
from portrayal.settings import load_config

PROVENANCE = {"base": {"name": "pocket", "sha256": "0"}, "photos": ["a", "b"], "consent": "not stated"}


class StrangeError(Exception):
    """Something that goes wrong in the middle of writing."""


def no_space(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert everything(tmp_path) == ["deep", "deep/a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(StrangeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half of the n")
        raise StrangeError
    assert everything(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "a.txt").write_text("old")
    with pytest.raises(StrangeError), atomic_folder(tmp_path / "model") as temporary:
        (temporary / "b.txt").write_text("half")
        raise StrangeError
    assert everything(tmp_path) == ["model", "model/a.txt"]


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    for name in ("old.txt", "new.txt"):
        with atomic_folder(tmp_path / "model") as temporary:
            (temporary / name).touch()
    assert everything(tmp_path) == ["model", "model/new.txt"]


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(MachineError, match="No space left") as caught:
        write_json(tmp_path / "scores.json", {})
    assert "--out" in caught.value.remedy
    assert everything(tmp_path) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to make a file larger than this, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_when_weights_are_written(tmp_path: Path) -> None:
    """safetensors wraps what the system says in an error of its own, which is no OSError."""
    weights = {"a": torch.zeros(1 << 16)}
    with files_of_at_most(1 << 10):
        with pytest.raises(MachineError, match="too large"), atomic_path(tmp_path / "a.safetensors") as temporary:
            save_file(weights, temporary)
        with pytest.raises(MachineError, match="too large"), atomic_folder(tmp_path / "model") as temporary:
            save_file(weights, temporary / "a.safetensors")
    assert everything(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for writing in (atomic_path(tmp_path / "file" / "a.txt"), atomic_folder(tmp_path / "file" / "model")):
        with pytest.raises(MachineError), writing as temporary:
            temporary.touch()


def test_a_run_that_could_not_be_started_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def second_is_one_too_many(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            no_space()

    monkeypatch.setattr(os, "fsync", second_is_one_too_many)
    with pytest.raises(MachineError):
        Run.create(tmp_path / "run", load_config(), PROVENANCE)
    monkeypatch.undo()
    assert everything(tmp_path) == []
    Run.create(tmp_path / "run", load_config(), PROVENANCE)


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    config = load_config("pocket-demo", ["seed=7"])
    first = Run.create(tmp_path / "run", config, PROVENANCE)
    created = first.provenance["created"]
    second = Run.create(tmp_path / "run", config, PROVENANCE)
    assert second.config == config == Run.open(tmp_path / "run").config
    assert second.provenance["created"] == created
    assert second.provenance["seed"] == 7


def test_a_new_run_records_what_it_came_from(tmp_path: Path) -> None:
    record = Run.create(tmp_path, load_config(), PROVENANCE).provenance
    assert {"command", "versions", "machine", "seed", "base", "photos", "consent", "created"} <= record.keys()
    assert {"python", "torch", "diffusers", "peft"} <= record["versions"].keys()


@pytest.mark.parametrize(
    ("settings", "changed", "named"),
    [
        (["seed=8"], {}, "seed"),
        (["method.lora.alpha=3"], {}, "method.lora.alpha"),
        (["generation.scenes.beach=a {subject} swims"], {}, "generation.scenes"),
        ([], {"photos": ["a"]}, "photos"),
        ([], {"base": {"name": "pocket", "sha256": "1"}}, "base"),
    ],
)
def test_another_run_is_refused_and_what_differs_is_named(
    tmp_path: Path, settings: list[str], changed: dict[str, object], named: str
) -> None:
    Run.create(tmp_path / "run", load_config(), PROVENANCE)
    before = {name: (tmp_path / name).read_bytes() for name in everything(tmp_path) if (tmp_path / name).is_file()}
    with pytest.raises(RunConflictError) as caught:
        Run.create(tmp_path / "run", load_config(None, settings), PROVENANCE | changed)
    assert named in caught.value.cause
    assert str(tmp_path / "run-2") in caught.value.remedy
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunConflictError, match="not empty"):
        Run.create(tmp_path, load_config(), PROVENANCE)
    assert everything(tmp_path) == ["thesis.txt"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert Run.create(tmp_path, load_config(), PROVENANCE).folder == tmp_path


def test_opening_no_run_suggests_one(tmp_path: Path) -> None:
    Run.create(tmp_path / "ann", load_config(), PROVENANCE)
    with pytest.raises(UsageError) as caught:
        Run.open(tmp_path / "anne")
    assert caught.value.remedy == "did you mean ann?"


@pytest.mark.parametrize("content", ["seed = ", "sede = 1", "\x00"])
def test_a_damaged_config_is_said(tmp_path: Path, content: str) -> None:
    Run.create(tmp_path, load_config(), PROVENANCE)
    (tmp_path / "config.toml").write_text(content)
    with pytest.raises(UsageError):
        Run.open(tmp_path)


def test_a_damaged_record_is_said(tmp_path: Path) -> None:
    Run.create(tmp_path, load_config(), PROVENANCE)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json"):
        Run.create(tmp_path, load_config(), PROVENANCE)


def test_a_stage_is_finished_with_its_inputs_only(tmp_path: Path) -> None:
    run = Run.create(tmp_path, load_config(), PROVENANCE)
    run.mark_finished("train.unet", {"learning_rate": 1e-4}, 1.0)
    assert run.finished("train.unet", {"learning_rate": 1e-4})
    assert not run.finished("train.unet", {"learning_rate": 2e-4})
    assert not run.finished("train.lora-4", {"learning_rate": 1e-4})


def test_events_are_kept_in_order(tmp_path: Path) -> None:
    run = Run.create(tmp_path, load_config(), PROVENANCE)
    run.log(Event("prepare", "started"))
    run.log(Event("prepare", "note", message="ä"))
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["started", "note"]
    assert events[1]["message"] == "ä"


@pytest.mark.parametrize(("settings", "scale"), [([], "equal"), (["method.lora.alpha=4"], "constant")])
def test_a_run_from_before_studies_had_rates_opens_as_it_was_meant(
    tmp_path: Path, settings: list[str], scale: str
) -> None:
    """It has one LoRA of each rank; with an alpha its scale was alpha/rank, and 1 without."""
    run = Run.create(tmp_path / "run", load_config("pocket-demo", ["study.ranks=[2,8]", *settings]), {})
    path = run.folder / "config.toml"
    text = tomllib.loads(path.read_text(encoding="utf-8"))
    text["study"].pop("learning_rates")
    text["study"]["lora_scale"] = "equal"
    path.write_text(tomli_w.dumps(text), encoding="utf-8")
    opened = Run.open(run.folder).config
    assert [*opened.methods] == ["unet", "lora-2", "lora-8"]
    assert opened.study.lora_scale == scale
    assert opened.methods["lora-8"].alpha == (4 if settings else None)
