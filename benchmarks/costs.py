"""How cost grows: seconds and memory of a training step over rank, batch, resolution and LoRAs in a pack.

    python -m benchmarks.costs [--sweeps rank batch resolution pack] [--steps 5] [--repeats 3] [--base FOLDER]

On one H100: Stable Diffusion 1.5's shapes with random weights, bf16, no class images, LoRAs on attention. Each sweep
moves one thing from batch 1, rank 64, 512 px, one model: rank 4 to 256; batch 1 to 16 and resolution 384 to 768, full
UNet and LoRA; one LoRA of rank 32 to thirty-two in one batch. A step is the median of windows of steps, as in
`training_speed`; memory is what tensors took at the fullest from the first step on, the base's among it. Latents are
drawn, not encoded: cost does not depend on them. A sweep that meets the end of the memory stops there and says so.

`python -m scripts.docs_charts` draws the results. Without a GPU `pocket` is trained, smaller, and nothing kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import earlier, print_table, save
from benchmarks.standins import base_here
from benchmarks.timing import base_for, on_gpu, plain_config, time_training, with_batch
from portrayal.config import Config, Method
from portrayal.data.encode import EncodedDataset
from portrayal.errors import OutOfMemoryError
from portrayal.models.base import BaseModel
from portrayal.training.task import TrainingData

RANKS, BATCHES, PACKS, PACK_RANK = (4, 16, 64, 256), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32), 32
RESOLUTIONS = (384, 512, 640, 768)
TRIAL = 2
"""How many trainings of each sweep are tried without a GPU."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A training of a sweep; `method` is `unet`, which has no rank, or `lora`."""

    sweep: str
    method: str
    rank: int | None = 64
    batch: int = 1
    resolution: int = 512
    pack: int = 1

    @property
    def trained(self) -> tuple[Any, ...]:
        """What is trained, whatever sweep it belongs to."""
        return (self.method, self.rank, self.batch, self.resolution, self.pack)


def points(sweep: str) -> list[Point]:
    """The trainings of a sweep, the cheap ones first."""
    kinds = (("unet", None), ("lora", 64))
    match sweep:
        case "rank":
            return [Point(sweep, "lora", rank) for rank in RANKS]
        case "batch":
            return [Point(sweep, kind, rank, batch) for kind, rank in kinds for batch in BATCHES]
        case "resolution":
            return [Point(sweep, kind, rank, resolution=side) for kind, rank in kinds for side in RESOLUTIONS]
    return [Point(sweep, "lora", PACK_RANK, pack=pack) for pack in PACKS]


def drawn(base: BaseModel, config: Config, side: int, count: int = 16) -> TrainingData:
    """Pictures that are noise, as the training loop reads them."""
    prompts = [config.subject.filled_instance_prompt] * count
    size = side // base.scale_factor
    mean = torch.randn(count, base.unet.config.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    ids = tuple(f"p{number}" for number in range(count))
    embeds = base.encode_prompts(prompts).float().cpu()
    return TrainingData(
        (EncodedDataset(ids, mean, torch.ones_like(mean), base.input_ids(prompts).cpu(), embeds),), None
    )


def methods_of(point: Point, config: Config) -> list[Method]:
    """What shares a batch."""
    if point.method == "unet":
        return [config.method.unet]
    return [config.method.lora.model_copy(update={"rank": point.rank})] * point.pack


def measure(base: BaseModel, config: Config, asked: Sequence[Point], steps: int, repeats: int) -> Iterator[Json]:
    """A row for each training, taken once where several sweeps have it; `out_of_memory` ends those of its method."""
    known: dict[Any, Json] = {}
    ended = set()
    for point in asked:
        if (point.sweep, point.method) in ended:
            continue
        if point.trained not in known:
            known[point.trained] = cost(base, config, point, steps, repeats)
        if "out_of_memory" in known[point.trained]:
            ended.add((point.sweep, point.method))
        yield asdict(point) | known[point.trained]


def cost(base: BaseModel, config: Config, point: Point, steps: int, repeats: int) -> Json:
    """What a training takes."""
    data = drawn(base, config, point.resolution if on_gpu() else point.resolution // 4)
    methods, settings = methods_of(point, config), with_batch(config, point.batch)
    try:
        found = time_training(base, data, settings, methods, steps=steps, repeats=repeats)
    except OutOfMemoryError:
        return {"out_of_memory": True}
    return {
        "seconds_a_step": round(found.seconds, 5),
        "images_per_second": round(found.images_per_second, 2),
        "peak_gib": round(found.peak_gib, 2) if found.peak_gib else None,
    }


def main() -> None:
    """Measure, keep what was found after each training, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="*", choices=("rank", "batch", "resolution", "pack"))
    parser.add_argument("--steps", type=int, default=5, help="of a window")
    parser.add_argument("--repeats", type=int, default=3, help="windows")
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    arguments = parser.parse_args()
    sweeps = arguments.sweeps or ["rank", "batch", "resolution", "pack"]
    figures = earlier("costs") or {"rows": [], "out_of_memory": []}
    for key in figures:
        figures[key] = [row for row in figures[key] if row["sweep"] not in sweeps]
    asked = [point for sweep in sweeps for point in points(sweep)[: None if on_gpu() else TRIAL]]
    settings = {"steps": arguments.steps, "windows": arguments.repeats, "precision": "bf16"}
    with base_here(arguments.base) as name:
        config = plain_config(name)
        for row in measure(base_for(config), config, asked, arguments.steps, arguments.repeats):
            figures["out_of_memory" if "out_of_memory" in row else "rows"].append(row)
            if on_gpu():
                save("costs", figures, settings)
    print_table(figures["rows"])
    for row in figures["out_of_memory"]:
        print(f"out of memory: {row}")


if __name__ == "__main__":
    main()
