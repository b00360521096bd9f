"""Checkpoints for resuming: nested states as safetensors and JSON, never pickle; whole, and known to be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from portrayal.files import atomic_folder, drop_folder
from portrayal.parallel import in_threads

TENSORS, STATE = "tensors.safetensors", "state.json"


def save_checkpoint(folder: Path, state: Mapping[str, Any], keep: int = 1) -> None:
    """Write a nested state of tensors, numbers, texts, lists and dicts as `STEP` of a folder; older ones go.

    Args:
        folder: Of all checkpoints of a training.
        state: What is kept; its `step` names it.
        keep: How many checkpoints stay, the newest ones.
    """
    tensors: dict[str, Tensor] = {}
    tree = pack(state, tensors)
    with atomic_folder(folder / f"{state['step']:08d}") as temporary:
        save_file(tensors, temporary / TENSORS)
        text = json.dumps({"tree": tree, "sha256": digests(tensors)})
        (temporary / STATE).write_text(json.dumps({"sha256": sha256(text.encode()), "state": text}), encoding="utf-8")
    for older in kept(folder)[keep:]:
        drop_folder(older)


def load_checkpoint(folder: Path, note: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole, or nothing when there is none.

    Args:
        folder: Of all checkpoints of a training.
        note: Told of those that are damaged, which are deleted.

    Raises:
        OSError: If the disk does not give one back: what cannot be read now may be whole.
    """
    for path in kept(folder):
        try:
            return read_checkpoint(path)
        except (FileNotFoundError, ValueError, KeyError, TypeError, SafetensorError) as error:
            drop_folder(path)
            if note is not None:
                note(f"the checkpoint of step {int(path.name)} is damaged ({error}); going on from the one before")
    return None


def kept(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first."""
    found = [path for path in folder.glob("*") if path.name.isdigit()] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint.

    Raises:
        ValueError: If it is not what was written.
    """
    try:
        whole = json.loads((path / STATE).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{STATE} is none of ours") from error
    if sha256(whole["state"].encode()) != whole["sha256"]:
        raise ValueError(f"{STATE} was changed")
    told, tensors = json.loads(whole["state"]), load_file(path / TENSORS)
    if digests(tensors) != told["sha256"]:
        raise ValueError(f"{TENSORS} was changed")
    state: dict[str, Any] = unpack(told["tree"], tensors)
    return state


def sha256(content: Any) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of the bytes of each tensor; several are read at once, for there may be gigabytes."""

    def digest(tensor: Tensor) -> str:
        return sha256(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())

    return dict(zip(tensors, in_threads(digest, list(tensors.values())), strict=True))


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The JSON form of a value; its tensors go to `tensors` under numbers."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": key}
    if isinstance(value, Mapping):  # as pairs, since optimizers use whole numbers as keys
        return {"pairs": [[key, pack(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [pack(inner, tensors) for inner in value], "tuple": isinstance(value, tuple)}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def unpack(tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """The value of a JSON form."""
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    if "pairs" in tree:
        return {key: unpack(inner, tensors) for key, inner in tree["pairs"]}
    if "list" in tree:
        values = [unpack(inner, tensors) for inner in tree["list"]]
        return tuple(values) if tree["tuple"] else values
    return tree["value"]
