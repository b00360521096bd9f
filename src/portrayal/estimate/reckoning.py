"""The parts of a run as its study really does them, each with what it will take here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from portrayal.config import Config, LoraMethod
from portrayal.estimate.costs import TABLE, Costs, rank_of, why_plain
from portrayal.estimate.machine import Machine
from portrayal.estimate.record import Estimate, Stage, spoken
from portrayal.evaluation.cuts import cut_ranks

PHOTOS = 15
"""How many are reckoned with before they are read."""

READ_AT_ONCE = 16
"""Held-out readings in one pass; see `evaluation.heldout`."""

COMPILE_SECONDS, COMPILE_GAIN = 90, 0.05
"""What compiling a step would take, and the most it would save of a training whose steps are graphs already."""


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


def stages_of(costs: Costs, packs: Sequence[int], photos: int) -> Iterator[Stage]:
    """The parts of a run as its study really does them, LoRAs in packs of these sizes."""
    config, fixed = costs.config, costs.fixed
    to_train, to_read, to_paint = (fixed(f"begin_{what}") for what in ("training", "reading", "painting"))
    study, generation, control, trials = config.study, config.generation, config.control, config.num_trials
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
        yield Stage("train.unet", "train full UNet", times * (to_train + costs.train(unet)), costs.gib(unet), what)
    if loras:
        seconds = sum(to_train + costs.train(loras[-1], pack) for pack in packs)  # others are padded to the widest
        what = f"{config.method.lora.max_train_steps} steps, {sum(packs)} LoRAs, {max(packs)} at once"
        yield Stage("train.lora", "train LoRAs", seconds, costs.gib(loras[-1], max(packs)), what)
    heldout = config.prepare.num_heldout or (photos / study.folds if study.folds > 1 else min(4, max(1, photos // 5)))
    cells = round(heldout * config.evaluation.num_timesteps * config.evaluation.num_noises)
    losses, readings = costs.passes(cells, READ_AT_ONCE), trials * study.readings
    likeness = to_paint + costs.paint(len(generation.scenes)) if study.readings > 1 else 0.0
    seconds = readings * (to_read + losses + likeness) + study.folds * (to_read + losses)  # and once with the base
    yield Stage("steps", "find best steps", seconds, what=f"{readings} readings of {trials} trainings")
    seconds = (trials + 1) * (to_paint + costs.paint(of_each))
    yield Stage("generate", "paint scenes", seconds, what=f"{(trials + 1) * of_each} pictures")
    shown = 0
    if control.enabled:
        models = 1 + study.full_unet + bool(loras)
        held = models * len(control.kinds) * sum(scale > 0 for scale in control.scales)
        free = models * (control.scales[0] == 0)  # of no kind, so painted once
        factors = costs.table["controlnet_factor"], 1.0
        slow, quick = (to_paint + costs.paint(control.num_images, slower) for slower in factors)
        shown = (held + free) * control.num_images
        yield Stage("control", "paint to control images", held * slow + free * quick, what=f"{shown} pictures")
    looks = (trials + study.folds * study.seeds) * of_each * (2 if control.enabled else 1) + shown
    cuts = cut_pictures(config, loras, of_each)
    seconds = cuts / of_each * (to_paint + costs.paint(of_each)) + (looks + cuts) * fixed("judge_picture")
    yield Stage("evaluate", "judge", seconds, what=f"{cuts} pictures at lower ranks" if cuts else "")
    if study.final:
        last = loras[len(loras) // 2] if loras else config.method.unet
        seconds = to_train + costs.train(last) + to_paint + costs.paint(pictures)
        yield Stage("final", "train on all photos", seconds, costs.gib(last), "to the last step at most")
    yield Stage("report", "write report", fixed("report"))


def cut_pictures(config: Config, loras: Sequence[LoraMethod], of_each: int) -> int:
    """Pictures by the recommended LoRA at lower ranks: of each of its trainings, if there are several."""
    study = config.study
    times, further = study.folds * study.seeds, study.num_trainings - study.num_loras
    if study.num_trainings < study.num_loras * times:  # in rounds; later seeds are for what is open still
        times = study.folds if further >= study.folds - 1 else 1
    return len(cut_ranks(loras[len(loras) // 2].rank)) * times * of_each if loras and times > 1 else 0


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


def counted(count: int, noun: str) -> str:
    """`1 photo`, `2 photos`."""
    return f"{count} {noun}" + "s" * (count != 1)
