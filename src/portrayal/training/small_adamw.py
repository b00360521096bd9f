"""AdamW for small cards: bf16 weights without fp32 masters, and averages in 8 bits; here in plain torch.

A weight with its state takes 4 bytes, not 16. What is lost by rounding a step to bf16 would always be the same small
steps; rounded by chance, up as often as it is near, a step is kept on average (Zamirai et al. 2020, arXiv:2010.06192).
The averages are kept in 8 bits (`eight_bits`), rounded by chance too. `small_adamw_kernel` does it in one kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from portrayal.randomness import derived_seed
from portrayal.training.eight_bits import (
    MEAN_LEVELS,
    MEAN_OCTAVES,
    SQUARE_LEVELS,
    SQUARE_OCTAVES,
    averages_of,
    codes_of,
    magnitudes,
)


class SmallAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on bf16 weights, its averages in 8 bits.

    Args:
        groups: `params`, the bf16 weights, and their rates.
        betas: Decay of the averages of the gradient and of its square.
        eps: Added to the root of the latter.
        weight_decay: Share of the rate by which weights shrink.
    """

    writes_weights = True
    recordable = False
    """Whether a step asks the device nothing, so that it can be part of a graph."""
    _step_supports_amp_scaling = True
    """As torch's own: `found_inf` is asked in the step."""

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        common = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": self.recordable}
        super().__init__(list(groups), common)
        device = self.param_groups[0]["params"][0].device
        self.clip, self.found_inf = torch.ones((), device=device), torch.zeros((), device=device)
        self.grad_scale: Tensor | None = None

    def gradients(self) -> list[Tensor]:
        """The gradients of the weights."""
        return [weight.grad for group in self.param_groups for weight in group["params"] if weight.grad is not None]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as torch's
        """Move the weights by `clip` times the gradients, unless `found_inf` is not 0."""
        if self.found_inf:
            return
        weights = [(weight, group) for group in self.param_groups for weight in group["params"]]
        for weight, _ in weights:
            if not self.state[weight]:
                self.state[weight] = averages_of(weight)
        counted = self.state[weights[0][0]]  # once for all, as the kernel counts
        counted["step"] = counted.get("step", torch.zeros(())) + 1
        for number, (weight, group) in enumerate(weights):
            if weight.grad is not None:
                self._move(number, weight, weight.grad, group, int(counted["step"]))

    def _move(self, number: int, weight: Tensor, gradient: Tensor, group: dict[str, Any], step: int) -> None:
        """One weight and its averages."""
        state, (beta1, beta2) = self.state[weight], group["betas"]
        generator = torch.Generator(weight.device).manual_seed(derived_seed(number, "train.rounding", step=step))
        lying = in_order_of(weight, weight)
        gradient = in_order_of(weight, gradient).float() * self.clip
        codes = state["mean"].float()
        mean = magnitudes(codes.abs(), state["mean_top"], MEAN_OCTAVES, MEAN_LEVELS) * codes.sign()
        mean.lerp_(gradient, 1 - beta1)
        square = magnitudes(state["square"].float(), state["square_top"], SQUARE_OCTAVES, SQUARE_LEVELS)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        size = group["lr"] / (1 - beta1**step)
        moved = lying.float() * (1 - group["lr"] * group["weight_decay"])
        moved -= size * mean / ((square / (1 - beta2**step)).sqrt() + group["eps"])
        lying.copy_(rounded_by_chance(moved, generator))
        codes, state["mean_top"] = codes_of(mean.abs(), MEAN_OCTAVES, MEAN_LEVELS, generator)
        state["mean"] = (codes * mean.sign()).to(torch.int8)
        codes, state["square_top"] = codes_of(square, SQUARE_OCTAVES, SQUARE_LEVELS, generator)
        state["square"] = codes.to(torch.uint8)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, which would turn the codes into weights' format."""
        super().load_state_dict({**state_dict, "state": {}})
        weights = [weight for group in self.param_groups for weight in group["params"]]
        for number, kept in state_dict["state"].items():
            weight = weights[int(number)]
            self.state[weight] = {name: tensor.to(weight.device).clone() for name, tensor in kept.items()}


def in_order_of(weight: Tensor, tensor: Tensor) -> Tensor:
    """A tensor's elements in one row, in the order in which the weight's lie; of the weight itself, its memory."""
    order = sorted(range(weight.ndim), key=weight.stride, reverse=True)
    return tensor.permute(order).reshape(-1)


def rounded_by_chance(values: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 as bf16, up or down by chance so that the mean is kept (Zamirai et al. 2020, arXiv:2010.06192)."""
    drawn = torch.randint(1 << 16, values.shape, dtype=torch.int32, generator=generator, device=values.device)
    return ((values.view(torch.int32) + drawn) >> 16 << 16).view(torch.float32).to(torch.bfloat16)
