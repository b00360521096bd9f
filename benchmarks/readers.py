"""What other tools make of our files, by their own unchanged code, run beside ours.

Nothing of theirs is part of this project: who runs a benchmark gives the folder their code lies in.
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

SD15_SHAPE = {
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
}
"""Stable Diffusion 1.5's UNet as ComfyUI describes it."""


def definitions(path: Path, names: Collection[str], given: Mapping[str, Any]) -> SimpleNamespace:
    """Some functions and constants of a file, without running the rest of it.

    Args:
        path: A Python file.
        names: What is wanted of it, and what that needs of it; a prefix ends with `*`.
        given: What else it needs.
    """

    def wanted(name: str) -> bool:
        return any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in names)

    kept: list[ast.stmt] = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if (isinstance(node, ast.FunctionDef) and wanted(node.name))
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and wanted(node.targets[0].id))
    ]
    space: dict[str, Any] = dict(given)
    exec(compile(ast.Module(kept, []), str(path), "exec"), space)
    return SimpleNamespace(**space)


def known_to_comfyui(folder: Path, checkpoint: Iterable[str]) -> set[str]:
    """Names of layers that ComfyUI matches for a Stable Diffusion 1.5 whose checkpoint has these keys."""

    class Nothing:
        """A model of another family."""

    class Families:
        def __getattr__(self, name: str) -> Any:
            return Nothing

    utils = definitions(folder / "comfy" / "utils.py", ["unet_to_diffusers", "UNET_MAP*", "TRANSFORMER_BLOCKS"], {})
    comfy = SimpleNamespace(utils=utils, model_base=Families())
    lora = definitions(folder / "comfy" / "lora.py", ["model_lora_keys_*", "LORA_CLIP_MAP"], {"comfy": comfy})
    keys = list(checkpoint)
    unet = {key.removeprefix("model."): None for key in keys if key.startswith("model.diffusion_model.")}
    text = {key.replace("cond_stage_model.", "clip_l."): None for key in keys if key.startswith("cond_stage_model.")}
    found: dict[str, str] = {}
    model = SimpleNamespace(state_dict=lambda: unet, model_config=SimpleNamespace(unet_config=SD15_SHAPE))
    lora.model_lora_keys_unet(model, found)
    lora.model_lora_keys_clip(SimpleNamespace(state_dict=lambda: text), found)
    return {name for name, key in found.items() if key in unet or key in text}


def known_to_automatic1111(folder: Path, checkpoint: Iterable[str], names: Iterable[str]) -> set[str]:
    """Those of the names that AUTOMATIC1111 finds a layer for in a Stable Diffusion 1.5 with these keys."""
    import re

    wanted = ["convert_diffusers_name_to_compvis", "suffix_conversion", "re_*"]
    networks = definitions(folder / "extensions-builtin" / "Lora" / "networks.py", wanted, {"re": re})
    layers = {
        key.removeprefix(prefix).rpartition(".")[0].replace(".", "_")
        for key in checkpoint
        for prefix in ("model.", "cond_stage_model.")
        if key.startswith((f"{prefix}diffusion_model.", f"{prefix}transformer."))
    }
    return {name for name in names if networks.convert_diffusers_name_to_compvis(name, False) in layers}


@contextmanager
def sd_scripts(folder: Path) -> Iterator[SimpleNamespace]:
    """kohya's own modules; what they import for training alone is left empty."""
    path, empty = list(sys.path), ("torchvision", "torchvision.transforms", "einops")
    for name in empty:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
    sys.modules["einops"].rearrange = None  # type: ignore[attr-defined]
    sys.path.insert(0, str(folder))
    try:
        from library import model_util  # type: ignore[import-not-found]
        from networks import lora  # type: ignore[import-not-found]

        yield SimpleNamespace(lora=lora, model_util=model_util)
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name in empty or name.split(".")[0] in ("library", "networks")]:
            del sys.modules[name]


def sd_scripts_deltas(lora: Any, file: Path, unet: nn.Module, text_encoder: nn.Module) -> dict[str, Tensor]:
    """What `networks/lora.py` adds to each layer's weight, by the name of the layer in the file."""
    holder = nn.Module()  # as transformers had it before its version 5.6, which sd-scripts is written for
    holder.text_model = text_encoder
    network, weights = lora.create_network_from_weights(1.0, str(file), None, holder, unet, for_inference=True)
    modules = [*network.unet_loras, *network.text_encoder_loras]
    for module in modules:
        start = f"{module.lora_name}."
        own = {key.removeprefix(start): tensor for key, tensor in weights.items() if key.startswith(start)}
        module.load_state_dict(own, strict=False)  # the layer it is for is part of it here
    with torch.no_grad():
        return {module.lora_name: module.get_weight() for module in modules}
