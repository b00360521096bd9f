"""The AdamW of small cards, `small_adamw`, as one Triton kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from portrayal.training.eight_bits import BLOCK, MEAN_OCTAVES, SQUARE_OCTAVES, averages_of
from portrayal.training.master_adamw import lies_as
from portrayal.training.small_adamw import SmallAdamW

CHUNK, TILES = 1 << 15, 8
"""Elements of a program, and blocks held at once."""


@triton.jit
def _code(magnitude, largest, chance, octaves, levels):
    """Codes 1 to `levels` of magnitudes, by logarithm, rounded by chance so that the mean is kept; 0 for nothing."""
    share = magnitude / tl.where(largest > 0, largest, 1.0)
    height = (tl.log2(tl.maximum(share, 1e-30)) / octaves + 1) * (levels - 1)  # from 0 to levels - 1
    low = tl.floor(tl.minimum(tl.maximum(height, 0.0), levels - 2))
    below, above = tl.exp2((low / (levels - 1) - 1) * octaves), tl.exp2(((low + 1) / (levels - 1) - 1) * octaves)
    code = tl.where(height < 0, (chance * tl.exp2(-octaves) < share).to(tl.float32), low + 1)
    upper = (chance * (above - below) < share - below).to(tl.float32)
    return tl.where(height < 0, code, code + upper)


@triton.jit
def _magnitude(code, largest, octaves, levels):
    """What a code stands for."""
    return tl.where(code > 0, tl.exp2(((code - 1) / (levels - 1) - 1) * octaves), 0.0) * largest


@triton.jit
def _descend(
    table_ptr, rates_ptr, clip_ptr, skip_ptr, step_ptr, beta1, beta2, eps, decay,
    MEAN_OCTAVES: tl.constexpr, SQUARE_OCTAVES: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """One chunk of one weight; its row in the table says where it lies."""
    program = tl.program_id(0)
    row = table_ptr + 8 * program
    weight_ptr = tl.load(row).to(tl.pointer_type(tl.bfloat16))
    gradient_ptr = tl.load(row + 1).to(tl.pointer_type(tl.bfloat16))
    mean_ptr = tl.load(row + 2).to(tl.pointer_type(tl.int8))
    square_ptr = tl.load(row + 3).to(tl.pointer_type(tl.uint8))
    mean_top_ptr = tl.load(row + 4).to(tl.pointer_type(tl.float32))
    square_top_ptr = tl.load(row + 5).to(tl.pointer_type(tl.float32))
    count = tl.load(row + 6)
    rate = tl.load(rates_ptr + tl.load(row + 7))
    clip, step = tl.load(clip_ptr), tl.load(step_ptr)
    first, second = 1 - tl.exp2(step * tl.log2(beta1)), 1 - tl.exp2(step * tl.log2(beta2))
    if tl.load(skip_ptr) == 0:
        for start in range(0, CHUNK, BLOCK * TILES):
            block = start // BLOCK + tl.arange(0, TILES)
            at = block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
            here, known = at < count, block * BLOCK < count
            gradient = tl.load(gradient_ptr + at, here, 0.0).to(tl.float32) * clip
            code = tl.load(mean_ptr + at, here, 0).to(tl.float32)
            mean = _magnitude(tl.abs(code), tl.load(mean_top_ptr + block, known, 0.0)[:, None], MEAN_OCTAVES, 127.0)
            mean = tl.where(code < 0, -mean, mean)
            mean += (1 - beta1) * (gradient - mean)
            code = tl.load(square_ptr + at, here, 0).to(tl.float32)
            square = _magnitude(code, tl.load(square_top_ptr + block, known, 0.0)[:, None], SQUARE_OCTAVES, 255.0)
            square = beta2 * square + (1 - beta2) * gradient * gradient
            weight = tl.load(weight_ptr + at, here, 0.0).to(tl.float32) * (1 - rate * decay)
            weight -= rate / first * mean / (tl.sqrt(square / second) + eps)
            one, two, three, _ = tl.randint4x(step.to(tl.int32), program * CHUNK + at)
            bits = weight.to(tl.int32, bitcast=True) + (one & 0xFFFF)
            rounded = ((bits >> 16) << 16).to(tl.float32, bitcast=True)
            tl.store(weight_ptr + at, rounded.to(tl.bfloat16), here)
            top = tl.max(tl.abs(mean), 1)
            tl.store(mean_top_ptr + block, top, known)
            chance = (two & 0xFFFFFF).to(tl.float32) * 5.9604644775390625e-08
            code = _code(tl.abs(mean), top[:, None], chance, MEAN_OCTAVES, 127.0)
            tl.store(mean_ptr + at, tl.where(mean < 0, -code, code).to(tl.int8), here)
            top = tl.max(square, 1)
            tl.store(square_top_ptr + block, top, known)
            chance = (three & 0xFFFFFF).to(tl.float32) * 5.9604644775390625e-08
            code = _code(square, top[:, None], chance, SQUARE_OCTAVES, 255.0)
            tl.store(square_ptr + at, code.to(tl.uint8), here)


class SmallAdamWKernel(SmallAdamW):
    """The same, a step as one kernel for all weights."""

    recordable = True

    def __init__(self, groups: Sequence[dict[str, Any]], **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.tables: list[Tensor] = []  # those of captured steps are read again by each replay

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as torch's
        """Move the weights by `clip` times the gradients, unless `found_inf` is not 0."""
        first = self.param_groups[0]
        for group in self.param_groups:
            for weight in group["params"]:
                if not self.state[weight]:
                    self.state[weight] = averages_of(weight)
        counted = self.state[first["params"][0]]
        if "step" not in counted:
            counted["step"] = torch.zeros((), device=self.clip.device)
        counted["step"] += 1 - self.found_inf
        rates = torch.stack([torch.as_tensor(group["lr"], device=self.clip.device) for group in self.param_groups])
        table = self._table()
        _descend[(len(table),)](
            table, rates, self.clip, self.found_inf, counted["step"],
            *first["betas"], first["eps"], first["weight_decay"], MEAN_OCTAVES, SQUARE_OCTAVES, CHUNK, BLOCK, TILES,
        )  # fmt: skip

    def _table(self) -> Tensor:
        """Where each chunk of each weight lies, and its group: `(chunks, 8)`."""
        rows = []
        for number, group in enumerate(self.param_groups):
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if not lies_as(weight.grad, weight):
                    raise RuntimeError(f"a weight of shape {tuple(weight.shape)} and its gradient lie differently")
                state = self.state[weight]
                by_element = (weight, weight.grad, state["mean"], state["square"])
                by_block = (state["mean_top"], state["square_top"])
                for start in range(0, weight.numel(), CHUNK):
                    places = [one.data_ptr() + start * one.element_size() for one in by_element]
                    places += [one.data_ptr() + start // BLOCK * one.element_size() for one in by_block]
                    rows.append([*places, min(CHUNK, weight.numel() - start), number])
        host = torch.tensor(rows, dtype=torch.int64)
        if not self.clip.is_cuda:
            return host
        host = host.pin_memory()
        if torch.cuda.is_current_stream_capturing():
            self.tables.append(host)
        return host.to(self.clip.device, non_blocking=True)
