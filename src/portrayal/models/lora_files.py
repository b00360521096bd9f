"""LoRA files made by others, or by us, put into a base for painting."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from portrayal.errors import UsageError, WeightsError
from portrayal.formats.lora import LoraLayer, delta, read_lora
from portrayal.limits import bounded_json, bounded_text, check_header, on_disk
from portrayal.models.base import BaseModel
from portrayal.models.checkpoints import check_files
from portrayal.models.methods import LORA_FILE, waiting_room

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PARTS = ("unet", "text_encoder")


@dataclass(frozen=True)
class LoraFile:
    """A LoRA in a file, and how strongly it is to count.

    Attributes:
        path: A `.safetensors` file.
        strength: 1 as it was trained; 0 is without, below 0 away from it.
    """

    path: Path
    strength: float = 1.0

    @property
    def name(self) -> str:
        """What people call it: the file's name, or its folder's where all files have the same name."""
        return self.path.parent.name if self.path.name in (LORA_FILE, PEFT_FILE) else self.path.stem

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the tensors without the header, which AUTOMATIC1111 knows LoRA files by.

        Raises:
            WeightsError: If it is damaged.
        """
        check_files([self.path])
        with self.path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            stream.seek(8 + length)
            return hashlib.file_digest(stream, "sha256").hexdigest()


def parse_lora(text: str) -> LoraFile:
    """What `FILE` or `FILE:STRENGTH` means; a folder means the LoRA in it.

    Raises:
        UsageError: If the strength is no number.
        WeightsError: If there is no such file, or it is pickled.
    """
    name, colon, number = text.rpartition(":")
    path, strength = Path(text).expanduser(), 1.0
    if colon and on_disk(path) == "nothing":
        try:
            strength = float(number)
        except ValueError:
            strength = math.nan
        path = Path(name).expanduser()
        if not math.isfinite(strength) and on_disk(path) != "nothing":
            raise UsageError(f"--lora {text}: {number!r} is no strength.", f"Give a number, such as {name}:0.8.")
    if on_disk(path) == "folder":
        found = [path / file for file in (LORA_FILE, PEFT_FILE) if (path / file).is_file()]
        path = found[0] if found else only_file(path)
    if on_disk(path) != "file":
        raise WeightsError(
            f"There is no LoRA file {text}.", "Check the path; a strength goes behind a colon: FILE:0.8."
        )
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path} is no .safetensors file; a pickle can run code and is never loaded.",
            "Get the .safetensors form of the same LoRA.",
        )
    return LoraFile(path, strength)


def only_file(folder: Path) -> Path:
    """The one safetensors file of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise WeightsError(f"{folder} holds {len(files) or 'no'} .safetensors files.", "Give the file itself.")
    return files[0]


def layers_of(base: BaseModel) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers that a LoRA can be for, by path; of adapted ones what they adapt."""
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for part in PARTS:
        for name, module in getattr(base, part).named_modules():
            path = plain(f"{part}.{name}")
            layer = getattr(module, "base_layer", module)
            if isinstance(layer, nn.Linear | nn.Conv2d) and "lora_" not in path and not path.endswith(".base_layer"):
                found[path] = layer
    return found


def load_lora(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, LoraLayer]:
    """Read a LoRA file for layers with weights of these shapes.

    Raises:
        WeightsError: If it is damaged, no LoRA, or does not fit.
    """
    tensors, metadata = read_file(path)
    if path.name == PEFT_FILE:
        metadata |= peft_metadata(path.with_name(PEFT_CONFIG))
    try:
        return read_lora(tensors, metadata, shapes)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.cause}", error.remedy) from error


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and what its header tells.

    Raises:
        WeightsError: If it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_header(path)
        with safe_open(path, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file: {error}.", "Get it again.") from error


def peft_metadata(config: Path) -> dict[str, str]:
    """What PEFT's own file beside the weights tells, in the form of a header."""
    if not config.is_file():
        return {}
    try:
        told = dict(bounded_json(bounded_text(config)))
    except (ValueError, TypeError, OSError) as error:
        raise WeightsError(f"{config} is damaged: {error}.", "Get it again.") from error
    return {"lora_adapter_metadata": json.dumps({f"{part}.{key}": told[key] for part in PARTS for key in told})}


@contextmanager
def with_loras(base: BaseModel, loras: Sequence[LoraFile]) -> Iterator[None]:
    """Add LoRA files to the weights in place on a base, each at its strength; see :func:`merged_loras`.

    Raises:
        WeightsError: If a file cannot be read or does not fit; nothing has been changed then.
    """
    shapes = {path: tuple(layer.weight.shape) for path, layer in layers_of(base).items()}
    with merged_loras(base, [(load_lora(lora.path, shapes), lora.strength) for lora in loras]):
        yield


@contextmanager
def merged_loras(base: BaseModel, loras: Sequence[tuple[Mapping[str, LoraLayer], float]]) -> Iterator[None]:
    """Add updates to the weights in place on a base, each at its strength, and give the weights back bit for bit.

    `W + Σ strength · ΔW`, summed in fp32 and rounded once; where a method is in place it stays, and they come on top.
    """
    layers, room, before = layers_of(base), waiting_room(base.device), dict[str, Tensor]()
    updates: dict[str, list[tuple[LoraLayer, float]]] = {}
    for found, strength in loras:
        for path, update in found.items():
            updates.setdefault(plain(path), []).append((update, strength))
    try:
        for path, several in updates.items():
            weight = layers[path].weight.data
            before[path] = weight.to(room, copy=True)
            weight.copy_(merged(weight, several))
        yield
    finally:
        for path, weight in before.items():
            layers[path].weight.data.copy_(weight)


def plain(path: str) -> str:
    """A layer's path without the `text_model.` that transformers had before its version 5.6."""
    return path.replace("text_encoder.text_model.", "text_encoder.", 1)


def merged(weight: Tensor, updates: Sequence[tuple[LoraLayer, float]]) -> Tensor:
    """A weight with updates added at their strengths, in fp32 on the weight's device."""
    original = weight.float()
    total = original.clone()
    for layer, strength in updates:
        total += strength * delta(on_device(layer, weight.device), original)
    return total


def on_device(layer: LoraLayer, device: torch.device) -> LoraLayer:
    """A layer's update with its tensors on a device."""
    moved: dict[str, Any] = {
        name: tensor if tensor is None else tensor.to(device)
        for name, tensor in (("down", layer.down), ("up", layer.up), ("mid", layer.mid), ("magnitude", layer.magnitude))
    }
    return LoraLayer(alpha=layer.alpha, **moved)
