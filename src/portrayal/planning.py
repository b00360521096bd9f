"""From what a person asked for to what will be done: base, device, precision and sizes settled, mistakes said first."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portrayal.config import TEXT_ENCODER_TARGETS, Config, LoraMethod, Method
from portrayal.errors import MachineError, UsageError
from portrayal.estimate.machine import this_machine
from portrayal.estimate.reckoning import PHOTOS, estimate
from portrayal.estimate.record import Estimate
from portrayal.models.source import BaseSource, find_base, part_config
from portrayal.settings import load_config

if TYPE_CHECKING:
    from torch import nn

GIB = 2**30
LORA_GIB, ROW_GIB, SHARE_OF_MEMORY = 2.3, 1.4, 0.7
"""GiB that training a LoRA takes at 512 pixels in bf16, and each picture of the batch (`python -m
benchmarks.lora_packs`); and what of the memory is counted on."""
TRAINING_STATE = 3 * 4
"""Bytes of a weight in a checkpoint: itself and two averages of its gradient, in fp32."""
WEIGHT_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
PICTURES_GIB = 0.1
LIBRARIES_GIB = 0.8
"""Of memory, that Python and its libraries take."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        config: The settings with nothing left to choose.
        source: The base.
        device: `cuda`, `mps` or `cpu`.
        disk_gib: Disk space the run needs at its fullest.
        notes: What is done as asked, and may not be what was meant.
        unet_weights: Of the base.
    """

    config: Config
    source: BaseSource
    device: str
    disk_gib: float
    notes: tuple[str, ...] = ()
    unet_weights: int = 0

    def estimate(self, photos: int = PHOTOS) -> Estimate:
        """Seconds, memory and modes of the run on this machine, which is probed for a second the first time."""
        machine = this_machine(self.device, self.config.training.mixed_precision)
        packs = lora_packs(self.config)
        return estimate(self.config, machine, unet_weights=self.unet_weights, packs=packs, photos=photos)

    def as_json(self) -> dict[str, Any]:
        """The plan for programs."""
        estimated = self.estimate()
        return {
            "base": {"name": self.source.name, "kind": self.source.kind, "reason": self.source.reason},
            "device": self.device,
            "disk_gib": round(self.disk_gib, 2),
            "models": {name: method.max_train_steps for name, method in self.config.methods.items()},
            "trainings": self.num_trainings,
            "pictures": self.num_pictures,
            "notes": [*self.notes, *estimated.notes],
            "estimate": estimated.as_json(),
            "config": self.config.model_dump(mode="json"),
        }

    @property
    def num_trainings(self) -> dict[str, int]:
        """How often each model is trained to be judged, before the best LoRAs are trained further."""
        first = [self.config.trials[name].model for name in self.config.first_round]
        return {name: first.count(name) for name in self.config.methods}

    @property
    def num_pictures(self) -> int:
        """Pictures of scenes that are judged, over all trainings and the base."""
        generation = self.config.generation
        return (self.config.num_trials + 1) * len(generation.scenes) * generation.num_images_per_scene


def default_recipe(source: BaseSource) -> str:
    """The recipe that fits a base and this machine's GPU."""
    if source.kind == "pocket":
        return "pocket-demo"
    import torch

    memory = torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else 0
    return "sd15-80gb" if memory > 40 else "sd15-24gb" if memory > 16 else "sd15-8gb"


def make_plan(recipe: str | None, overrides: list[str]) -> Plan:
    """Settle everything that can be settled before photos are read.

    Args:
        recipe: Name or path of a recipe; nothing chooses by base and GPU.
        overrides: `section.key=value` texts.

    Raises:
        UsageError: If a setting or prompt cannot be meant.
        WeightsError: If the base cannot be had.
    """
    asked = load_config(recipe, overrides)
    source = find_base(asked.base)
    return settle(asked if recipe else load_config(default_recipe(source), overrides), source)


def settle(config: Config, source: BaseSource | None = None) -> Plan:
    """Fill in what a config leaves open, and check it against the base.

    Raises:
        UsageError: If a prompt is too long for the base or a target module matches nothing.
        WeightsError: If the base cannot be had, or has no pose reader and needs one.
    """
    from portrayal.models.base import choose_device, resolve_precision

    source = source or find_base(config.base)
    device = choose_device()
    check_trackers(config)
    check_rank(config)
    check_control(config, source)
    precision = resolve_precision(config.training.mixed_precision, device)
    if precision == "fp16" and device.type != "cuda":
        raise UsageError(
            f"training.mixed_precision: fp16 needs a CUDA GPU, and this run is on {device.type}.",
            "Set auto, no or bf16.",
        )
    name = source.name if source.kind in ("pocket", "hub") else str(source.path.resolve())
    base = config.base.model_copy(
        update={
            "name": name,
            "revision": source.revision,
            "vae": str(source.vae) if source.vae else None,
            "resolution": config.base.resolution or native_resolution(source),
        }
    )
    training = config.training.model_copy(update={"mixed_precision": precision})
    settled = config.model_copy(update={"base": base, "training": training})
    parts = empty_parts(source)
    check_against_base(settled, source, parts["unet"])
    notes = (*wide_ranks(settled, parts["unet"]), *unused_warmup(settled))
    weights = sum(weight.numel() for weight in parts["unet"].parameters())
    return Plan(settled, source, device.type, disk_needed(settled, parts), notes, weights)


def check_trackers(config: Config) -> None:
    """Refuse a tracker whose package is missing, rather than train without it.

    Raises:
        MachineError: If one is not installed.
    """
    for tracker in config.training.trackers:
        if find_spec(tracker) is None:
            raise MachineError(
                f"training.trackers: {tracker} is not installed.", f"pip install {tracker}, or leave the tracker out."
            )


def check_rank(config: Config) -> None:
    """Refuse a rank that no LoRA would have.

    Raises:
        UsageError: If `method.lora.rank` was set: each LoRA of a study has a rank of `study.ranks`.
    """
    rank = config.method.lora.rank
    if rank != LoraMethod().rank:
        raise UsageError("method.lora.rank: each LoRA of a study has a rank of its own.", f"Set study.ranks=[{rank}].")


def check_control(config: Config, source: BaseSource) -> None:
    """Refuse a kind of control image that would have to be read from a picture and cannot be, before hours of training.

    Raises:
        WeightsError: If poses are asked for and the base has no pose reader.
    """
    from portrayal.evaluation.control import CONTROL_KINDS
    from portrayal.models.pose import check_pose_reader

    control = config.control
    reads_pose = any(CONTROL_KINDS[kind].reader == "pose" for kind in control.kinds)
    if control.enabled and reads_pose and not control.reference_is_control_image:
        check_pose_reader(source)


def native_resolution(source: BaseSource) -> int:
    """Side in pixels of the pictures the base was trained on, read from its configs."""
    folder = source.folder
    unet, vae = part_config(folder, "unet"), part_config(folder, "vae")
    return int(unet["sample_size"]) * int(2 ** (len(vae["block_out_channels"]) - 1))


def empty_parts(source: BaseSource) -> dict[str, nn.Module]:
    """A base's UNet and text encoder without their weights: layers and sizes, in no memory."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = source.folder
    with torch.device("meta"):  # of this thread alone; accelerate's way would reach into others that load weights
        return {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet")),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder")),
        }


def check_against_base(config: Config, source: BaseSource, unet: nn.Module) -> None:
    """Refuse captions the base would cut off, weights that cannot be meant in prompts to paint, and adapters it has no
    place for, before anything is made."""
    from transformers import CLIPTokenizer

    from portrayal.generation.prompts import fragments_of
    from portrayal.models.base import check_prompts
    from portrayal.models.methods import check_targets

    folder = source.folder
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True)
    subject = config.subject
    painting, control = config.generation, config.control
    for prompt in (*painting.scenes.values(), painting.negative_prompt, control.prompt):
        fragments_of(prompt)
    check_prompts(tokenizer, [subject.filled_instance_prompt, subject.filled_class_prompt])
    if any(isinstance(method, LoraMethod) for method in config.methods.values()):
        check_targets(unet, config.method.lora.target_modules)


def wide_ranks(config: Config, unet: nn.Module) -> list[str]:
    """What to know of LoRAs that are wider than a layer: they are trained as asked, and larger than they need be."""
    from portrayal.models.methods import adapted_layers

    notes = []
    for name, method in config.methods.items():
        if not isinstance(method, LoraMethod):
            continue
        widths = [min(shape) for shape in adapted_layers(unet, method.target_modules)]
        narrow = [width for width in widths if width < method.rank]
        if narrow:
            notes.append(
                f"{name}: rank {method.rank} is above the width of {len(narrow)} of the {len(widths)} layers it adapts "
                f"(the narrowest: {min(narrow)}). It is trained as asked; there it can do no more than a rank equal "
                "to the width."
            )
    return notes


def unused_warmup(config: Config) -> list[str]:
    """What to know of a warm-up that the learning rate's schedule does not have."""
    steps, schedule = config.training.lr_warmup_steps, config.training.lr_scheduler
    if not steps or schedule != "constant":
        return []
    return [f"training.lr_warmup_steps: {schedule} has no warm-up; set training.lr_scheduler={schedule}_with_warmup."]


def num_weights(method: Method, parts: dict[str, nn.Module]) -> int:
    """How many weights a method trains."""
    from portrayal.models.methods import adapted_layers

    trained = ["unet", "text_encoder"] if method.train_text_encoder else ["unet"]
    if not isinstance(method, LoraMethod):
        return sum(weight.numel() for part in trained for weight in parts[part].parameters())
    targets = {"unet": method.target_modules, "text_encoder": TEXT_ENCODER_TARGETS}
    return sum(method.rank * sum(shape) for part in trained for shape in adapted_layers(parts[part], targets[part]))


def disk_needed(config: Config, parts: dict[str, nn.Module]) -> float:
    """GiB a run needs at its fullest: before best steps are chosen, every reading of every training is kept.

    One checkpoint more than are kept is there while it is written; of a pack it holds all that is trained together.
    """
    weights = {name: num_weights(method, parts) for name, method in config.methods.items()}
    size, readings = WEIGHT_BYTES[config.training.save_precision], config.study.readings
    first = [config.trials[name].model for name in config.first_round]
    kept = size * readings * sum(weights[model] for model in first)
    checkpoint = 0
    if config.training.checkpointing_steps:
        loras = [weights[model] for model in first if model != "unet"]
        together = sum(sorted(loras)[-loras_at_once(config) :])
        checkpoint = (
            (1 + config.training.checkpoints_total_limit) * TRAINING_STATE * max(weights.get("unet", 0), together)
        )
    return (kept + checkpoint) / GIB + PICTURES_GIB


def loras_at_once(config: Config) -> int:
    """How many LoRAs fit into one batch: what the settings say, or what the memory holds.

    All of it is counted, not what is free: the same command must pack the same way again.
    """
    if config.method.lora.dropout:
        return 1
    if config.study.loras_at_once:
        return config.study.loras_at_once
    training, resolution = config.training, config.base.resolution or 512
    rows = training.train_batch_size
    if training.prior_loss_weight:
        rows += training.class_batch_size or training.train_batch_size
    size = (resolution / 512) ** 2 * (2 if training.mixed_precision == "no" else 1)
    room = SHARE_OF_MEMORY * memory() - size * LORA_GIB
    return max(1, int(room / (size * ROW_GIB * rows)))


def lora_packs(config: Config) -> list[int]:
    """How many LoRAs train in each batch, batch after batch; of photos in several shapes, each fold has its own."""
    study, most = config.study, loras_at_once(config)
    first = sum(config.trials[name].model != "unet" for name in config.first_round)
    groups = [first, study.num_trainings - first]
    if config.prepare.shape == "bucket" and first == study.num_trainings:
        groups = [study.num_loras] * (study.folds * study.seeds)
    return [min(most, group - start) for group in groups for start in range(0, group, most)]


def memory() -> float:
    """GiB of the GPU, or of the machine."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory / GIB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB if hasattr(os, "sysconf") else 4.0


def check_disk(folder: Path, needed_gib: float) -> None:
    """Refuse to start a run that the disk has no room for.

    Raises:
        MachineError: If the disk has less than that free.
    """
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    if free < needed_gib:
        raise MachineError(
            f"{existing} has {free:.2f} GiB free and the run needs {needed_gib:.2f}.",
            "Free some space, or choose a folder on another disk with --out.",
        )


def machine_memory() -> tuple[float, float]:
    """GiB of the machine's memory, and how much of it is free, within what this process may take; where it is told."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        rows = {line.split(":")[0]: float(line.split()[1]) / 2**20 for line in told}
        total, free = rows["MemTotal"], rows["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB if hasattr(os, "sysconf") else 4.0
        return pages, pages
    try:  # of a container
        most, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) / GIB for name in ("max", "current"))
    except (OSError, ValueError):
        return total, free
    return min(total, most), min(free, most - used)


def memory_needed(config: Config, device: str, unet_weights: int) -> float:
    """GiB of the machine's memory that a run cannot do without: its weights, what trains them, and a checkpoint of it.

    A GPU holds the first two itself.
    """
    trained = unet_weights * config.study.full_unet
    held = 0 if device == "cuda" else 4 * unet_weights + (4 + TRAINING_STATE) * trained
    return LIBRARIES_GIB + (held + TRAINING_STATE * trained) / GIB


def check_memory(config: Config, device: str, unet_weights: int) -> None:
    """Refuse to start a run that the machine's memory has no room for.

    Raises:
        MachineError: If less than it needs is free.
    """
    needed, (total, free) = memory_needed(config, device, unet_weights), machine_memory()
    if free < needed:
        raise MachineError(
            f"{free:.1f} of {total:.1f} GiB of memory are free, and the run needs {needed:.1f} at the least.",
            "Close other programs, or train LoRAs only: --set study.full_unet=false.",
        )
