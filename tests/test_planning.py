"""Settling a plan: what is left open is filled in, and what cannot be is refused before anything is made."""

from __future__ import annotations

import pytest
import torch

from portrayal.errors import MachineError, UsageError
from portrayal.planning import settle
from portrayal.settings import load_config


def test_what_is_left_open_is_filled_in() -> None:
    plan = settle(load_config("pocket-demo"))
    assert plan.config.base.resolution == 128
    assert plan.config.base.name == "pocket"
    assert plan.config.training.mixed_precision in ("no", "fp16", "bf16")
    assert plan.num_pictures == 5 * 5 * plan.config.generation.num_images_per_scene


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is fine on a GPU")
def test_fp16_is_refused_where_no_gpu_can_do_it() -> None:
    with pytest.raises(UsageError, match="fp16 needs a CUDA GPU"):
        settle(load_config("pocket-demo", ["training.mixed_precision=fp16"]))


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portrayal.planning.find_spec", lambda name: None)
    with pytest.raises(MachineError, match="wandb is not installed"):
        settle(load_config("pocket-demo", ['training.trackers=["wandb"]']))
