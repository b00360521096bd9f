"""A quick start: what goes on while libraries are imported and weights are read."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch.nn import functional

from portrayal.models.lean import attend

SD_LEVELS = ((320, 64), (640, 32), (1280, 16))
"""Channels and side of the feature maps of Stable Diffusion 1.x's UNet at 512 px that hold attention."""


@contextmanager
def waking(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Let a GPU's libraries load, which takes seconds, while Python imports its own and reads weights.

    A kernel is loaded when it is first asked for, so they are asked for sizes that training meets.
    """

    def wake() -> None:
        """Attention, convolution and matrix product of each level, forward and back."""
        with suppress(RuntimeError):  # the work itself meets it again, and tells
            for channels, side in SD_LEVELS:
                make = partial(torch.ones, device=device, dtype=dtype, requires_grad=True)
                picture = make(1, channels, side, side).contiguous(memory_format=torch.channels_last)
                mixed = functional.conv2d(picture, make(channels, channels, 3, 3), padding=1)
                query = functional.linear(mixed.flatten(2).transpose(1, 2), make(channels, channels))
                heads = query.unflatten(-1, (8, -1)).transpose(1, 2)
                prompt = make(1, 8, 77, channels // 8)
                (attend(heads, heads, heads) + attend(heads, prompt, prompt)).sum().backward()

    thread = threading.Thread(target=wake, daemon=True)
    if device.type == "cuda":
        thread.start()
    try:
        yield
    finally:
        if thread.ident is not None:
            thread.join()


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Do not look for garbage: modules and weights come to stay, and looking costs an import much."""
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looks:
            gc.enable()
