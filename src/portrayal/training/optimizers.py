"""Optimizers, each from torch or a kept library."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch

from portrayal.config import OptimizerConfig
from portrayal.errors import MachineError
from portrayal.models.lean import kernels_run


def build_optimizer(
    config: OptimizerConfig, groups: list[dict[str, Any]], *, scaled: bool = False
) -> torch.optim.Optimizer:
    """The optimizer over parameter groups, each with its own `lr`; `scaled` gradients are fp16's.

    Prodigy (Mishchenko and Defazio 2023, arXiv:2306.06101) finds its own step size: the groups' learning rates only
    keep their ratio to one another, among those of one learner.

    Raises:
        MachineError: If the optimizer's package is not installed.
    """
    common: dict[str, Any] = {"weight_decay": config.weight_decay}
    match config.name:
        case "adamw":
            device = groups[0]["params"][0].device
            if all("weights" in group for group in groups) and not scaled and kernels_run(device):
                from portrayal.training.master_adamw import MasterAdamW

                return MasterAdamW(groups, betas=config.betas, eps=config.eps, **common)
            if all(weight.dtype == torch.bfloat16 for group in groups for weight in group["params"]):
                return small_adamw(groups, kernels=kernels_run(device), betas=config.betas, eps=config.eps, **common)
            fast = {"fused": device.type in ("cuda", "cpu"), "capturable": device.type == "cuda"}
            return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, **fast, **common)
        case "adafactor":
            return torch.optim.Adafactor(groups, **common)
        case "adamw8bit":
            bitsandbytes = package("bitsandbytes")
            built = bitsandbytes.optim.AdamW8bit(groups, betas=config.betas, eps=config.eps, **common)
        case "prodigy":
            package("prodigyopt")
            with redirect_stdout(StringIO()):  # it announces itself there, in the middle of --json
                from portrayal.training.prodigy import GroupedProdigy

                built = GroupedProdigy(relative_rates(groups), betas=config.betas, eps=config.eps, **common)
    optimizer: torch.optim.Optimizer = built
    return optimizer


def relative_rates(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups with learning rates relative to the highest of their learner."""
    highest: dict[int, float] = {}
    for group in groups:
        learner = group.get("member", 0)
        highest[learner] = max(highest.get(learner, 0.0), group["lr"])
    return [group | {"lr": group["lr"] / highest[group.get("member", 0)]} for group in groups]


def small_adamw(groups: list[dict[str, Any]], *, kernels: bool, **settings: Any) -> torch.optim.Optimizer:
    """AdamW for bf16 weights without masters: as one kernel where kernels run, else in plain torch."""
    if kernels:
        from portrayal.training.small_adamw_kernel import SmallAdamWKernel

        return SmallAdamWKernel(groups, **settings)
    from portrayal.training.small_adamw import SmallAdamW

    return SmallAdamW(groups, **settings)


def package(name: str) -> Any:
    """Import an optimizer's package, or say how to get it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError(
            f"This optimizer needs the package {name}, which is not installed.", "pip install 'portrayal[optimizers]'"
        ) from error
