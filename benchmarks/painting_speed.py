"""How fast pictures are painted, beside what is wanted, what the card could do, and diffusers' own pipelines.

    python -m benchmarks.painting_speed [--batch 8] [--batches 4] [--steps 25] [--repeats 3] [--base FOLDER]

On one H100: Stable Diffusion 1.5's shapes with random weights, 512 px, bf16, guidance 7.5, DPM-Solver++ 2M. Ours is the
Generator over the base, plain, held to a control image by a ControlNet, and with a LoRA of rank 64 on attention in
place. Theirs are `StableDiffusionPipeline` and `StableDiffusionControlNetPipeline`, loaded from the same folder in bf16
with the same scheduler and otherwise as they come, the LoRA by `load_lora_weights`, called once for each batch.

Pictures per second are the median of repetitions, each a call for some batches, from prompts and seeds to pictures in
memory; of ours a call's first step is plain and its
second is recorded, which counts.
`to files` is the plain call once, with each picture written as PNG, ours through `paint_missing` (eight writers),
theirs by `save`, into a fresh folder; pictures of random weights are noise, which PNG packs slowly.

`rows` of the results are seconds of the UNet's pass alone by batch, recorded as in painting: estimates rest on them.
Without a GPU `pocket` paints and nothing is kept.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.limits import painting_limit
from benchmarks.record import print_table, save
from benchmarks.standins import base_here
from benchmarks.timing import base_for, on_gpu, plain_config, settle, squares
from portrayal.config import Config, GenerationConfig
from portrayal.generation.annotators import canny
from portrayal.generation.captured import captured
from portrayal.generation.generator import Control, Generator
from portrayal.generation.pictures import Picture, Weights, paint_missing
from portrayal.models.base import BaseModel
from portrayal.models.control import load_controlnet
from portrayal.models.methods import attach
from portrayal.models.saved import tuned
from portrayal.models.source import find_base

PROMPT = "a photo of sks person in the forest"
WANTED = {"plain": (8.0, 13.0), "ControlNet": (5.0, 8.0)}
"""Pictures per second: at least, and aimed at."""
WAYS = ("plain", "ControlNet", "LoRA 64")
PASSES = (1, 2, 4, 8, 16)

Paint = Callable[[Sequence[int]], Iterable[Image.Image]]
"""Paints a picture for each seed."""
ToFiles = Callable[[Sequence[int], Path], None]
"""Does so and writes them into a folder."""


@dataclass(frozen=True)
class Painting:
    """What one side took.

    Attributes:
        whole: Pictures per second of each repetition.
        later: The same, without the first batch of each.
        files: The same with pictures written to files, or nothing.
    """

    whole: tuple[float, ...]
    later: tuple[float, ...]
    files: float | None

    def row(self, side: str, way: str, limit: float, beside: Painting | None = None) -> dict[str, Any]:
        """A row of the table, beside what the other side took."""
        speed, files = statistics.median(self.whole), self.files
        least, aim = WANTED.get(way, ("", "")) if side == "ours" else ("", "")
        return {
            "side": side,
            "way": way,
            "pictures/s": round(speed, 2),
            "of repetitions": f"{min(self.whole):.2f}–{max(self.whole):.2f}",
            "at least": least,
            "aim": aim,
            "of the card's limit": round(speed / limit, 3),
            "times diffusers": round(speed / statistics.median(beside.whole), 2) if beside else "",
            "to files": round(files, 2) if files else "",
            "times diffusers, to files": round(files / beside.files, 2) if files and beside and beside.files else "",
        }


def measure(paint: Paint, to_files: ToFiles | None, *, batch: int, batches: int, repeats: int) -> Painting:
    """Paint again and again, after a batch that is not counted."""
    list(paint(range(batch)))
    seeds = range(batch * batches)
    timed = [timed_batches(paint(seeds), batch) for _ in range(repeats)]
    written = None
    if to_files is not None:
        with tempfile.TemporaryDirectory() as temporary:
            started = time.perf_counter()
            to_files(seeds, Path(temporary))
            written = len(seeds) / (time.perf_counter() - started)
    later = [(len(seeds) - batch) / (ends[-1] - ends[0]) for ends in timed if len(ends) > 1]
    return Painting(tuple(len(seeds) / ends[-1] for ends in timed), tuple(later or [float("nan")]), written)


def timed_batches(pictures: Iterable[Image.Image], batch: int) -> list[float]:
    """Seconds after which each batch was there."""
    settle()
    started, ends = time.perf_counter(), []
    for number, _ in enumerate(pictures):
        if number % batch == 0:  # a batch comes at once
            ends.append(time.perf_counter() - started)
    return ends


def ours(base: BaseModel, settings: GenerationConfig, control: Control | None, side: int) -> tuple[Paint, ToFiles]:
    """The Generator."""
    generator = Generator(base, settings, () if control is None else (control,), side)

    def to_files(seeds: Sequence[int], folder: Path) -> None:
        pictures = [Picture(folder / f"{seed}.png", PROMPT, seed) for seed in seeds]
        paint_missing(generator, pictures, Weights("base"), lambda *_: None)

    return lambda seeds: generator.paint([PROMPT] * len(seeds), seeds), to_files


def theirs(pipeline: Any, settings: GenerationConfig, side: int, **options: Any) -> tuple[Paint, ToFiles]:
    """A pipeline of diffusers, called for one batch after another."""

    def paint(seeds: Sequence[int]) -> Iterator[Image.Image]:
        for start in range(0, len(seeds), settings.batch_size):
            batch = seeds[start : start + settings.batch_size]
            yield from pipeline(
                [PROMPT] * len(batch),
                height=side,
                width=side,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in batch],
                **options,
            ).images

    def to_files(seeds: Sequence[int], folder: Path) -> None:
        for seed, image in zip(seeds, paint(seeds), strict=True):
            image.save(folder / f"{seed}.png")

    return paint, to_files


def our_ways(
    base: BaseModel, settings: GenerationConfig, controlnet: Path, lora: Path, image: Image.Image
) -> Iterator[tuple[Paint, ToFiles | None]]:
    """Ours in each of the ways, each in place while it is looked at."""
    yield ours(base, settings, None, image.width)
    yield ours(base, settings, Control(load_controlnet(controlnet, base), image), image.width)[0], None
    with tuned(base, lora):
        yield ours(base, settings, None, image.width)[0], None


def their_ways(
    base: BaseModel, settings: GenerationConfig, controlnet: Path, lora: Path, image: Image.Image
) -> Iterator[tuple[Paint, ToFiles | None]]:
    """diffusers' in each of the ways, of their own copies of the weights."""
    from diffusers import (
        ControlNetModel,
        DPMSolverMultistepScheduler,
        StableDiffusionControlNetPipeline,
        StableDiffusionPipeline,
    )

    def ready(pipeline: Any) -> Any:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(base.device)

    common: dict[str, Any] = {"torch_dtype": base.dtype, "safety_checker": None, "local_files_only": True}
    plain = ready(StableDiffusionPipeline.from_pretrained(base.source.path, **common))
    yield theirs(plain, settings, image.width)
    net = ControlNetModel.from_pretrained(controlnet, torch_dtype=base.dtype, local_files_only=True)
    held = ready(StableDiffusionControlNetPipeline.from_pretrained(base.source.path, controlnet=net, **common))
    yield theirs(held, settings, image.width, image=image)[0], None
    plain.load_lora_weights(lora, local_files_only=True)
    yield theirs(plain, settings, image.width)[0], None


def write_lora(base: BaseModel, config: Config, folder: Path) -> Path:
    """A LoRA of rank 64 on attention, as it begins."""
    attached = attach(base, config.method.lora.model_copy(update={"rank": 64}), seed=0)
    try:
        attached.save(folder, "fp16")
    finally:
        attached.detach()
    return folder


@torch.inference_mode()
def passes(base: BaseModel, side: int, repeats: int) -> list[dict[str, Any]]:
    """Seconds of the UNet's pass at each batch."""
    rows = []
    prompt = base.encode_prompts([PROMPT])
    for batch in PASSES:
        size = side // base.scale_factor
        latents = torch.randn(batch, base.unet.config.in_channels, size, size).to(base.device, base.dtype)
        time_step = torch.tensor(500, device=base.device)
        with captured(base.unet):
            seconds = []
            for counted in [False] * 3 + [True] * repeats:
                settle()
                started = time.perf_counter()
                for _ in range(10 if counted and on_gpu() else 1):
                    base.unet(latents, time_step, encoder_hidden_states=prompt.expand(batch, -1, -1))
                settle()
                seconds += [(time.perf_counter() - started) / (10 if on_gpu() else 1)] if counted else []
        rows.append({"batch": batch, "resolution": side, "seconds": round(statistics.median(seconds), 5)})
    return rows


def main() -> None:
    """Paint with both, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--base", type=Path, help="folder of the stand-in base, written if it is not there")
    arguments = parser.parse_args()
    counts = {"batch": arguments.batch, "batches": arguments.batches, "repeats": arguments.repeats}
    settings = GenerationConfig(batch_size=arguments.batch, num_inference_steps=arguments.steps)
    with base_here(arguments.base) as name, tempfile.TemporaryDirectory() as temporary:
        config = plain_config(name)
        base, side = base_for(config), config.base.resolution
        assert side is not None
        image = canny(squares(config, 1)[0])
        lora = write_lora(base, config, Path(temporary) / "lora")
        parts = (base, settings, find_base(config.base).path / "controlnet_canny", lora, image)
        kept = {**counts, "steps": arguments.steps, "guidance": settings.guidance_scale, "resolution": side}
        painted, peers, alone = list[Painting](), list[Painting](), list[dict[str, Any]]()

        def keep() -> None:
            """After each part: the machine may be lent for less time than all of them take."""
            if on_gpu():
                save("painting_speed", {"pictures": rows_of(painted, peers, arguments.steps), "rows": alone}, kept)

        for way in our_ways(*parts):
            painted.append(measure(*way, **counts))
            keep()
        alone += passes(base, side, arguments.repeats)
        keep()
        for way in their_ways(*parts):
            peers.append(measure(*way, **counts))
            keep()
    print_table(rows_of(painted, peers, arguments.steps))
    print_table(alone)


def rows_of(painted: Sequence[Painting], peers: Sequence[Painting], steps: int) -> list[dict[str, Any]]:
    """The table: ours in each way, and theirs below where it was measured."""
    rows = []
    for way, mine, other in zip_longest(WAYS[: len(painted)], painted, peers):
        limit = painting_limit(steps, control=way == "ControlNet")
        rows.append(mine.row("ours", way, limit, other))
        if other is not None:
            rows.append(other.row("diffusers", way, limit))
    return rows


if __name__ == "__main__":
    main()
