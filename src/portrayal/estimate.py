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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portrayal.config import Config, LoraMethod, Method
from portrayal.limits import bounded_json

TABLE = Path(__file__).with_name("measurements.json")
PHOTOS = 15
"""How many are reckoned with before they are read."""
READ_AT_ONCE = 16
"""Held-out readings in one pass; see `evaluation.heldout`."""
CHECKPOINTED_SECONDS, CHECKPOINTED_MEMORY = 4 / 3, 0.3
"""What gradient checkpointing makes of a step's time (one more pass forward beside one forward and two back), and
leaves of the memory that pictures take."""
EIGHT_BIT_SAVES, NO_MASTERS_SAVE = 6, 10
"""Bytes of each weight of a full UNet that bitsandbytes' averages, and training without fp32 masters, save."""
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
    modes: dict[str, str]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """All stages together, to a tenth: what is told is what is kept."""
        return round(sum(stage.seconds for stage in self.stages), 1)

    @property
    def peak_gib(self) -> float | None:
        """GPU memory at its fullest; nothing where it was not measured."""
        return max((stage.peak_gib for stage in self.stages if stage.peak_gib is not None), default=None)

    def as_json(self) -> Json:
        """The estimate for programs, as `estimate.json` keeps it."""
        stages = [asdict(stage) | {"seconds": round(stage.seconds, 2)} for stage in self.stages]
        totals = {"seconds": self.seconds, "peak_gib": self.peak_gib, "scale": round(self.scale, 3)}
        return {"schema": 1, **asdict(self), **totals, "stages": stages}

    def lines(self) -> list[str]:
        """The estimate for people."""
        times = f"{self.scale:.2g} times as long as on {self.reference}"
        rows = [f"about {spoken(self.seconds)} for {self.photos} photos on {self.machine.name}, {times}"]
        measured = self.peak_gib is not None
        for stage in self.stages:
            memory = "" if stage.peak_gib is None else f"{stage.peak_gib:.1f} GiB"
            what = f"{memory:>10}  {stage.what}" if measured else f"  {stage.what}"
            rows.append(f"  {stage.title:<24}{spoken(stage.seconds):>8}{what}".rstrip())
        return [*rows, "", *(f"  {key:<24}{value}" for key, value in self.modes.items())]


def spoken(seconds: float) -> str:
    """`40 s`, `3.5 min`, `12 min`, `1.4 h`."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = seconds / 60
    return f"{minutes:.{0 if minutes >= 10 else 1}f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


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


def counted(count: int, noun: str) -> str:
    """`1 photo`, `2 photos`."""
    return f"{count} {noun}" + "s" * (count != 1)


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


def stages_of(costs: Costs, packs: Sequence[int], photos: int) -> Iterator[Stage]:
    """The parts of a run as its study really does them, LoRAs in packs of these sizes."""
    config, fixed = costs.config, costs.fixed
    study, generation, control, trials = config.study, config.generation, config.control, len(config.trials)
    loras = sorted((one for one in config.methods.values() if isinstance(one, LoraMethod)), key=rank_of)
    pictures = len(generation.scenes) * generation.num_images_per_scene
    of_each = pictures + generation.num_images_per_scene  # the class is painted too
    yield Stage("load", "load and encode", fixed("load"))
    yield Stage("prepare", "prepare photos", photos * fixed("prepare_photo"))
    if config.training.prior_loss_weight:
        count = math.ceil(config.training.num_class_images / generation.batch_size) * generation.batch_size
        what = f"{count} pictures, unless an earlier run kept them"
        yield Stage("class_images", "paint class images", costs.paint(count), what=what)
    if study.full_unet:
        unet, times = config.method.unet, study.unet_folds
        what = f"{unet.max_train_steps} steps" + (f", {times} times" if times > 1 else "")
        yield Stage("train.unet", "train full UNet", times * costs.train(unet), costs.gib(unet), what)
    if loras:
        seconds = sum(costs.train(loras[-1], pack) for pack in packs)  # others are padded to the widest
        what = f"{config.method.lora.max_train_steps} steps, {sum(packs)} LoRAs, {max(packs)} at once"
        yield Stage("train.lora", "train LoRAs", seconds, costs.gib(loras[-1], max(packs)), what)
    heldout = photos / study.folds if study.folds > 1 else config.prepare.num_heldout or min(4, max(1, photos // 5))
    cells = round(heldout * config.evaluation.num_timesteps * config.evaluation.num_noises)
    losses, readings = costs.passes(cells, READ_AT_ONCE), trials * study.readings
    likeness = costs.paint(len(generation.scenes)) if study.readings > 1 else 0.0
    seconds = readings * (losses + likeness) + study.folds * losses  # and once with the base
    yield Stage("steps", "find best steps", seconds, what=f"{readings} readings of {trials} trainings")
    seconds = (trials + 1) * costs.paint(of_each)
    yield Stage("generate", "paint scenes", seconds, what=f"{(trials + 1) * of_each} pictures")
    shown = 0
    if control.enabled:
        models = 1 + study.full_unet + bool(loras)
        held = models * len(control.kinds) * sum(scale > 0 for scale in control.scales)
        free = models * (control.scales[0] == 0)  # of no kind, so painted once
        slow, quick = costs.paint(control.num_images, costs.table["controlnet_factor"]), costs.paint(control.num_images)
        shown = (held + free) * control.num_images
        yield Stage("control", "paint to control images", held * slow + free * quick, what=f"{shown} pictures")
    looks = (trials + study.folds * study.seeds) * of_each * (2 if control.enabled else 1) + shown
    yield Stage("evaluate", "judge", looks * fixed("judge_picture"))
    if study.final:
        last = loras[len(loras) // 2] if loras else config.method.unet
        seconds = costs.train(last) + costs.paint(pictures)
        yield Stage("final", "train on all photos", seconds, costs.gib(last), "to the last step at most")
    yield Stage("report", "write report", fixed("report"))


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
    costs = Costs(config, table, machine, unet_weights / table["unet_weights"])
    stages = tuple(stages_of(costs, packs, photos))
    modes, notes = modes_of(costs, stages, packs), tuple(cautions(costs, stages))
    return Estimate(machine, table["machine"], costs.scale, photos, stages, modes, notes)


def modes_of(costs: Costs, stages: Sequence[Stage], packs: Sequence[int]) -> dict[str, str]:
    """How the work is done."""
    training, methods = costs.config.training, costs.config.methods.values()
    plain = {method.kind: why_plain(costs.config, method, costs.machine.device) for method in methods}
    ways = {kind: f"plain, {why}" if why else "CUDA graph" for kind, why in plain.items()}
    longest = max(stage.seconds for stage in stages if stage.name.startswith("train."))
    pays = f": it takes about {COMPILE_SECONDS} s and would save {spoken(COMPILE_GAIN * longest)} at most"
    riding = costs.images - training.train_batch_size
    return {
        "steps": ways.popitem()[1]
        if len({*ways.values()}) == 1
        else "; ".join(f"{kind} {ways[kind]}" for kind in ways),
        "compiled": "no" + (pays if "CUDA graph" in ways.values() else ""),
        "number format": "fp32" if training.mixed_precision == "no" else training.mixed_precision,
        "batch": ", ".join([counted(training.train_batch_size, "photo"), counted(riding, "class image")]),
        "LoRAs at once": str(max(packs, default=0)),
        "gradient checkpointing": "on" if training.gradient_checkpointing else "off",
    }


def cautions(costs: Costs, stages: Sequence[Stage]) -> Iterator[str]:
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
        yield f"This base was never measured on such a device: time and memory are reckoned roughly, from {known}."


# Afterwards ------------------------------------------------------------------------------------------------------


def whole_stages(log: Path) -> dict[str, float]:
    """Seconds of each part of a run by its `events.jsonl`, without those of which a stage was ever interrupted."""
    began: dict[str, float] = {}
    found: dict[str, float] = {}
    torn = set()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = bounded_json(line)
            name, kind, now = str(event["stage"]), event["kind"], float(event["time"])
        except (ValueError, TypeError, KeyError):  # written as the power went
            continue
        part = part_of(name)
        if kind == "started":
            torn |= {part} if name in began else set()
            began[name] = now
        elif kind == "finished" and name in began:
            found[part] = found.get(part, 0.0) + max(0.0, now - began.pop(name))  # clocks are set back
    return {part: seconds for part, seconds in found.items() if part not in torn | {part_of(name) for name in began}}


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
