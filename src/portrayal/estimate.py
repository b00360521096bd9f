"""How long a run will take here and what memory it needs: a table of measurements, scaled by a short probe.

`measurements.json`, which `python -m scripts.measurements` writes, holds for each `device` (`cpu`, `cuda`) one
reference machine and what was measured on it:

    machine, base, resolution, unet_weights   where, and on what
    probe_seconds                             what `probe` takes there
    training    method, rank, batch, pack, resolution, images_per_second of all, peak_gib (nothing on a CPU)
    painting    batch, resolution, seconds of one pass through the UNet, without gradient, of that many pictures
    seconds     load, prepare_photo, decode_picture, judge_picture, report
    controlnet_factor, plain_step_seconds     by what a ControlNet lengthens a pass; what launches alone take, in a step
    assumed     what of all this was not measured

Between and beyond its rows a cost is a sum of shares that grow with pictures, pixels, rank and LoRAs, fitted to them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from portrayal.config import Config, LoraMethod, Method

TABLE = Path(__file__).with_name("measurements.json")
PHOTOS = 15
"""How many are reckoned with before they are read."""
READ_AT_ONCE = 16
"""Held-out readings in one pass; see `evaluation.heldout`."""
CHECKPOINTED_SECONDS, CHECKPOINTED_MEMORY = 4 / 3, 0.3
"""What gradient checkpointing makes of a step's time (one more pass forward beside one forward and two back), and
leaves of the memory that pictures take."""
EIGHT_BIT_SAVES = 6
"""Bytes of each trained weight that an 8-bit optimizer saves: two averages, each one byte instead of four."""
COMPILE_SECONDS, COMPILE_GAIN = 90, 0.05
"""What compiling a step would take, and the most it would save of a training whose steps are graphs already."""

Json = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Machine:
    """What a run is on: name, memory of the GPU in GiB (nothing without one) and seconds that the probe took."""

    device: str
    name: str
    memory_gib: float | None
    probe_seconds: float


@dataclass(frozen=True)
class Stage:
    """One part of a run: `name` is what its stages in `stages/` begin with; memory is the GPU's at its fullest."""

    name: str
    title: str
    seconds: float
    peak_gib: float | None = None
    what: str = ""


@dataclass(frozen=True)
class Estimate:
    """Seconds and memory of a run on a machine.

    Attributes:
        machine: The machine.
        reference: Name of the one that the table was measured on.
        scale: Times its seconds that a training takes here.
        photos: How many photos were reckoned with.
        stages: The parts, in order.
        modes: How the work is done, for people.
        notes: What to know of it: too little memory; a base the table does not know.
    """

    machine: Machine
    reference: str
    scale: float
    photos: int
    stages: tuple[Stage, ...]
    modes: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_gib(self) -> float | None:
        """GPU memory at its fullest; nothing where it was not measured."""
        return max((stage.peak_gib for stage in self.stages if stage.peak_gib is not None), default=None)

    def as_json(self) -> Json:
        """The estimate for programs, as `estimate.json` keeps it."""
        stages = [asdict(stage) | {"seconds": round(stage.seconds, 2)} for stage in self.stages]
        totals = {"seconds": round(self.seconds, 1), "peak_gib": self.peak_gib}
        return {"schema": 1, **asdict(self), "scale": round(self.scale, 3), **totals, "stages": stages}

    def lines(self) -> list[str]:
        """The estimate for people."""
        times = f"{self.scale:.2g} times as long as on {self.reference}"
        rows = [f"takes about {spoken(self.seconds)} with {self.photos} photos on {self.machine.name} ({times})"]
        for stage in self.stages:
            memory = "" if stage.peak_gib is None else f"{stage.peak_gib:.1f} GiB"
            rows.append(f"  {stage.title:<22}{spoken(stage.seconds):>8}{memory:>10}  {stage.what}".rstrip())
        return [*rows, *(f"{key.replace('_', ' ')}: {value}" for key, value in self.modes.items())]


def spoken(seconds: float) -> str:
    """`40 s`, `3.5 min`, `12 min`, `1.4 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = seconds / 60
    return f"{minutes:.{0 if minutes >= 10 else 1}f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


@lru_cache
def this_machine(device: Literal["cpu", "cuda", "mps"], precision: str) -> Machine:
    """The machine as it is now, probed once."""
    import torch

    if device != "cuda":
        name = f"this CPU ({torch.get_num_threads()} threads)" if device == "cpu" else "this GPU"
        return Machine(device, name, None, probe(device, precision))
    properties = torch.cuda.get_device_properties(0)
    return Machine(device, properties.name, properties.total_memory / 2**30, probe(device, precision))


def probe(device: str, precision: str) -> float:
    """Seconds of a fixed mix of a UNet's work: convolution, matrix product, memory traffic; median of five.

    The shapes are those of `pocket` on a CPU and of SD 1.5 elsewhere. No weights are loaded, nothing random is drawn.
    """
    import torch
    from torch.nn.functional import conv2d, linear, silu

    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    batch, channels, side, traffic, rounds = (6, 128, 16, 2**20, 4) if device == "cpu" else (8, 320, 64, 2**26, 20)

    def made(*shape: int) -> torch.Tensor:
        return torch.full(shape, 0.01, dtype=dtype, device=device)

    def wait() -> None:
        if device != "cpu":
            getattr(torch, device).synchronize()

    picture = made(batch, channels, side, side).to(memory_format=torch.channels_last)
    tokens, much = made(batch * side * side, channels), made(traffic)
    kernel = made(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    wide, narrow = made(8 * channels, channels), made(channels, 8 * channels)
    taken = []
    with torch.inference_mode():
        for _ in range(6):
            wait()
            started = time.perf_counter()
            for _ in range(rounds):
                conv2d(picture, kernel, padding=1)
                linear(linear(tokens, wide), narrow)
                silu(much)
            wait()
            taken.append(time.perf_counter() - started)
    return sorted(taken[1:])[2]  # the first loads libraries


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
    """What work takes on a machine: the table of its kind of device.

    Attributes:
        table: See the head of this module.
        machine: The machine.
        size: Weights of the base's UNet, as a multiple of the table's.
    """

    table: Mapping[str, Any]
    machine: Machine
    size: float

    @property
    def scale(self) -> float:
        """Times the table's seconds that the same work takes here."""
        return float(self.machine.probe_seconds / self.table["probe_seconds"]) * self.size

    def area(self, resolution: int) -> float:
        """Pixels, as a multiple of the table's."""
        return float((resolution / self.table["resolution"]) ** 2)

    def rows(self, kind: str, key: str) -> list[Json]:
        """The trainings of a kind of method of which something was measured."""
        return [row for row in self.table["training"] if row["method"] == kind and row[key]]

    def step(self, kind: str, rank: int, images: int, pack: int, resolution: int) -> float:
        """Seconds of one pass forward and back and its update, of `images` pictures in all."""

        def shares(images: int, rank: int, pack: int, area: float) -> list[float]:
            return [images * area, 1, images * area * rank, pack, images * area**2]

        rows = self.rows(kind, "images_per_second") or self.rows("unet", "images_per_second")
        found = [
            shares(row["batch"] * row["pack"], row["rank"] or 0, row["pack"], self.area(row["resolution"]))
            for row in rows
        ]
        weights = fit(found, [row["batch"] * row["pack"] / row["images_per_second"] for row in rows])
        return float(self.scale * weights @ shares(images, rank, pack, self.area(resolution)))

    def gib(self, kind: str, rank: int, images: int, pack: int, resolution: int, kept: float = 1.0) -> float | None:
        """GPU memory of such a step where it was measured; `kept` is what of the pictures' share is not recomputed."""
        rows = self.rows(kind, "peak_gib")
        if not rows or self.machine.memory_gib is None:
            return None
        found = [
            [1, row["batch"] * row["pack"] * self.area(row["resolution"]), (row["rank"] or 0) * row["pack"]]
            for row in rows
        ]
        weights = fit(found, [row["peak_gib"] for row in rows])
        return float(self.size * weights @ [1, kept * images * self.area(resolution), rank * pack])

    def passes(self, count: int, batch: int, resolution: int) -> float:
        """Seconds of `count` pictures going once through the UNet without gradient, `batch` at once."""
        rows, area = self.table["painting"], self.area(resolution)
        areas = [self.area(row["resolution"]) for row in rows]
        found = [[row["batch"] * one, 1, row["batch"] * one**2] for row, one in zip(rows, areas, strict=True)]
        weights = fit(found, [row["seconds"] for row in rows])
        full, rest = divmod(count, batch)
        sizes = [batch] * full + [rest] * (rest > 0)
        return float(self.scale * sum(weights @ [size * area, 1, size * area**2] for size in sizes))

    def paint(self, pictures: int, config: Config, *, batch: int | None = None, slower: float = 1.0) -> float:
        """Seconds of painting pictures."""
        settings, resolution = config.generation, resolution_of(config)
        ways = 2 if settings.guidance_scale > 1 else 1
        once = self.passes(ways * pictures, ways * (batch or settings.batch_size), resolution)
        decode = self.scale * self.table["seconds"]["decode_picture"] * self.area(resolution)
        return slower * settings.num_inference_steps * once + pictures * decode

    def train(self, config: Config, method: Method, pack: int) -> float:
        """Seconds of a training, or of a pack of LoRAs."""
        training, rank = config.training, rank_of(method)
        step = self.step(method.kind, rank, pack * images_of(config), pack, resolution_of(config))
        if training.gradient_checkpointing:
            step *= CHECKPOINTED_SECONDS
        if self.machine.device == "cuda" and why_plain(config, method, self.machine.device):
            step = max(step, self.table["plain_step_seconds"])
        return method.max_train_steps * training.gradient_accumulation_steps * step

    def train_gib(self, config: Config, method: Method, pack: int) -> float | None:
        """GPU memory of such a training at its fullest."""
        training, rank = config.training, rank_of(method)
        kept = CHECKPOINTED_MEMORY if training.gradient_checkpointing else 1.0
        found = self.gib(method.kind, rank, pack * images_of(config), pack, resolution_of(config), kept)
        if found is not None and training.optimizer.name == "adamw8bit" and method.kind == "unet":
            found -= EIGHT_BIT_SAVES * self.size * self.table["unet_weights"] / 2**30
        return found


def resolution_of(config: Config) -> int:
    """Side of the pictures in pixels; a settled config has one."""
    return config.base.resolution or 512


def images_of(config: Config) -> int:
    """Pictures of one model in one pass: photos, and the class images that ride along."""
    training = config.training
    riding = (training.class_batch_size or training.train_batch_size) if training.prior_loss_weight else 0
    return training.train_batch_size + riding


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


def why_not_compiled(seconds: float) -> str:
    """Compiling a step would have to save more than it takes; no training of today's length does."""
    saves = f"it would take about {COMPILE_SECONDS} s and save {spoken(COMPILE_GAIN * seconds)} at most"
    return saves if seconds * COMPILE_GAIN < COMPILE_SECONDS else f"not built in; {saves}"


def stages_of(config: Config, costs: Costs, packs: Sequence[int], photos: int) -> Iterator[Stage]:
    """The parts of a run as its study really does them, LoRAs in packs of these sizes."""
    study, generation, control = config.study, config.generation, config.control
    fixed = {name: costs.scale / costs.size * seconds for name, seconds in costs.table["seconds"].items()}
    trials, methods = list(config.trials.values()), config.methods
    loras = [method for method in methods.values() if isinstance(method, LoraMethod)]
    scenes = len(generation.scenes)
    by_each = (scenes + 1) * generation.num_images_per_scene  # and as many of the class as of a scene

    yield Stage("load", "load and encode", fixed["load"])
    yield Stage("prepare", "prepare photos", photos * fixed["prepare_photo"], what=f"{photos} photos")
    if config.training.prior_loss_weight:
        batch = generation.batch_size
        count = math.ceil(config.training.num_class_images / batch) * batch
        what = f"{count} pictures, if no earlier run kept them"
        yield Stage("class_images", "paint class images", costs.paint(count, config), what=what)
    if study.full_unet:
        unet, times = methods["unet"], study.unet_folds
        what = f"{unet.max_train_steps} steps" + (f", {times} times" if times > 1 else "")
        gib = costs.train_gib(config, unet, 1)
        yield Stage("train.unet", "train full UNet", times * costs.train(config, unet, 1), gib, what)
    if loras:
        widest = max(loras, key=lambda method: method.rank)  # to which the others of a pack are padded
        seconds = sum(costs.train(config, widest, pack) for pack in packs)
        what = f"{sum(packs)} LoRAs, {max(packs)} at once, {widest.max_train_steps} steps"
        yield Stage("train.lora", "train LoRAs", seconds, costs.train_gib(config, widest, max(packs)), what)
    heldout = photos / study.folds if study.folds > 1 else config.prepare.num_heldout or min(4, max(1, photos // 5))
    cells = round(heldout * config.evaluation.num_timesteps * config.evaluation.num_noises)
    reading = costs.passes(cells, READ_AT_ONCE, resolution_of(config))
    picture = costs.paint(scenes, config) if study.readings > 1 else 0
    seconds = len(trials) * study.readings * (reading + picture) + study.folds * reading
    yield Stage("steps", "find best steps", seconds, what=f"{len(trials)} trainings, {study.readings} readings of each")
    painters = len(trials) + 1
    what = f"{painters * by_each} pictures"
    yield Stage("generate", "paint scenes", painters * costs.paint(by_each, config), what=what)
    shown = 0
    if control.enabled:
        models = 1 + study.full_unet + bool(loras)
        held = models * len(control.kinds) * sum(scale > 0 for scale in control.scales)
        free = models * (control.scales[0] == 0)  # of no kind, so painted once
        batch, shown = min(generation.batch_size, control.num_images), (held + free) * control.num_images
        once = costs.paint(control.num_images, config, batch=batch)
        slower = costs.paint(control.num_images, config, batch=batch, slower=costs.table["controlnet_factor"])
        yield Stage("control", "paint to control images", held * slower + free * once, what=f"{shown} pictures")
    judged = (len(trials) + study.folds * max(1, study.seeds)) * by_each * (2 if control.enabled else 1) + shown
    yield Stage("evaluate", "judge", judged * fixed["judge_picture"], what=f"{judged} looks at pictures")
    if study.final:
        last = sorted(loras, key=lambda method: method.rank)[len(loras) // 2] if loras else methods["unet"]
        seconds = costs.train(config, last, 1) + costs.paint(by_each - generation.num_images_per_scene, config)
        gib = costs.train_gib(config, last, 1)
        yield Stage("final", "train on all photos", seconds, gib, "the recommended model, to its last step at most")
    yield Stage("report", "write report", fixed["report"])


def estimate(
    config: Config, machine: Machine, *, unet_weights: int, packs: Sequence[int], photos: int = PHOTOS
) -> Estimate:
    """Seconds, memory and modes of a run.

    Args:
        config: Settled settings.
        machine: Where it will run; see `this_machine`.
        unet_weights: Of the base.
        packs: LoRAs trained in one batch, batch after batch.
        photos: How many there are.
    """
    tables = json.loads(TABLE.read_text(encoding="utf-8"))["machines"]
    table = next(table for table in tables if (table["device"] == "cpu") == (machine.device == "cpu"))
    costs = Costs(table, machine, unet_weights / table["unet_weights"])
    stages = tuple(stages_of(config, costs, packs, photos))
    training, modes = config.training, {}
    for kind in {method.kind: method for method in config.methods.values()}.values():
        reason = why_plain(config, kind, machine.device)
        label = "unet" if kind.kind == "unet" else "loras"
        modes[f"steps_of_{label}"] = f"plain: {reason}" if reason else "graph"
    longest = max(stage.seconds for stage in stages if stage.name.startswith("train."))
    modes["compiled"] = f"no: {why_not_compiled(longest)}"
    modes["mixed_precision"] = training.mixed_precision
    modes["gradient_checkpointing"] = "yes" if training.gradient_checkpointing else "no"
    return Estimate(machine, table["machine"], costs.scale, photos, stages, modes, tuple(warnings(costs, stages)))


def warnings(costs: Costs, stages: Sequence[Stage]) -> Iterator[str]:
    """What may not go as reckoned."""
    memory = costs.machine.memory_gib
    large = [stage for stage in stages if memory and stage.peak_gib and stage.peak_gib > memory]
    for stage in large:
        yield (
            f"{stage.title}: about {stage.peak_gib:.1f} GiB of GPU memory, and there are {memory:.1f}. Take --recipe "
            "sd15-8gb, training.gradient_checkpointing=true, a smaller training.train_batch_size or "
            "study.loras_at_once=1."
        )
    if not 0.8 < costs.size < 1.25:
        known = f"{costs.table['base']} on {costs.table['machine']}"
        yield f"Time and memory of this base were never measured on such a device; they are reckoned from {known}, roughly."


# Afterwards ------------------------------------------------------------------------------------------------------


def whole_stages(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds of each part of a run, summed over its stages; parts with a stage that was ever interrupted are left out."""
    began: dict[str, float] = {}
    found: dict[str, float] = {}
    torn = set()
    for event in events:
        name = str(event["stage"])
        if event["kind"] == "started":
            torn |= {part_of(name)} if name in began else set()
            began[name] = event["time"]
        elif event["kind"] == "finished" and name in began:
            found[part_of(name)] = found.get(part_of(name), 0.0) + event["time"] - began.pop(name)
    return {name: seconds for name, seconds in found.items() if name not in torn | {part_of(name) for name in began}}


def part_of(stage: str) -> str:
    """The part of a run that a stage such as `train.lora-8.fold-2` or `generate.final` belongs to."""
    if stage.endswith(".final"):
        return "final"
    kind = stage.split(".")[0]
    return kind if kind != "train" else "train.unet" if stage.startswith("train.unet") else "train.lora"


def compare(estimated: Mapping[str, Any], took: Mapping[str, float]) -> Json:
    """What each part took beside what was reckoned, and all of them that both know: `off` is the share it took more."""
    rows = {
        stage["name"]: {"seconds": round(took[stage["name"]], 2), "estimated": stage["seconds"]}
        for stage in estimated["stages"]
        if stage["name"] in took
    }
    total = sum(row["seconds"] for row in rows.values())
    reckoned = sum(row["estimated"] for row in rows.values())
    off = round(total / reckoned - 1, 3) if reckoned else None
    return {"seconds": round(total, 1), "estimated": round(reckoned, 1), "off": off, "stages": rows}


def said(took: Mapping[str, Any], *, whole: bool) -> str:
    """`took 412 s, estimated 380 s (8 % more)`."""
    more = "more" if (took["off"] or 0) >= 0 else "less"
    text = f"took {took['seconds']:.0f} s, estimated {took['estimated']:.0f} s ({abs(took['off'] or 0):.0%} {more})"
    return text.replace("%", " %") + ("" if whole else ", of the stages that were timed whole")
