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


def assert_same(ours: Any, theirs: Any, inputs: list[Tensor], near: float = 1e-5) -> None:
    """Equal results and gradients, ours in fp32 and theirs in fp64; each returns tensors that are all used."""
    torch.manual_seed(1)
    results = []
    for call, dtype in ((ours, torch.float32), (theirs, torch.float64)):
        own = [one.detach().to(dtype).requires_grad_() for one in inputs]
        outs = call(*own)
        torch.manual_seed(2)
        weights = [torch.randn(out.shape, device=out.device) for out in outs]
        sum((out * weight.to(dtype)).sum() for out, weight in zip(outs, weights, strict=True)).backward()
        results.append([*outs, *(one.grad for one in own)])
    for number, (found, expected) in enumerate(zip(*results, strict=True)):
        assert apart(found, expected) < near, number


def picture(shape: tuple[int, ...]) -> Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(shape, device="cuda") + 1).contiguous(memory_format=torch.channels_last)


SHAPES = [(1, 320, 64, 64), (3, 96, 16, 16), (2, 1280, 8, 8), (2, 640, 5, 7)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("with_offset", [True, False])
def test_group_norm_and_its_gradients(shape: tuple[int, ...], silu: bool, with_offset: bool) -> None:
    """With what is added before it, and with what goes around it."""
    from portrayal.models.kernels import Norm, group_norm

    def ours(x: Tensor, weight: Tensor, bias: Tensor, *offset: Tensor) -> tuple[Tensor, ...]:
        normed, around = group_norm(x, Norm(weight, bias, 32, 1e-5, silu), *offset)
        return (normed,) if offset else (normed, around)

    def theirs(x: Tensor, weight: Tensor, bias: Tensor, *offset: Tensor) -> tuple[Tensor, ...]:
        moved = x + offset[0][:, :, None, None] if offset else x
        normed = functional.group_norm(moved, 32, weight, bias, 1e-5)
        normed = functional.silu(normed) if silu else normed
        return (normed,) if offset else (normed, x)

    x = picture(shape)
    offset = [2 * torch.randn(shape[:2], device="cuda")] if with_offset else []
    assert_same(ours, theirs, [x, *torch.randn(2, shape[1], device="cuda"), *offset])


def test_a_norm_or_what_goes_around_it_may_be_unused() -> None:
    from portrayal.models.kernels import Norm, group_norm, sum_and_norm

    x = picture((2, 64, 4, 4))
    weight, bias = torch.randn(2, 64, device="cuda")
    for used in (0, 1):
        assert_same(
            lambda one, used=used: [group_norm(one, Norm(weight, bias, 32, 1e-5, False))[used]],
            lambda one, used=used: [
                one if used else functional.group_norm(one, 32, weight.double(), bias.double(), 1e-5)
            ],
            [x],
        )
        assert_same(
            lambda one, other, used=used: [sum_and_norm(one, other, weight, bias, 1e-5)[1 - used]],
            lambda one, other, used=used: [
                one + other if used else functional.layer_norm(one + other, (64,), weight.double(), bias.double(), 1e-5)
            ],
            [torch.randn(5, 64, device="cuda"), torch.randn(5, 64, device="cuda")],
        )


@pytest.mark.parametrize("shape", [(2, 4096, 320), (3, 64, 1280), (1, 7, 640), (2, 5, 48)])
@pytest.mark.parametrize("two", [True, False])
def test_sum_and_norm_and_its_gradients(shape: tuple[int, ...], two: bool) -> None:
    from portrayal.models.kernels import sum_and_norm

    def theirs(x: Tensor, weight: Tensor, bias: Tensor, *y: Tensor) -> tuple[Tensor, ...]:
        both = x + y[0] if y else x
        return both, functional.layer_norm(both, shape[-1:], weight, bias, 1e-5)

    torch.manual_seed(0)
    x, y = 3 * torch.randn(2, *shape, device="cuda") + 1
    assert_same(
        lambda x, weight, bias, *y: sum_and_norm(x, y[0] if y else None, weight, bias, 1e-5),
        theirs,
        [x, *torch.randn(2, shape[-1], device="cuda"), *([y] if two else [])],
    )


@pytest.mark.parametrize("shape", [(3, 1000, 320), (2, 7, 48)])
def test_linear_and_its_gradients(shape: tuple[int, ...]) -> None:
    from portrayal.models.kernels import linear

    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size, device="cuda") for size in (shape, (40, shape[-1]), (40,)))
    assert_same(lambda *of: [linear(*of)], lambda *of: [functional.linear(*of)], [x, weight, bias])


@pytest.mark.parametrize("shape", SHAPES)
def test_biased_sum_and_its_gradients(shape: tuple[int, ...]) -> None:
    from portrayal.models.kernels import biased_sum

    assert_same(
        lambda x, y, bias: [biased_sum(x, y, bias)],
        lambda x, y, bias: [x + y + bias[:, None, None]],
        [picture(shape), picture(shape) * 2, torch.randn(shape[1], device="cuda")],
    )


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


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-4), (torch.bfloat16, 3e-2)])
def test_a_vae_is_the_same_lean(dtype: torch.dtype, near: float) -> None:
    from portrayal.models.lean import make_lean, resnet

    torch.manual_seed(0)
    plain: Any = folder_parts(find_base(BaseConfig(name="pocket")).path, dtype)["vae"].cuda().eval()
    lean = copy.deepcopy(plain)
    make_lean(lean)
    assert lean.decoder.mid_block.resnets[0].forward.func is resnet
    latents = torch.randn(2, plain.config.latent_channels, 16, 16, device="cuda", dtype=dtype)
    with torch.no_grad():
        expected, found = plain.decode(latents).sample, lean.decode(latents).sample
        assert apart(found, expected) < near
        assert apart(lean.encode(expected).latent_dist.mean, plain.encode(expected).latent_dist.mean) < near


def test_adapted_convolutions_keep_their_adapters() -> None:
    from peft import LoraConfig

    from portrayal.models.lean import make_lean

    torch.manual_seed(0)
    plain: Any = folder_parts(find_base(BaseConfig(name="pocket")).path, torch.float32)["unet"].cuda().eval()
    plain.add_adapter(
        LoraConfig(r=4, init_lora_weights=False, target_modules=["conv1", "conv2", "conv_shortcut", "proj_in", "to_q"])
    )
    lean = copy.deepcopy(plain)
    make_lean(lean)
    latents = torch.randn(1, plain.config.in_channels, 16, 16, device="cuda")
    prompts = torch.randn(1, 77, plain.config.cross_attention_dim, device="cuda")
    expected, found = (unet(latents, torch.tensor([9], device="cuda"), prompts).sample for unet in (plain, lean))
    assert apart(found, expected) < 2e-4
