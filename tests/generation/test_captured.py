"""Models of a pipeline within `captured` paint the pictures they paint without."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from portrayal.config import BaseConfig, GenerationConfig
from portrayal.generation import generator as generator_module
from portrayal.generation.captured import CapturedForward, captured, features_once, shape_of, tensors_of, with_tensors
from portrayal.generation.generator import Control, Generator
from portrayal.models.base import BaseModel, load_base
from portrayal.models.control import find_controlnet, load_controlnet
from portrayal.models.source import find_base

PROMPTS = ["a photo of a woman", "a photo of a man", "a photo of a woman in the forest"]
SETTINGS = GenerationConfig(num_inference_steps=5, guidance_scale=5.0, batch_size=2)
CANNY = {"embedded": "controlnet_canny", "hub_id": "lllyasviel/control_v11p_sd15_canny"}
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are CUDA's")


def control_of(base: BaseModel) -> Control:
    controlnet = load_controlnet(find_controlnet("auto", base.source, **CANNY), base)
    image = Image.new("RGB", (base.resolution, base.resolution))
    image.paste((255, 255, 255), (20, 20, 24, 100))
    return Control(controlnet, image)


def painted(base: BaseModel, control: Control | None) -> np.ndarray:
    pictures = list(Generator(base, SETTINGS, () if control is None else (control,)).paint(PROMPTS, [1, 2, 3]))
    return np.stack([np.asarray(picture, dtype=np.int16) for picture in pictures])


def test_features_are_computed_once_for_a_picture_and_change_nothing(
    pocket: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = control_of(pocket)
    calls = []
    embedding = control.controlnet.controlnet_cond_embedding
    hook = embedding.conv_in.register_forward_hook(lambda *_: calls.append(1))
    found = painted(pocket, control)
    assert len(calls) == 2  # batches, of five steps each
    monkeypatch.setattr(generator_module, "features_once", lambda _: nullcontext())
    assert (found == painted(pocket, control)).all()
    hook.remove()
    assert "forward" not in vars(embedding)
    assert "forward" not in vars(control.controlnet)


def test_a_controlnet_that_reorders_its_input_is_left_alone(pocket: BaseModel) -> None:
    controlnet: Any = control_of(pocket).controlnet
    controlnet.register_to_config(controlnet_conditioning_channel_order="bgr")
    with features_once(controlnet):
        assert "forward" not in vars(controlnet)


def test_nothing_is_captured_on_the_cpu(pocket: BaseModel) -> None:
    with captured(pocket.unet):
        assert "forward" not in vars(pocket.unet)


def test_arguments_come_apart_and_together() -> None:
    one, two = torch.zeros(2), torch.ones(3)
    arguments = ((one, 3), {"deep": [two, None], "flag": False})
    assert [id(tensor) for tensor in tensors_of(arguments)] == [id(one), id(two)]
    rebuilt = with_tensors(arguments, iter([two, one]))
    assert rebuilt[0][0] is two
    assert rebuilt[1]["deep"][0] is one
    assert shape_of(rebuilt) != shape_of(arguments)
    assert shape_of(with_tensors(arguments, iter([one + 1, two]))) == shape_of(arguments)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("with_control", [False, True])
def test_captured_pictures_are_the_plain_ones(with_control: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_base(find_base(BaseConfig(name="pocket")), device=torch.device("cuda"), dtype=torch.float32)
    control = control_of(base) if with_control else None
    found = painted(base, control)
    monkeypatch.setattr(generator_module, "captured", lambda *_: nullcontext())
    expected = painted(base, control)
    assert np.abs(found - expected).mean() < 0.5
    assert "forward" not in vars(base.unet)


@pytest.mark.gpu
@on_gpu
def test_what_cannot_be_recorded_runs_plainly(caplog: pytest.LogCaptureFixture) -> None:
    layer = torch.nn.Linear(4, 4).cuda()
    forward = layer.forward

    def waits(x: torch.Tensor) -> torch.Tensor:
        return forward(x) * x.sum().item()  # asks the GPU, which a recording cannot

    layer.forward = waits
    x = torch.randn(2, 4, device="cuda")
    with captured(layer):
        assert isinstance(layer.forward, CapturedForward)
        results = [layer(x) for _ in range(3)]
    assert all(torch.equal(one, results[0]) for one in results)
    assert "one launch at a time" in caplog.text
