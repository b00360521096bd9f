"""Checkpoints for resuming: nested states as safetensors and JSON, never pickle; whole or not there at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from portrayal.run import atomic_folder


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a nested state of tensors, numbers, texts, lists and dicts."""
    tensors: dict[str, Tensor] = {}
    tree = pack(state, tensors)
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / "tensors.safetensors")
        (temporary / "state.json").write_text(json.dumps(tree), encoding="utf-8")


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read what :func:`save_checkpoint` wrote, or nothing when there is none."""
    if not (folder / "state.json").is_file():
        return None
    tensors = load_file(folder / "tensors.safetensors")
    state: dict[str, Any] = unpack(json.loads((folder / "state.json").read_text(encoding="utf-8")), tensors)
    return state


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
