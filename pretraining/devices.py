"""Where the training runs, and how."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def set_up_device() -> torch.device:
    """The GPU if there is one, set up for speed: TF32 outside autocast, convolutions tuned to their shapes."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_device(model: Model, device: torch.device) -> Model:
    """Move in channels-last memory, which is how the convolutions read bf16."""
    moved: Model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
