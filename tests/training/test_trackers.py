"""Trackers: what they were told lies beside the model's weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from portrayal.config import LoraMethod
from portrayal.settings import load_config
from portrayal.training.task import Task
from portrayal.training.trainer import train

pytest.importorskip("tensorboard")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard.*")
def test_tensorboard_events_come_with_the_model(pocket, encoded, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = load_config(None, ["training.mixed_precision=no", 'training.trackers=["tensorboard"]'])
    folder = tmp_path / "lora-2"
    method = LoraMethod(rank=2, max_train_steps=3)
    train(pocket, [Task("lora-2", method, encoded, folder)], config, tmp_path / "work", lambda done, total: None)
    (events,) = folder.rglob("*tfevents*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert [scalar.step for scalar in accumulator.Scalars("loss")] == [1, 2, 3]
