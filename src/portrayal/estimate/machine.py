"""The machine a run is on, as far as an estimate needs it: its memory, and the seconds of a short probe."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Machine:
    """What a run is on: name, memory of the GPU in GiB (nothing without one) and seconds that the probe took."""

    device: str
    name: str
    memory_gib: float | None
    probe_seconds: float


@lru_cache
def this_machine(device: str, precision: str) -> Machine:
    """The machine as it is now, probed once."""
    import torch

    if device != "cuda":
        name = f"this CPU ({torch.get_num_threads()} threads)" if device == "cpu" else "this GPU"
        return Machine(device, name, None, probe(device, precision))
    properties = torch.cuda.get_device_properties(0)
    return Machine(device, properties.name, properties.total_memory / 2**30, probe(device, precision))


def probe(device: str, precision: str) -> float:
    """Seconds of a fixed mix of a UNet's work: convolution, matrix products, memory traffic.

    The quickest in a second: others may be busy for a moment. The shapes are those of `pocket` on a CPU and of SD 1.5
    elsewhere. No weights are loaded, and nothing random is drawn.
    """
    import torch
    from torch.nn.functional import conv2d, linear, silu

    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    batch, channels, side, traffic, rounds = (6, 128, 16, 2**20, 1) if device == "cpu" else (8, 320, 64, 2**26, 4)

    def made(*shape: int) -> torch.Tensor:
        return torch.full(shape, 0.01, dtype=dtype, device=device)

    picture = made(batch, channels, side, side).to(memory_format=torch.channels_last)
    kernel = made(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    tokens, much = made(batch * side * side, channels), made(traffic)
    wide, narrow = made(8 * channels, channels), made(channels, 8 * channels)

    def mix() -> float:
        """Seconds of the mix, once."""
        started = time.perf_counter()
        for _ in range(rounds):
            conv2d(picture, kernel, padding=1)
            linear(linear(tokens, wide), narrow)
            silu(much)
        if device != "cpu":
            getattr(torch, device).synchronize()
        return time.perf_counter() - started

    with torch.inference_mode():
        mix()  # which loads libraries
        until, taken = time.perf_counter() + 1, [mix()]
        while time.perf_counter() < until:
            taken.append(mix())
    return min(taken)
