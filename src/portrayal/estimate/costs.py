"""What the work of a run takes on a machine: a table of measurements, and sums fitted to its rows.

`measurements.json`, which `python -m scripts.measurements` writes, holds for each `device` (`cpu`, `cuda`) one
reference machine and what was measured on it:

    machine, base, resolution, unet_weights   where, and on what
    probe_seconds                             what `probe` takes there
    training    method, rank, batch, pack, resolution, images_per_second of all, peak_gib (nothing on a CPU)
    painting    batch, resolution, seconds of one pass through the UNet, without gradient, of that many pictures
    seconds     load, prepare_photo, decode_picture, judge_picture, report; begin_training, begin_painting and
                begin_reading: with other weights, until the first step, pass or reading is done as the others are
    controlnet_factor, plain_step_seconds     by what a ControlNet lengthens a pass; what launches alone take, in a step
    assumed     what of all this was not measured

Between and beyond its rows a cost is a sum of shares that grow with pictures, pixels, rank and LoRAs, fitted to them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portrayal.config import Config, LoraMethod, Method
from portrayal.estimate.machine import Machine

TABLE = Path(__file__).with_name("measurements.json")

CHECKPOINTED_SECONDS, CHECKPOINTED_MEMORY = 4 / 3, 0.3
"""What gradient checkpointing makes of a step's time (one more pass forward beside one forward and two back), and
leaves of the memory that pictures take."""

EIGHT_BIT_SAVES, NO_MASTERS_SAVE = 6, 10
"""Bytes of each weight of a full UNet that bitsandbytes' averages, and training without fp32 masters, save."""

Json = dict[str, Any]
Floats = NDArray[np.float64]


def fit(shares: Sequence[Sequence[float]], values: Sequence[float]) -> Floats:
    """Weights of the shares, none negative, whose sums are nearest to the values by least squares of relative errors.

    Of sets of shares that do as well the smaller is taken, then the earlier: one row makes a cost grow with the first.
    """
    rows = np.asarray(shares, float) / np.asarray(values, float)[:, None]
    best, least = np.zeros(rows.shape[1]), math.inf
    for size in range(1, rows.shape[1] + 1):
        for chosen in map(list, combinations(range(rows.shape[1]), size)):
            found = np.linalg.lstsq(rows[:, chosen], np.ones(len(rows)), rcond=None)[0]
            error = float(np.square(rows[:, chosen] @ found - 1).sum())
            if (found >= 0).all() and error < 0.99 * least - 1e-9:
                least, best = error, np.zeros(rows.shape[1])
                best[chosen] = found
    return best


@dataclass(frozen=True)
class Costs:
    """What the work of a run takes on a machine.

    Attributes:
        config: The run's settled settings.
        table: What was measured on that kind of device; see the head of this module.
        machine: The machine.
        size: Weights of the base's UNet, as a multiple of the table's.
    """

    config: Config
    table: Mapping[str, Any]
    machine: Machine
    size: float

    @property
    def scale(self) -> float:
        """Times the table's seconds that the same work takes here."""
        return float(self.size * self.machine.probe_seconds / self.table["probe_seconds"])

    @property
    def images(self) -> int:
        """Pictures of one model in one pass: photos, and the class images that ride along."""
        training = self.config.training
        riding = (training.class_batch_size or training.train_batch_size) if training.prior_loss_weight else 0
        return training.train_batch_size + riding

    def area(self, resolution: int | None = None) -> float:
        """Pixels of a picture, the run's if none is named, as a multiple of the table's resolution."""
        return float(((resolution or self.config.base.resolution or 512) / self.table["resolution"]) ** 2)

    def fixed(self, name: str) -> float:
        """Seconds of what does not depend on the base."""
        return float(self.scale / self.size * self.table["seconds"][name])

    def rows(self, kind: str, key: str) -> list[Json]:
        """The trainings of a kind of method of which something was measured."""
        return [row for row in self.table["training"] if row["method"] == kind and row[key]]

    def train(self, method: Method, pack: int = 1) -> float:
        """Seconds of a training, or of a pack of LoRAs as wide as this one."""

        def shares(images: int, rank: int, pack: int, area: float) -> list[float]:
            return [images * area, 1, images * area * rank, pack, images * area**2]

        rows, training = self.rows(method.kind, "images_per_second"), self.config.training
        found = [
            shares(row["batch"] * row["pack"], row["rank"] or 0, row["pack"], self.area(row["resolution"]))
            for row in rows
        ]
        weights = fit(found, [row["batch"] * row["pack"] / row["images_per_second"] for row in rows])
        step = self.scale * float(weights @ shares(pack * self.images, rank_of(method), pack, self.area()))
        if training.gradient_checkpointing:
            step *= CHECKPOINTED_SECONDS
        if why_plain(self.config, method, self.machine.device):
            step = max(step, self.table["plain_step_seconds"])
        return method.max_train_steps * training.gradient_accumulation_steps * step

    def gib(self, method: Method, pack: int = 1) -> float | None:
        """GPU memory of such a training at its fullest; nothing where none was measured."""
        rows, training = self.rows(method.kind, "peak_gib"), self.config.training
        if not rows or self.machine.memory_gib is None:
            return None
        found = [
            [1, row["batch"] * row["pack"] * self.area(row["resolution"]), (row["rank"] or 0) * row["pack"]]
            for row in rows
        ]
        kept = CHECKPOINTED_MEMORY if training.gradient_checkpointing else 1.0
        weights = fit(found, [row["peak_gib"] for row in rows])
        total = self.size * float(weights @ [1, kept * pack * self.images * self.area(), rank_of(method) * pack])
        if not isinstance(method, LoraMethod):
            eight_bit = training.optimizer.name == "adamw8bit"
            small = not method.master_weights and training.mixed_precision == "bf16"
            saved = EIGHT_BIT_SAVES if eight_bit else NO_MASTERS_SAVE if small else 0
            total -= saved * self.size * self.table["unet_weights"] / 2**30
        return round(total, 2)

    def passes(self, count: int, batch: int) -> float:
        """Seconds of `count` pictures going once through the UNet without gradient, `batch` at once."""

        def shares(size: int, area: float) -> list[float]:
            return [size * area, 1, size * area**2]

        rows = self.table["painting"]
        found = [shares(row["batch"], self.area(row["resolution"])) for row in rows]
        weights = fit(found, [row["seconds"] for row in rows])
        full, rest = divmod(count, batch)
        return self.scale * sum(
            float(weights @ shares(size, self.area())) for size in [batch] * full + [rest] * (rest > 0)
        )

    def paint(self, pictures: int, slower: float = 1.0) -> float:
        """Seconds of painting pictures, each pass so many times slower than the UNet's alone."""
        settings = self.config.generation
        ways = 2 if settings.guidance_scale > 1 else 1
        once = self.passes(ways * pictures, ways * settings.batch_size)
        return settings.num_inference_steps * slower * once + pictures * self.fixed("decode_picture") * self.area()


def relative_cost(config: Config, method: Method, pack: int = 1) -> float:
    """Seconds of a training, or of a pack of LoRAs, on the table's own machine: to be compared with one another."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tables = json.loads(TABLE.read_text(encoding="utf-8"))["machines"]
    table = next(table for table in tables if (table["device"] == "cpu") == (device == "cpu"))
    machine = Machine(device, table["machine"], None, table["probe_seconds"])
    return Costs(config, table, machine, 1.0).train(method, pack)


def rank_of(method: Method) -> int:
    """The rank of a LoRA; 0 for the UNet."""
    return method.rank if isinstance(method, LoraMethod) else 0


def why_plain(config: Config, method: Method, device: str) -> str | None:
    """Why a training's steps will not be graphs, or nothing: what `training.graph.why_plain` says once it is there."""
    training = config.training
    if device != "cuda":
        return "there is no CUDA GPU"
    if not training.cuda_graph:
        return "training.cuda_graph is off"
    if isinstance(method, LoraMethod) and method.dropout:
        return "LoRA dropout draws from a generator that a graph cannot reseed"
    if training.mixed_precision == "fp16" and training.optimizer.name != "adamw":
        return "this optimizer cannot follow fp16's loss scale inside a graph"
    return None
