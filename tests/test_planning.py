"""Settling a plan: what is left open is filled in, and what cannot be is refused before anything is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portrayal.errors import MachineError, UsageError, WeightsError
from portrayal.models.source import find_base
from portrayal.planning import check_control, settle
from portrayal.settings import load_config


def test_what_is_left_open_is_filled_in() -> None:
    plan = settle(load_config("pocket-demo"))
    assert plan.config.base.resolution == 128
    assert plan.config.base.name == "pocket"
    assert plan.config.training.mixed_precision in ("no", "fp16", "bf16")
    loras = [f"lora-{rank}-lr{rate}" for rank in (8, 16, 32) for rate in ("2e-3", "4e-3", "8e-3")]
    assert plan.num_trainings == {"unet": 1, **dict.fromkeys(loras, 1)}  # in the first round
    assert plan.num_pictures == (1 + 9 + 4 + 1) * 5 * plan.config.generation.num_images_per_scene


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is fine on a GPU")
def test_fp16_is_refused_where_no_gpu_can_do_it() -> None:
    with pytest.raises(UsageError, match="fp16 needs a CUDA GPU"):
        settle(load_config("pocket-demo", ["training.mixed_precision=fp16"]))


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portrayal.planning.find_spec", lambda name: None)
    with pytest.raises(MachineError, match="wandb is not installed"):
        settle(load_config("pocket-demo", ['training.trackers=["wandb"]']))


def test_poses_are_refused_before_training_where_they_cannot_be_read() -> None:
    """Another base has no pose reader; a ready-made skeleton needs none."""
    config = load_config("pocket-demo", ['control.kinds=["openpose"]'])
    other = replace(find_base(config.base), kind="hub", name="owner/name")
    with pytest.raises(WeightsError, match="vitpose"):
        check_control(config, other)
    ready = ["control.ready_made=true", "control.reference=pose.png", 'control.kinds=["openpose"]']
    check_control(load_config("pocket-demo", ready), other)
    check_control(load_config("pocket-demo"), find_base(config.base))
