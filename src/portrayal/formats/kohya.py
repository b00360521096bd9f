"""LoRA files of kohya's sd-scripts, which AUTOMATIC1111, Forge, ComfyUI and diffusers read.

diffusers' own `convert_state_dict_to_kohya` is wrong for SD 1.5 (names, and alpha = rank), so the names are made here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from portrayal.formats.ldm import Family

SD1 = Family()
Weight = Tensor | npt.NDArray[Any]

LEGACY_HASH_START = 0x100000
LEGACY_HASH_LENGTH = 0x10000


def to_kohya(pairs: Mapping[str, tuple[Weight, Weight]], alphas: Mapping[str, float]) -> dict[str, Tensor]:
    """Name LoRA weights as sd-scripts does.

    Args:
        pairs: Down and up weights, shapes `(rank, in, …)` and `(out, rank, …)`, by module path such as
            `unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q` or
            `text_encoder.text_model.encoder.layers.0.self_attn.q_proj`; `text_model.` may be missing, as it is in
            transformers since 5.6.
        alphas: Alpha of each of these modules; the update's scale is alpha / rank.

    Returns:
        `<name>.lora_down.weight`, `<name>.lora_up.weight` and `<name>.alpha` of each module, on the CPU.

    Raises:
        ValueError: If there is no module, a path is of neither model, two paths have one name, shapes disagree on
            the rank, or `alphas` names other modules than `pairs`.
    """
    if not pairs:
        raise ValueError("there are no LoRA weights to write")
    if pairs.keys() != alphas.keys():
        raise ValueError(f"weights or alpha are missing for {sorted(pairs.keys() ^ alphas.keys())[:3]}")
    names = {path: _kohya_name(path) for path in pairs}
    if len(set(names.values())) < len(names):
        raise ValueError("two modules have the same name in kohya's form")
    tensors: dict[str, Tensor] = {}
    for path, (down, up) in pairs.items():
        down_weight, up_weight = _stored(down), _stored(up)
        if down_weight.shape[0] != up_weight.shape[1]:
            shapes = f"{tuple(down_weight.shape)} and {tuple(up_weight.shape)}"
            raise ValueError(f"the ranks of {path} disagree: its down and up weights have shapes {shapes}")
        tensors[f"{names[path]}.lora_down.weight"] = down_weight
        tensors[f"{names[path]}.lora_up.weight"] = up_weight
        # Always float32: alpha = 22.627 (64 · √2 / 4) loses its third digit in half precision.
        tensors[f"{names[path]}.alpha"] = torch.tensor(float(alphas[path]), dtype=torch.float32)
    return tensors


def kohya_metadata(
    tensors: Mapping[str, Tensor],
    *,
    output_name: str,
    rank: int,
    alpha: float,
    resolution: int,
    trigger_phrase: str,
    num_train_images: int,
    max_train_steps: int,
    seed: int,
    base_name: str,
    licence: str,
    family: Family = SD1,
    date: str | None = None,
) -> dict[str, str]:
    """Write the header that other tools read: sd-scripts' `ss_*`, Stability's modelspec 1.0.1, and hashes.

    All values are strings, and none is a path.

    Args:
        tensors: What :func:`to_kohya` returned; the hashes are of them.
        output_name: The file's name without ending; AUTOMATIC1111 offers it for `<lora:name:1>`.
        rank: Rank of the updates.
        alpha: Alpha of the updates.
        resolution: Side of the training pictures.
        trigger_phrase: The words that call the subject up, such as `a photo of sks woman`.
        num_train_images: Photos trained on.
        max_train_steps: Optimizer updates.
        seed: Seed of the training.
        base_name: Name of the base model; of a path only the last part is written.
        licence: Licence of the base, which binds the LoRA too.
        family: Which Stable Diffusion the base is.
        date: When it was trained, ISO 8601; left out if nothing, so that equal weights give equal bytes.
    """
    metadata = {
        "ss_v2": str(family.second),
        "ss_base_model_version": family.version,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(alpha)),
        "ss_network_args": "{}",
        "ss_output_name": output_name,
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_num_train_images": str(num_train_images),
        "ss_steps": str(max_train_steps),
        "ss_seed": str(seed),
        "ss_sd_model_name": base_name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1],
        # sd-scripts puts the name of each image folder here; it is private, and readers only want the words.
        "ss_tag_frequency": json.dumps({output_name: {trigger_phrase: num_train_images}}, ensure_ascii=False),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{family.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": output_name,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.prediction_type": family.prediction,
        "modelspec.trigger_phrase": trigger_phrase,
        "modelspec.license": licence,
    }
    if date is not None:
        metadata["modelspec.date"] = date
    return metadata | _hashes(tensors, metadata)


def save_kohya_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Serialise to safetensors; equal tensors and metadata give equal bytes."""
    return sorted_metadata(safetensors.torch.save(dict(tensors), dict(metadata)))


def sshs_model_hash(content: bytes) -> str:
    """Hash of a safetensors file's tensors, header left out: sd-scripts' `addnet_hash_safetensors`."""
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def sshs_legacy_hash(content: bytes) -> str:
    """Hash of 64 KiB from the file's second megabyte: sd-scripts' `addnet_hash_legacy`."""
    part = content[LEGACY_HASH_START : LEGACY_HASH_START + LEGACY_HASH_LENGTH]
    return hashlib.sha256(part).hexdigest()[:8]


def _hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """Hash as sd-scripts does: over a file with the `ss_*` keys alone, as the others may be edited later."""
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content = save_kohya_bytes(tensors, training)
    return {"sshs_model_hash": sshs_model_hash(content), "sshs_legacy_hash": sshs_legacy_hash(content)}


def _kohya_name(path: str) -> str:
    if path.startswith("unet."):
        return "lora_unet_" + path.removeprefix("unet.").replace(".", "_")
    if path.startswith("text_encoder."):
        module = path.removeprefix("text_encoder.").removeprefix("text_model.")
        return "lora_te_text_model_" + module.replace(".", "_")
    raise ValueError(f"{path!r} begins with neither 'unet.' nor 'text_encoder.'")


def _stored(weight: Weight) -> Tensor:
    return torch.as_tensor(weight).detach().cpu().contiguous()


def sorted_metadata(content: bytes) -> bytes:
    """Sort the header's metadata: safetensors keeps it in a hash map and writes it in another order each time."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + length :]
