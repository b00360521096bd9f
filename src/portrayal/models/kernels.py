"""Triton kernels for pictures whose channels lie together (channels last), and their tokens: norms, sums, GEGLU.

PyTorch's group norm copies such pictures to the other layout, and its neighbours copy them back: a third of the kernels
of a training step. These read them as they lie, and take what stands beside a norm into the same pass: the activation
behind it, what is added before it, and in the backward pass the gradient that comes around it. Sums are taken in fp32.

Shapes: N pictures, S places, C channels, G groups, T parts that the places are summed in, R rows, D their width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

BLOCK_S, BLOCK_C = 32, 64
SUM_S, SUM_WARPS = 128, 4
"""Places that a program of sums takes at once: few, large loads keep the memory busy; of gradients with twice the
warps."""
ENOUGH_PROGRAMS, FEW_PROGRAMS = 2112, 528
"""Programs that fill a large GPU, sixteen and four for each of its multiprocessors."""
TILE = 4096
"""Elements of rows that a program holds at once."""


class Norm(NamedTuple):
    """A group norm, and whether SiLU stands behind it."""

    weight: Tensor
    bias: Tensor
    groups: int
    eps: float
    silu: bool


kernel = triton.jit(do_not_specialize=["places", "steps", "parts", "per_group", "count", "rows", "total"])
"""Built once for all sizes but the number of channels, whose evenness makes loads wide."""


@kernel
def _sums(
    x_ptr, offset_ptr, dy_ptr, stats_ptr, weight_ptr, bias_ptr, out_ptr, places, channels, steps, per_group,
    OFFSET: tl.constexpr, GRADIENT: tl.constexpr, SILU: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Of each channel over a part of the places: sum and sum of squares of `x`; or of the gradient, and of it by x̂."""
    picture, part = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < channels
    x_ptr += picture.to(tl.int64) * places * channels
    first = tl.zeros((BLOCK_C,), tl.float32)
    second = tl.zeros((BLOCK_C,), tl.float32)
    if OFFSET:
        offset = tl.load(offset_ptr + picture * channels + channel, inside, 0.0).to(tl.float32)
    if GRADIENT:
        dy_ptr += picture.to(tl.int64) * places * channels
        group = picture * (channels // per_group) + channel // per_group
        mean = tl.load(stats_ptr + 2 * group, inside, 0.0)
        rstd = tl.load(stats_ptr + 2 * group + 1, inside, 0.0)
        weight = tl.load(weight_ptr + channel, inside, 0.0).to(tl.float32)
        bias = tl.load(bias_ptr + channel, inside, 0.0).to(tl.float32)
    for step in range(steps):
        place = (part * steps + step) * BLOCK_S + tl.arange(0, BLOCK_S)
        here = (place < places)[:, None] & inside[None, :]
        at = place[:, None] * channels + channel[None, :]
        x = tl.load(x_ptr + at, here, 0.0).to(tl.float32)
        if OFFSET:
            x = tl.where(here, x + offset[None, :], 0.0)
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
    to = out_ptr + ((picture * tl.num_programs(1) + part) * 2) * channels + channel
    tl.store(to, first, inside)
    tl.store(to + channels, second, inside)


@kernel
def _stats(
    sums_ptr, weight_ptr, stats_ptr, known_ptr, normals_ptr, offset_ptr,
    channels, parts, per_group, count, eps,
    OFFSET: tl.constexpr, GRADIENT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of each group: mean and 1/deviation; or the means of the gradient, and of it by x̂, times the weights.

    With an offset also, forward, the sum of x̂ of each channel, from which follows, backward, the offset's gradient.
    """
    picture, group = tl.program_id(0), tl.program_id(1)
    within = tl.arange(0, BLOCK_P)
    channel, inside = group * per_group + within, within < per_group
    first = tl.zeros((BLOCK_P,), tl.float32)
    second = tl.zeros((BLOCK_P,), tl.float32)
    for start in range(0, parts, BLOCK_T):
        part = start + tl.arange(0, BLOCK_T)
        here = (part < parts)[:, None] & inside[None, :]
        at = ((picture * parts + part) * 2)[:, None] * channels + channel[None, :]
        first += tl.sum(tl.load(sums_ptr + at, here, 0.0), 0)
        second += tl.sum(tl.load(sums_ptr + at + channels, here, 0.0), 0)
    place = 2 * (picture * tl.num_programs(1) + group)
    by_channel = picture * channels + channel
    if GRADIENT:
        weight = tl.load(weight_ptr + channel, inside, 0.0).to(tl.float32)
        plain, slanted = tl.sum(first * weight, 0) / count, tl.sum(second * weight, 0) / count
        tl.store(stats_ptr + place, plain)
        tl.store(stats_ptr + place + 1, slanted)
        if OFFSET:
            rstd = tl.load(known_ptr + place + 1)
            normals = tl.load(normals_ptr + by_channel, inside, 0.0)
            found = rstd * (weight * first - plain * (count // per_group) - slanted * normals)
            tl.store(offset_ptr + by_channel, found.to(offset_ptr.dtype.element_ty), inside)
    else:
        mean = tl.sum(first, 0) / count
        variance = tl.maximum(tl.sum(second, 0) / count - mean * mean, 0.0)
        rstd = 1 / tl.sqrt(variance + eps)
        tl.store(stats_ptr + place, mean)
        tl.store(stats_ptr + place + 1, rstd)
        if OFFSET:
            tl.store(normals_ptr + by_channel, (first - mean * (count // per_group)) * rstd, inside)


@kernel
def _apply(
    x_ptr, offset_ptr, dy_ptr, around_ptr, stats_ptr, means_ptr, weight_ptr, bias_ptr, out_ptr,
    places, channels, per_group,
    OFFSET: tl.constexpr, GRADIENT: tl.constexpr, AROUND: tl.constexpr, SILU: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """The normalised picture, through SiLU; or the gradient of `x`, and what came around the norm added."""
    picture = tl.program_id(0)
    place = tl.program_id(1) * BLOCK_S + tl.arange(0, BLOCK_S)
    channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = channel < channels
    here = (place < places)[:, None] & inside[None, :]
    at, ahead = place[:, None] * channels + channel[None, :], picture.to(tl.int64) * places * channels
    group = picture * (channels // per_group) + channel // per_group
    mean = tl.load(stats_ptr + 2 * group, inside, 0.0)
    rstd = tl.load(stats_ptr + 2 * group + 1, inside, 0.0)
    weight = tl.load(weight_ptr + channel, inside, 0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, inside, 0.0).to(tl.float32)
    x = tl.load(x_ptr + ahead + at, here, 0.0).to(tl.float32)
    if OFFSET:
        x += tl.load(offset_ptr + picture * channels + channel, inside, 0.0).to(tl.float32)[None, :]
    normal = (x - mean[None, :]) * rstd[None, :]
    z = normal * weight[None, :] + bias[None, :]
    gate = tl.sigmoid(z)
    if GRADIENT:
        dz = tl.load(dy_ptr + ahead + at, here, 0.0).to(tl.float32)
        if SILU:
            dz = dz * gate * (1 + z * (1 - gate))
        plain = tl.load(means_ptr + 2 * group, inside, 0.0)
        slanted = tl.load(means_ptr + 2 * group + 1, inside, 0.0)
        out = rstd[None, :] * (dz * weight[None, :] - plain[None, :] - normal * slanted[None, :])
        if AROUND:
            out += tl.load(around_ptr + ahead + at, here, 0.0).to(tl.float32)
    else:
        out = z * gate if SILU else z
    tl.store(out_ptr + ahead + at, out.to(out_ptr.dtype.element_ty), here)


@kernel
def _layer_norm(
    x_ptr, y_ptr, weight_ptr, bias_ptr, sum_ptr, out_ptr, stats_ptr, rows, width, eps,
    TWO: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`x + y` as it is stored, and its layer norm."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    here = (row < rows)[:, None] & (column < width)[None, :]
    at = row[:, None] * width + column[None, :]
    x = tl.load(x_ptr + at, here, 0.0).to(tl.float32)
    if TWO:
        both = (x + tl.load(y_ptr + at, here, 0.0).to(tl.float32)).to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + at, both, here)
        x = both.to(tl.float32)
    mean = tl.sum(x, 1) / width
    centred = tl.where(here, x - mean[:, None], 0.0)
    rstd = 1 / tl.sqrt(tl.sum(centred * centred, 1) / width + eps)
    weight = tl.load(weight_ptr + column, column < width, 0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, column < width, 0.0).to(tl.float32)
    out = centred * rstd[:, None] * weight[None, :] + bias[None, :]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), here)
    tl.store(stats_ptr + 2 * row, mean, row < rows)
    tl.store(stats_ptr + 2 * row + 1, rstd, row < rows)


@kernel
def _layer_norm_gradient(
    x_ptr, dy_ptr, around_ptr, weight_ptr, stats_ptr, dx_ptr, parts_ptr, rows, width, steps,
    AROUND: tl.constexpr, WEIGHTS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of `x`, what came around the norm added; and parts of the weight's and the bias's."""
    program, column = tl.program_id(0), tl.arange(0, BLOCK)
    weight = tl.load(weight_ptr + column, column < width, 0.0).to(tl.float32)
    of_weight = tl.zeros((BLOCK,), tl.float32)
    of_bias = tl.zeros((BLOCK,), tl.float32)
    for step in range(steps):
        row = (program * steps + step) * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        at = row[:, None] * width + column[None, :]
        mean = tl.load(stats_ptr + 2 * row, row < rows, 0.0)
        rstd = tl.load(stats_ptr + 2 * row + 1, row < rows, 0.0)
        dy = tl.load(dy_ptr + at, here, 0.0).to(tl.float32)
        x = tl.load(x_ptr + at, here, 0.0).to(tl.float32)
        normal = tl.where(here, (x - mean[:, None]) * rstd[:, None], 0.0)
        slope = dy * weight[None, :]
        plain, slanted = tl.sum(slope, 1) / width, tl.sum(slope * normal, 1) / width
        dx = rstd[:, None] * (slope - plain[:, None] - normal * slanted[:, None])
        if AROUND:
            dx += tl.load(around_ptr + at, here, 0.0).to(tl.float32)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), here)
        if WEIGHTS:
            of_weight += tl.sum(dy * normal, 0)
            of_bias += tl.sum(dy, 0)
    if WEIGHTS:
        to = parts_ptr + 2 * program * width + column
        tl.store(to, of_weight, column < width)
        tl.store(to + width, of_bias, column < width)


@kernel
def _column_sums(x_ptr, parts_ptr, rows, width, steps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Sums over parts of the rows."""
    program, column = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for step in range(steps):
        row = (program * steps + step) * ROWS + tl.arange(0, ROWS)
        here = (row < rows)[:, None] & (column < width)[None, :]
        at = row.to(tl.int64)[:, None] * width + column[None, :]
        total += tl.sum(tl.load(x_ptr + at, here, 0.0).to(tl.float32), 0)
    tl.store(parts_ptr + program * width + column, total, column < width)


@kernel
def _fold(parts_ptr, out_ptr, parts, width, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sums of partial sums, in the format of what they are the gradient of."""
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for start in range(0, parts, BLOCK_T):
        part = start + tl.arange(0, BLOCK_T)
        here = (part < parts)[:, None] & (column < width)[None, :]
        total += tl.load(parts_ptr + part[:, None] * width + column[None, :], here, 0.0)
    tl.store(out_ptr + column, tl.sum(total, 0).to(out_ptr.dtype.element_ty), column < width)


@kernel
def _biased_sum(x_ptr, y_ptr, bias_ptr, out_ptr, width, total, BLOCK: tl.constexpr):
    """`x + y + bias`."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < total
    out = tl.load(x_ptr + at, here, 0.0).to(tl.float32) + tl.load(y_ptr + at, here, 0.0).to(tl.float32)
    out += tl.load(bias_ptr + at % width, here, 0.0).to(tl.float32)
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), here)


@kernel
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


def group_norm(x: Tensor, norm: Norm, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Group norm (Wu and He 2018, arXiv:1803.08494) of `(N, C, H, W)`, channels last, with SiLU behind it if asked.

    Args:
        x: The picture.
        norm: The norm.
        offset: Added to each channel before the norm, `(N, C)`.

    Returns:
        The normalised picture; and `x`, for what goes around the norm: both ways' gradients are added in one pass.
    """
    found: tuple[Tensor, Tensor] = GroupNorm.apply(x, norm.weight, norm.bias, offset, norm)
    return found


def sum_and_norm(x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x + y` of shape `(…, D)`, and its layer norm (Ba et al. 2016, arXiv:1607.06450); without `y` those of `x`."""
    found: tuple[Tensor, Tensor] = SumAndNorm.apply(x, y, weight, bias, eps)
    return found


def biased_sum(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """`x + y + bias`: pictures `(N, C, H, W)`, channels last, and a number for each channel."""
    found: Tensor = BiasedSum.apply(x, y, bias)
    return found


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer `(…, D)` → `(…, D')` whose bias is trained: its gradient, sums over all rows, has a kernel."""
    found: Tensor = Linear.apply(x, weight, bias)
    return found


def column_sums(x: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Sums over all rows of memory that lies in rows of `width`, shape `(D,)`."""
    rows, columns = x.numel() // width, triton.cdiv(width, BLOCK_C)
    tiles = triton.cdiv(rows, SUM_S)
    steps = max(1, tiles * columns // FEW_PROGRAMS)
    parts = x.new_empty(triton.cdiv(tiles, steps), width, dtype=torch.float32)
    _column_sums[(len(parts), columns)](x, parts, rows, width, steps, SUM_S, BLOCK_C, num_warps=SUM_WARPS)
    return folded(parts, dtype)


def folded(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """Sums over the first dimension of what is fp32 and lies together."""
    out = parts.new_empty(parts.shape[1:], dtype=dtype)
    _fold[(triton.cdiv(out.numel(), 32),)](parts, out, len(parts), out.numel(), 64, 32)
    return out


def gated(x: Tensor) -> Tensor:
    """`a · gelu(g)` of `(…, 2·D)`, where `a` and `g` are its halves (Shazeer 2020, arXiv:2002.05202)."""
    found: Tensor = Geglu.apply(x)
    return found


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


class GroupNorm(torch.autograd.Function):
    """See :func:`group_norm`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, offset: Tensor | None, norm: Norm
    ) -> tuple[Tensor, Tensor]:
        """The normalised picture, and the picture."""
        ctx.set_materialize_grads(False)
        lying = _channels_last(x)
        shift = None if offset is None else offset.contiguous()
        sizes = _Sizes(lying, norm.groups)
        sums = sizes.sums(lying, shift, None, None, norm)
        stats, normals = lying.new_empty(sizes.by_group, dtype=torch.float32), None
        if shift is not None:
            normals = lying.new_empty(lying.shape[:2], dtype=torch.float32)
        sizes.stats(sums, norm, stats, None, normals, None)
        ctx.save_for_backward(lying, weight, bias, shift, stats, normals)
        ctx.norm = norm
        return sizes.apply(lying, shift, None, None, stats, None, norm), x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of the picture, of weight and bias if they are trained, and of the offset."""
        x, weight, bias, shift, stats, normals = ctx.saved_tensors
        norm: Norm = ctx.norm._replace(weight=weight, bias=bias)
        dy, around = (None if one is None else _channels_last(one) for one in gradients)
        if dy is None:
            return around, None, None, None, None
        sizes = _Sizes(x, norm.groups)
        sums = sizes.sums(x, shift, dy, stats, norm)
        means, of_offset = torch.empty_like(stats), None if shift is None else torch.empty_like(shift)
        sizes.stats(sums, norm, means, stats, normals, of_offset)
        dx = sizes.apply(x, shift, dy, around, stats, means, norm)
        if not any(ctx.needs_input_grad[1:3]):
            return dx, None, None, of_offset, None
        of_bias, of_weight = folded(sums.flatten(0, 1), weight.dtype)
        return dx, of_weight, of_bias, of_offset, None


class _Sizes:
    """The sizes of a group norm's pictures, and its three kernels over them."""

    def __init__(self, x: Tensor, groups: int) -> None:
        self.pictures, self.channels = x.shape[:2]
        self.places = x.shape[2:].numel()
        self.per_group, self.by_group = self.channels // groups, (self.pictures, groups, 2)
        tiles = triton.cdiv(self.places, SUM_S)
        self.steps = max(1, tiles * self.pictures * triton.cdiv(self.channels, BLOCK_C) // ENOUGH_PROGRAMS)
        self.parts = triton.cdiv(tiles, self.steps)

    def sums(self, x: Tensor, offset: Tensor | None, dy: Tensor | None, stats: Tensor | None, norm: Norm) -> Tensor:
        """By channel, `(N, T, 2, C)`: of `x`, or with `dy` of its gradient."""
        out = x.new_empty(self.pictures, self.parts, 2, self.channels, dtype=torch.float32)
        _sums[(self.pictures, self.parts, triton.cdiv(self.channels, BLOCK_C))](
            x, offset, dy, stats, norm.weight, norm.bias, out, self.places, self.channels, self.steps, self.per_group,
            offset is not None, dy is not None, norm.silu, SUM_S, BLOCK_C,
            num_warps=SUM_WARPS if dy is None else 2 * SUM_WARPS,
        )  # fmt: skip
        return out

    def stats(
        self,
        sums: Tensor,
        norm: Norm,
        out: Tensor,
        known: Tensor | None,
        normals: Tensor | None,
        of_offset: Tensor | None,
    ) -> None:
        """By group, into `out`: of `x`, or where its own are `known`, of its gradient."""
        _stats[(self.pictures, norm.groups)](
            sums, norm.weight, out, known, normals, of_offset,
            self.channels, self.parts, self.per_group, self.places * self.per_group, norm.eps,
            normals is not None, known is not None,
            16, max(128, triton.next_power_of_2(self.per_group)),
        )  # fmt: skip

    def apply(
        self,
        x: Tensor,
        offset: Tensor | None,
        dy: Tensor | None,
        around: Tensor | None,
        stats: Tensor,
        means: Tensor | None,
        norm: Norm,
    ) -> Tensor:
        """The normalised picture, or the gradient."""
        out = torch.empty_like(x)
        _apply[(self.pictures, triton.cdiv(self.places, BLOCK_S), triton.cdiv(self.channels, BLOCK_C))](
            x, offset, dy, around, stats, means, norm.weight, norm.bias, out,
            self.places, self.channels, self.per_group,
            offset is not None, dy is not None, around is not None, norm.silu, BLOCK_S, BLOCK_C,
        )  # fmt: skip
        return out


class SumAndNorm(torch.autograd.Function):
    """See :func:`sum_and_norm`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """The sum, and its norm."""
        ctx.set_materialize_grads(False)
        x, width = x.contiguous(), x.shape[-1]
        rows, block = x.numel() // width, triton.next_power_of_2(width)
        both = x if y is None else torch.empty_like(x)
        out, stats = torch.empty_like(x), x.new_empty(rows, 2, dtype=torch.float32)
        at_once = max(1, TILE // block)
        _layer_norm[(triton.cdiv(rows, at_once),)](
            x, None if y is None else y.contiguous(), weight, bias, both, out, stats, rows, width, eps,
            y is not None, at_once, block,
        )  # fmt: skip
        ctx.save_for_backward(both, weight, stats)
        return both, out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of both summands, which is the same, and of weight and bias if they are trained."""
        x, weight, stats = ctx.saved_tensors
        around, dy = (None if one is None else one.contiguous() for one in gradients)
        if dy is None:
            return around, around if ctx.needs_input_grad[1] else None, None, None, None
        width, trained = x.shape[-1], any(ctx.needs_input_grad[2:4])
        rows, block = x.numel() // width, triton.next_power_of_2(width)
        at_once = max(1, TILE // block)
        tiles = triton.cdiv(rows, at_once)
        programs = min(FEW_PROGRAMS, tiles) if trained else tiles
        parts = x.new_empty(programs, 2, width, dtype=torch.float32) if trained else None
        dx = torch.empty_like(x)
        _layer_norm_gradient[(programs,)](
            x, dy, around, weight, stats, dx, parts, rows, width, triton.cdiv(tiles, programs),
            around is not None, trained, at_once, block,
        )  # fmt: skip
        of_y = dx if ctx.needs_input_grad[1] else None
        if parts is None:
            return dx, of_y, None, None, None
        return dx, of_y, *folded(parts, weight.dtype), None


class BiasedSum(torch.autograd.Function):
    """See :func:`biased_sum`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        """The sum."""
        x, y = _channels_last(x), _channels_last(y)
        out = torch.empty_like(x)
        ctx.kept = bias.dtype
        _biased_sum[(triton.cdiv(x.numel(), 1024),)](x, y, bias, out, x.shape[1], x.numel(), 1024)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of both summands, and of the bias if it is trained: the sum over all places."""
        gradient = _channels_last(gradients[0])
        if not ctx.needs_input_grad[2]:
            return gradient, gradient, None
        return gradient, gradient, column_sums(gradient, gradient.shape[1], ctx.kept)


class Linear(torch.autograd.Function):
    """See :func:`linear`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Shape `(…, D')`."""
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of input, weight and bias."""
        x, weight = ctx.saved_tensors
        dy = gradients[0].flatten(0, -2).contiguous()
        dx = (dy @ weight).view(x.shape) if ctx.needs_input_grad[0] else None
        of_weight = dy.T @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return dx, of_weight, column_sums(dy, dy.shape[1], weight.dtype)


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
