"""Lean blocks compute what diffusers' blocks do. On a GPU only: their kernels are Triton's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from portrayal.config import BaseConfig
from portrayal.models.base import folder_parts
from portrayal.models.source import find_base

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels are Triton's, which needs CUDA"),
]


@pytest.fixture(autouse=True)
def plain_fp32() -> Iterator[None]:
    """No TF32 in convolutions, whose rounding would hide a mistake."""
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def apart(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("shape", [(1, 320, 64, 64), (3, 96, 16, 16), (2, 1280, 8, 8), (2, 640, 5, 7)])
@pytest.mark.parametrize("silu", [True, False])
def test_group_norm_and_its_gradients(shape: tuple[int, ...], silu: bool) -> None:
    from portrayal.models.kernels import group_norm

    torch.manual_seed(0)
    x = (3 * torch.randn(shape, device="cuda") + 1).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(2, shape[1], device="cuda")
    dy = torch.randn(shape, device="cuda")
    found, expected = [], []
    for results, dtype in ((found, torch.float32), (expected, torch.float64)):
        inputs = [one.detach().to(dtype).requires_grad_() for one in (x, weight, bias)]
        if dtype == torch.float32:
            y = group_norm(*inputs, 32, 1e-5, silu=silu)
        else:
            y = functional.group_norm(inputs[0], 32, inputs[1], inputs[2], 1e-5)
            y = functional.silu(y) if silu else y
        y.backward(dy.to(dtype))
        results += [y, *(one.grad for one in inputs)]
    assert all(apart(one, other) < 1e-5 for one, other in zip(found, expected, strict=True))


def test_geglu_and_its_gradient() -> None:
    from portrayal.models.kernels import gated

    torch.manual_seed(0)
    x, dy = torch.randn(3, 77, 2 * 320, device="cuda"), torch.randn(3, 77, 320, device="cuda")
    ours, theirs = (x.detach().to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    found = gated(ours)
    value, gate = theirs.chunk(2, dim=-1)
    expected = value * functional.gelu(gate)
    found.backward(dy)
    expected.backward(dy.double())
    assert apart(found, expected) < 1e-6
    assert apart(ours.grad, theirs.grad) < 1e-6


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-4), (torch.bfloat16, 3e-2)])
def test_a_unet_is_the_same_lean(dtype: torch.dtype, near: float) -> None:
    from portrayal.models.lean import make_lean

    torch.manual_seed(0)
    plain: Any = folder_parts(find_base(BaseConfig(name="pocket")).path, dtype)["unet"].cuda().eval()
    lean = copy.deepcopy(plain)
    make_lean(lean)
    channels, side = plain.config.in_channels, plain.config.sample_size
    latents = torch.randn(2, channels, side, side, device="cuda", dtype=dtype)
    prompts = torch.randn(2, 77, plain.config.cross_attention_dim, device="cuda", dtype=dtype)
    timesteps = torch.tensor([3, 700], device="cuda")
    results = []
    for unet in (plain, lean):
        out = unet(latents, timesteps, prompts).sample
        out.float().square().mean().backward()
        results.append((out, {name: weight.grad for name, weight in unet.named_parameters()}))
    (expected, gradients), (found, ours) = results
    assert apart(found, expected) < near
    total = torch.stack([one.float().norm() for one in gradients.values()]).norm()
    for name, gradient in gradients.items():
        assert float((ours[name].float() - gradient.float()).norm() / total) < near, name
