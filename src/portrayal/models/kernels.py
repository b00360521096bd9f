"""Kernels for pictures whose channels lie together (channels last): group norm with SiLU, and GEGLU, in Triton.

PyTorch's group norm copies such pictures to the other layout, and its neighbours copy them back: a third of the kernels
of a training step. These read them as they lie, and save one pass for the activation. Sums are taken in fp32.

Shapes: N pictures, S places, C channels, G groups, T parts that the places are summed in.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_S, BLOCK_C = 32, 64
ENOUGH_PROGRAMS = 528
"""Programs that fill a large GPU, about four for each of its multiprocessors."""


@triton.jit
def _sums(
    x_ptr, dy_ptr, stats_ptr, weight_ptr, bias_ptr, out_ptr, places, channels, parts, per_group,
    GRADIENT: tl.constexpr, SILU: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Of each channel over a part of the places: sum and sum of squares of `x`; or of the gradient, and of it by x̂."""
    picture, part = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < channels
    size = tl.cdiv(places, parts)
    first = tl.zeros((BLOCK_C,), tl.float32)
    second = tl.zeros((BLOCK_C,), tl.float32)
    if GRADIENT:
        group = picture * (channels // per_group) + channel // per_group
        mean = tl.load(stats_ptr + 2 * group, inside, 0.0)
        rstd = tl.load(stats_ptr + 2 * group + 1, inside, 0.0)
        weight = tl.load(weight_ptr + channel, inside, 0.0).to(tl.float32)
        bias = tl.load(bias_ptr + channel, inside, 0.0).to(tl.float32)
    for start in range(part * size, tl.minimum((part + 1) * size, places), BLOCK_S):
        place = start + tl.arange(0, BLOCK_S)
        here = (place < tl.minimum((part + 1) * size, places))[:, None] & inside[None, :]
        at = (picture * places + place)[:, None] * channels + channel[None, :]
        x = tl.load(x_ptr + at, here, 0.0).to(tl.float32)
        if GRADIENT:
            dy = tl.load(dy_ptr + at, here, 0.0).to(tl.float32)
            normal = (x - mean[None, :]) * rstd[None, :]
            if SILU:
                z = normal * weight[None, :] + bias[None, :]
                gate = tl.sigmoid(z)
                dy = dy * gate * (1 + z * (1 - gate))
            first += tl.sum(dy, 0)
            second += tl.sum(tl.where(here, dy * normal, 0.0), 0)
        else:
            first += tl.sum(x, 0)
            second += tl.sum(x * x, 0)
    to = out_ptr + ((picture * parts + part) * 2) * channels + channel
    tl.store(to, first, inside)
    tl.store(to + channels, second, inside)


@triton.jit
def _stats(
    sums_ptr, weight_ptr, stats_ptr, channels, parts, per_group, count, eps,
    GRADIENT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of each group: mean and 1/deviation; or the means of the gradient, and of it by x̂, times the weights."""
    picture, group = tl.program_id(0), tl.program_id(1)
    offset = tl.arange(0, BLOCK_P)
    channel, inside = group * per_group + offset, offset < per_group
    first = tl.zeros((BLOCK_P,), tl.float32)
    second = tl.zeros((BLOCK_P,), tl.float32)
    for start in range(0, parts, BLOCK_T):
        part = start + tl.arange(0, BLOCK_T)
        here = (part < parts)[:, None] & inside[None, :]
        at = ((picture * parts + part) * 2)[:, None] * channels + channel[None, :]
        first += tl.sum(tl.load(sums_ptr + at, here, 0.0), 0)
        second += tl.sum(tl.load(sums_ptr + at + channels, here, 0.0), 0)
    to = stats_ptr + 2 * (picture * tl.num_programs(1) + group)
    if GRADIENT:
        weight = tl.load(weight_ptr + channel, inside, 0.0).to(tl.float32)
        tl.store(to, tl.sum(first * weight, 0) / count)
        tl.store(to + 1, tl.sum(second * weight, 0) / count)
    else:
        mean = tl.sum(first, 0) / count
        variance = tl.maximum(tl.sum(second, 0) / count - mean * mean, 0.0)
        tl.store(to, mean)
        tl.store(to + 1, 1 / tl.sqrt(variance + eps))


@triton.jit
def _apply(
    x_ptr, dy_ptr, stats_ptr, means_ptr, weight_ptr, bias_ptr, out_ptr, places, channels, per_group,
    GRADIENT: tl.constexpr, SILU: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The normalised picture, through SiLU; or the gradient of `x`."""
    picture = tl.program_id(0)
    place = tl.program_id(1) * BLOCK_S + tl.arange(0, BLOCK_S)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < channels
    here = (place < places)[:, None] & inside[None, :]
    at = (picture * places + place)[:, None] * channels + channel[None, :]
    group = picture * (channels // per_group) + channel // per_group
    mean = tl.load(stats_ptr + 2 * group, inside, 0.0)
    rstd = tl.load(stats_ptr + 2 * group + 1, inside, 0.0)
    weight = tl.load(weight_ptr + channel, inside, 0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, inside, 0.0).to(tl.float32)
    x = tl.load(x_ptr + at, here, 0.0).to(tl.float32)
    normal = (x - mean[None, :]) * rstd[None, :]
    z = normal * weight[None, :] + bias[None, :]
    gate = tl.sigmoid(z)
    if GRADIENT:
        dz = tl.load(dy_ptr + at, here, 0.0).to(tl.float32)
        if SILU:
            dz = dz * gate * (1 + z * (1 - gate))
        plain = tl.load(means_ptr + 2 * group, inside, 0.0)
        slanted = tl.load(means_ptr + 2 * group + 1, inside, 0.0)
        out = rstd[None, :] * (dz * weight[None, :] - plain[None, :] - normal * slanted[None, :])
    else:
        out = z * gate if SILU else z
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), here)


@triton.jit
def _geglu(x_ptr, dy_ptr, out_ptr, width, total, GRADIENT: tl.constexpr, BLOCK: tl.constexpr):
    """`a · gelu(g)` of rows `[a, g]`; or the gradient of such rows."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < total
    value_at = (at // width) * (2 * width) + at % width
    value = tl.load(x_ptr + value_at, here, 0.0).to(tl.float32)
    gate = tl.load(x_ptr + value_at + width, here, 0.0).to(tl.float32)
    below = 0.5 * (1 + tl.erf(gate * 0.7071067811865476))
    if GRADIENT:
        dy = tl.load(dy_ptr + at, here, 0.0).to(tl.float32)
        slope = below + gate * 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
        tl.store(out_ptr + value_at, (dy * gate * below).to(out_ptr.dtype.element_ty), here)
        tl.store(out_ptr + value_at + width, (dy * value * slope).to(out_ptr.dtype.element_ty), here)
    else:
        tl.store(out_ptr + at, (value * gate * below).to(out_ptr.dtype.element_ty), here)


def _size(x: Tensor) -> tuple[int, int, int, int]:
    pictures, channels = x.shape[:2]
    places = x[0, 0].numel()
    wanted = ENOUGH_PROGRAMS // (pictures * triton.cdiv(channels, BLOCK_C)) + 1
    return pictures, channels, places, min(wanted, triton.cdiv(places, BLOCK_S))


def _two_steps(x: Tensor, dy: Tensor | None, norm: tuple[Any, ...], stats: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sums by channel and by group: of `x`, or with `dy` of its gradient."""
    weight, bias, groups, eps, silu = norm
    pictures, channels, places, parts = _size(x)
    per_group, gradient = channels // groups, dy is not None
    sums = torch.empty(pictures, parts, 2, channels, device=x.device)
    found = torch.empty(pictures, groups, 2, device=x.device)
    grid = (pictures, parts, triton.cdiv(channels, BLOCK_C))
    _sums[grid](x, dy, stats, weight, bias, sums, places, channels, parts, per_group, gradient, silu, BLOCK_S, BLOCK_C)
    _stats[(pictures, groups)](
        sums, weight, found, channels, parts, per_group, places * per_group, eps,
        gradient, min(16, triton.next_power_of_2(parts)), triton.next_power_of_2(per_group),
    )  # fmt: skip
    return sums, found


def _pass(x: Tensor, dy: Tensor | None, norm: tuple[Any, ...], stats: Tensor, means: Tensor | None) -> Tensor:
    weight, bias, groups, _, silu = norm
    pictures, channels, places, _ = _size(x)
    out = torch.empty_like(x)
    grid = (pictures, triton.cdiv(places, BLOCK_S), triton.cdiv(channels, BLOCK_C))
    _apply[grid](
        x, dy, stats, means, weight, bias, out, places, channels, channels // groups,
        dy is not None, silu, BLOCK_S, BLOCK_C,
    )  # fmt: skip
    return out


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, *, silu: bool) -> Tensor:
    """Group norm (Wu and He 2018, arXiv:1803.08494) of `(N, C, H, W)`, channels last, with SiLU behind it if asked."""
    found: Tensor = GroupNorm.apply(x, weight, bias, groups, eps, silu)
    return found


def gated(x: Tensor) -> Tensor:
    """`a · gelu(g)` of `(…, 2·D)`, where `a` and `g` are its halves (Shazeer 2020, arXiv:2002.05202)."""
    found: Tensor = Geglu.apply(x)
    return found


class GroupNorm(torch.autograd.Function):
    """See :func:`group_norm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
        """The normalised picture."""
        x = x.contiguous(memory_format=torch.channels_last)
        norm = (weight, bias, groups, eps, silu)
        _, stats = _two_steps(x, None, norm, None)
        ctx.save_for_backward(x, stats, weight, bias)
        ctx.norm = norm[2:]
        return _pass(x, None, norm, stats, None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of the picture, and of weight and bias if they are trained."""
        x, stats, weight, bias = ctx.saved_tensors
        dy = gradients[0].contiguous(memory_format=torch.channels_last)
        norm = (weight, bias, *ctx.norm)
        sums, means = _two_steps(x, dy, norm, stats)
        dx = _pass(x, dy, norm, stats, means)
        if not any(ctx.needs_input_grad[1:3]):
            return dx, None, None, None, None, None
        of_bias, of_weight = sums.sum((0, 1))
        return dx, of_weight.to(weight.dtype), of_bias.to(bias.dtype), None, None, None


class Geglu(torch.autograd.Function):
    """See :func:`gated`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Shape `(…, D)`."""
        x = x.contiguous()
        ctx.save_for_backward(x)
        out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        _geglu[(triton.cdiv(out.numel(), 1024),)](x, None, out, out.shape[-1], out.numel(), False, 1024)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Shape `(…, 2·D)`."""
        (x,) = ctx.saved_tensors
        dy, out = gradients[0].contiguous(), torch.empty_like(x)
        _geglu[(triton.cdiv(dy.numel(), 1024),)](x, dy, out, dy.shape[-1], dy.numel(), True, 1024)
        return out
