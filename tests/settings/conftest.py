"""What the tests of settings share: a small world, on the CPU, in which nothing waits for the disk."""

from __future__ import annotations

import os

import pytest
import torch

from tests.settings.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small base, photos and runs; observations in it leave it as it was."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers with and without a GPU, and nothing that a power cut must not undo."""
    monkeypatch.setattr("portrayal.models.base.choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(os, "fsync", lambda _: None)
