"""What training several LoRAs in one batch saves, and that it changes nothing: packs against the same LoRAs alone.

    python -m benchmarks.lora_packs [--steps 30] [--packs 3 9 15]

On a GPU: Stable Diffusion 1.5's shapes with random weights, 512 px, batch 1 each, ranks 32, 64 and 128 in turn, and how
far the losses of a pack of three are from those alone. Without one: `pocket` and the demo's recipe, ranks 8, 16, 32.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import portrayal
from benchmarks.record import print_table, save
from benchmarks.standins import write_sd15
from portrayal.config import Config, LoraMethod
from portrayal.data.encode import encode
from portrayal.models.base import BaseModel, load_base
from portrayal.models.source import find_base
from portrayal.training.step import train_step
from portrayal.training.trainer import Task, TrainingData, session

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class Bench:
    """A base with data and LoRAs of it."""

    base: BaseModel
    data: TrainingData
    config: Config
    ranks: tuple[int, ...]

    def method(self, number: int) -> LoraMethod:
        """The LoRA of a number: the ranks in turn."""
        rank = self.ranks[number % len(self.ranks)]
        return self.config.method.lora.model_copy(update={"rank": rank, "max_train_steps": 10_000})

    def train(self, numbers: range, steps: int) -> tuple[float, list[list[float]], float | None]:
        """Seconds of a step, the losses of each LoRA, and the peak memory in GiB."""
        losses, seconds = [], []
        with tempfile.TemporaryDirectory() as folder:
            tasks = [
                Task(f"lora-{number}", self.method(number), self.data, Path(folder) / str(number)) for number in numbers
            ]
            with session(self.base, tasks, self.config, Path(folder) / "work") as state:
                for _ in range(WARM_UP_STEPS + steps):
                    started = time.perf_counter()
                    losses.append([record.loss for record in train_step(state)])
                    seconds.append(time.perf_counter() - started)
        on_gpu = self.base.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
        return statistics.median(seconds[WARM_UP_STEPS:]), [list(one) for one in zip(*losses, strict=True)], peak


def bench_of(folder: Path) -> Bench:
    """Stable Diffusion 1.5's shapes on a GPU, `pocket` elsewhere."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        attention = '["to_q", "to_k", "to_v", "to_out.0"]'
        changes = [
            f'base.name="{write_sd15(folder / "sd15")}"', "training.train_batch_size=1", "training.prior_loss_weight=0",
            "training.gradient_checkpointing=false", "training.gradient_accumulation_steps=1",
            "control.enabled=false", f"method.lora.target_modules={attention}",
        ]  # fmt: skip
        config, ranks = portrayal.make_plan("sd15-80gb", changes).config, (32, 64, 128)
    else:
        config, ranks = portrayal.make_plan("pocket-demo", []).config, (8, 16, 32)
    base = load_base(
        find_base(config.base),
        device=torch.device("cuda" if on_gpu else "cpu"),
        dtype=torch.bfloat16 if on_gpu else torch.float32,
    )
    side = config.base.resolution
    assert side is not None
    photos = [Image.open(path).convert("RGB").resize((side, side)) for path in sorted(PHOTOS.glob("*.jpg"))[:8]]
    subject = config.subject
    data = encode(base, [(f"p{n}", image, subject.filled_instance_prompt) for n, image in enumerate(photos)])
    others = encode(base, [(f"c{n}", image, subject.filled_class_prompt) for n, image in enumerate(photos)])
    prior = config.training.prior_loss_weight > 0
    return Bench(base, TrainingData((data,), (others,) if prior else None), config, ranks)


def main() -> None:
    """Time packs, compare losses, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--packs", type=int, nargs="*", default=[3, 9, 15])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_of(Path(folder))
        alone = [bench.train(range(number, number + 1), arguments.steps) for number in range(len(bench.ranks))]
        mean = statistics.mean(seconds for seconds, _, _ in alone)
        rows = [row(1, mean, mean, max((peak or 0.0) for _, _, peak in alone))]
        apart: list[float] = []
        for size in arguments.packs:
            seconds, losses, peak = bench.train(range(size), arguments.steps)
            rows.append(row(size, seconds, mean, peak))
            if size == len(bench.ranks):
                pairs = [
                    (a, b)
                    for one, (_, (other,), _) in zip(losses, alone, strict=True)
                    for a, b in zip(one, other, strict=True)
                ]
                apart = [abs(a / b - 1) for a, b in pairs]
    print_table(rows)
    figures: dict[str, Any] = {"packs": rows}
    if apart:
        figures |= {"largest difference of a loss": max(apart), "mean difference of a loss": statistics.mean(apart)}
        print(f"losses of a pack of three against alone: {statistics.mean(apart):.2g} apart, at most {max(apart):.2g}")
    name = "lora_packs" if torch.cuda.is_available() else "lora_packs_cpu"
    print(
        save(
            name, figures, {"steps": arguments.steps, "ranks": bench.ranks, "resolution": bench.config.base.resolution}
        )
    )


def row(size: int, seconds: float, alone: float, peak: float | None) -> dict[str, Any]:
    """A row of the table."""
    return {
        "LoRAs": size,
        "ms a step": round(1000 * seconds, 1),
        "steps/s of all": round(size / seconds, 2),
        "times one alone": round(size * alone / seconds, 2),
        "peak GiB": round(peak, 2) if peak else "",
    }


if __name__ == "__main__":
    main()
