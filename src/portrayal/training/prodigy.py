"""Prodigy for several learners at once, and for groups whose learning rates differ: prodigyopt's knows neither."""

from __future__ import annotations

from typing import Any

import torch
from prodigyopt import Prodigy
from torch import Tensor


class GroupedProdigy(Prodigy):  # type: ignore[misc]
    """Prodigy (Mishchenko and Defazio 2023, arXiv:2306.06101) that finds a step size for each learner of a pack.

    Among the groups of a learner the step size is one, and the groups' learning rates keep their ratio: a group with a
    lower rate goes that share of the way.
    """

    param_groups: list[dict[str, Any]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - as torch's
        """Move the weights of each learner."""
        groups = self.param_groups
        try:
            for learner in dict.fromkeys(group.get("member", 0) for group in groups):
                self.param_groups = [group for group in groups if group.get("member", 0) == learner]
                self._step_learner()
        finally:
            self.param_groups = groups

    def _step_learner(self) -> None:
        highest = max(group["lr"] for group in self.param_groups)
        slower = [group for group in self.param_groups if group["lr"] < highest]
        rates: list[float] = [group["lr"] for group in slower]
        before: list[list[Tensor]] = [[weight.clone() for weight in group["params"]] for group in slower]
        for group in slower:
            group["lr"] = highest
        super().step()
        for group, rate, weights in zip(slower, rates, before, strict=True):
            group["lr"] = rate
            for weight, start in zip(group["params"], weights, strict=True):
                weight.copy_(start.lerp(weight, rate / highest))
