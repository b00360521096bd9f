"""AdamW for half weights with fp32 masters, in one kernel: for the full UNet on CUDA.

A step of AdamW moves bytes, and nothing else takes its time. Here every weight's gradient is read once, in half, and
its master, its two averages and the half weight are written in the same pass; clipping is a factor inside it. Rounding
to half happens to what computes, never to what is remembered (Micikevicius et al. 2018, arXiv:1710.03740, Sec. 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK, BLOCK, WARPS = 1 << 14, 1024, 16
HALVES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _descend(
    table_ptr, rates_ptr, clip_ptr, skip_ptr, corrections_ptr, beta1, beta2, eps, decay,
    HALF: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One chunk of one weight; its row in the table says where it lies."""
    row = table_ptr + 7 * tl.program_id(0)
    weight_ptr = tl.load(row).to(tl.pointer_type(HALF))
    gradient_ptr = tl.load(row + 1).to(tl.pointer_type(HALF))
    master_ptr = tl.load(row + 2).to(tl.pointer_type(tl.float32))
    mean_ptr = tl.load(row + 3).to(tl.pointer_type(tl.float32))
    square_ptr = tl.load(row + 4).to(tl.pointer_type(tl.float32))
    count = tl.load(row + 5)
    rate = tl.load(rates_ptr + tl.load(row + 6))
    clip, first, second = tl.load(clip_ptr), tl.load(corrections_ptr), tl.load(corrections_ptr + 1)
    if tl.load(skip_ptr) == 0:
        for start in range(0, CHUNK, BLOCK):
            at = start + tl.arange(0, BLOCK)
            here = at < count
            gradient = tl.load(gradient_ptr + at, here, 0.0).to(tl.float32) * clip
            mean = tl.load(mean_ptr + at, here, 0.0)
            mean += (1 - beta1) * (gradient - mean)
            square = beta2 * tl.load(square_ptr + at, here, 0.0) + (1 - beta2) * gradient * gradient
            master = tl.load(master_ptr + at, here, 0.0) * (1 - rate * decay)
            master -= rate / first * mean / (tl.sqrt(square) / tl.sqrt(second) + eps)
            tl.store(mean_ptr + at, mean, here)
            tl.store(square_ptr + at, square, here)
            tl.store(master_ptr + at, master, here)
            tl.store(weight_ptr + at, master.to(HALF), here)


class MasterAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over fp32 masters, whose gradients lie with half weights.

    Args:
        groups: `params`, the masters, and beside them `weights`, which compute and have the gradients.
        betas: Decay of the averages of the gradient and of its square.
        eps: Added to the root of the latter.
        weight_decay: Share of the rate by which weights shrink.
    """

    writes_weights = True
    _step_supports_amp_scaling = True
    """As torch's own: `found_inf` is asked on the device."""

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__(list(groups), {"betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": True})
        device = self.param_groups[0]["params"][0].device
        self.clip, self.found_inf = torch.ones((), device=device), torch.zeros((), device=device)
        self.grad_scale: Tensor | None = None
        self.tables: list[Tensor] = []  # those of captured steps are read again by each replay

    def gradients(self) -> list[Tensor]:
        """The gradients as the weights have them."""
        return [weight.grad for group in self.param_groups for weight in group["weights"] if weight.grad is not None]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as torch's
        """Move masters and weights by `clip` times the gradients, unless `found_inf` is not 0."""
        first = self.param_groups[0]
        for group in self.param_groups:
            for master in group["params"]:
                if not self.state[master]:
                    self.state[master] = {name: torch.zeros_like(master) for name in ("exp_avg", "exp_avg_sq")}
        counted = self.state[first["params"][0]]
        if "step" not in counted:
            counted["step"] = torch.zeros((), device=first["params"][0].device)
        counted["step"] += 1 - self.found_inf
        betas = torch.stack([torch.pow(beta, counted["step"]) for beta in first["betas"]])
        table = self._table()
        _descend[(len(table),)](
            table, self._rates(), self.clip, self.found_inf, 1 - betas,
            *first["betas"], first["eps"], first["weight_decay"],
            HALVES[first["weights"][0].dtype], CHUNK, BLOCK, num_warps=WARPS,
        )  # fmt: skip

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - as torch's
        """Forget the gradients."""
        for group in self.param_groups:
            for weight in group["weights"]:
                weight.grad = None

    def _rates(self) -> Tensor:
        rates: Tensor = torch.stack([group["lr"] for group in self.param_groups])
        return rates

    def _table(self) -> Tensor:
        """Where each chunk of each weight lies, and its group: `(chunks, 7)`."""
        rows = []
        for number, group in enumerate(self.param_groups):
            for master, weight in zip(group["params"], group["weights"], strict=True):
                if weight.grad is None:
                    continue
                state = self.state[master]
                sources = (weight, weight.grad, master, state["exp_avg"], state["exp_avg_sq"])
                if not all(lies_as(one, weight) for one in sources):
                    raise RuntimeError(f"a weight of shape {tuple(weight.shape)} and its gradient lie differently")
                for start in range(0, weight.numel(), CHUNK):
                    places = [one.data_ptr() + start * one.element_size() for one in sources]
                    rows.append([*places, min(CHUNK, weight.numel() - start), number])
        host = torch.tensor(rows, dtype=torch.int64).pin_memory()
        if torch.cuda.is_current_stream_capturing():
            self.tables.append(host)
        return host.to(self.clip.device, non_blocking=True)


def lies_as(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order."""
    places = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(stride == theirs for size, stride, theirs in places if size > 1)
