"""The files of a training: they appear whole, and a checkpoint after the record of its steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from portrayal.config import LoraMethod, Method, UnetMethod
from portrayal.settings import load_config
from portrayal.training import trainer
from portrayal.training.onlooker import Onlooker
from portrayal.training.task import Task
from tests.writes import Writes, watched

METHODS: dict[str, Method] = {
    "unet": UnetMethod(learning_rate=1e-4, max_train_steps=3),
    "lora": LoraMethod(rank=2, learning_rate=1e-3, max_train_steps=3),
}


def trained(pocket: Any, encoded: Any, folder: Path, *tasks: Task) -> None:
    fixed = ["training.mixed_precision=no", "training.checkpointing_steps=1", "training.prior_loss_weight=0"]
    work = folder / ".work.training"
    wishes = iter([{"sample"}])
    looker = Onlooker(lambda *_: None, lambda: next(wishes, set()), lambda *_: None, lambda names, step: step)
    trainer.train(pocket, tasks, load_config(None, fixed), work, lambda *_: None, lambda _: None, onlooker=looker)


def order(writes: Writes) -> list[str]:
    return [path.relative_to(writes.folder).as_posix() for path in writes.renamed]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("readings", [(), (2, 3)])
def test_every_file_of_a_training_appears_whole(
    pocket: Any, encoded: Any, tmp_path: Path, name: str, readings: tuple[int, ...]
) -> None:
    with watched(tmp_path) as writes:
        trained(pocket, encoded, tmp_path, Task("m", METHODS[name], encoded, tmp_path / "m", readings=readings))
    assert writes.faults == []
    found = [path for path in order(writes) if path.startswith("m")]
    if readings:
        assert found == ["m/steps/2", "m/steps/3", "m/training.jsonl", "m/method.json"]
    else:
        assert found[-1] == "m"
    assert [path.split("/")[-1] for path in order(writes) if "/checkpoint/" in path] == ["00000001", "00000002"]


def test_a_checkpoint_is_there_once_the_record_of_its_steps_is(
    pocket: Any, encoded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resuming cuts the record to the checkpoint's step: it must not be shorter."""
    flushed: list[str] = []
    flush = os.fsync

    def flushing(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        lines = path.read_text().count("\n") if path.suffix == ".jsonl" else 0
        flushed.append(f"{path.name} {lines}" if lines else path.parent.name if path.is_file() else "")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flushing)
    trained(pocket, encoded, tmp_path, *(Task(name, METHODS["lora"], encoded, tmp_path / name) for name in "ab"))
    seen = [one for one in dict.fromkeys(flushed) if one[:8] in ("a.jsonl ", "b.jsonl ") or one.startswith(".0000000")]
    steps = [one.split(".")[1] if one.startswith(".") else one for one in seen]
    assert steps == ["a.jsonl 1", "b.jsonl 1", "00000001", "a.jsonl 2", "b.jsonl 2", "00000002"]
