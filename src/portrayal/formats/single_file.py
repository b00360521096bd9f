"""Single-file checkpoints: a whole Stable Diffusion in one safetensors file, as its authors' code names the weights.

ComfyUI, AUTOMATIC1111 and Forge read them, and diffusers' `from_single_file`. Of Stable Diffusion 1.5 there are 1,130
tensors: 686 of the UNet, 248 of the autoencoder, 196 of the text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from portrayal.formats.ldm import OPEN_CLIP_FEATURES, Family, controlnet_names, open_clip_names, unet_names, vae_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT, OPEN_CLIP_TEXT = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
TEXT_PREFIXES = (TEXT, "cond_stage_model.transformer.")
"""Since transformers 5.6 some write a text encoder without `text_model.`."""

PARTS: dict[str, tuple[str, Callable[[Iterable[str]], dict[str, str]]]] = {
    "unet": (UNET, unet_names),
    "vae": (VAE, vae_names),
    "controlnet": ("control_model.", controlnet_names),
}
TEXT_FEATURES_LAYER = "embeddings.token_embedding.weight"


def to_single_file(
    unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text_encoder: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Name the weights of three diffusers models as a checkpoint does; the tensors themselves are not copied.

    Args:
        unet: State of a `UNet2DConditionModel`.
        vae: State of an `AutoencoderKL`; its attention's linear weights become kernels of 1 × 1, as there.
        text_encoder: State of a `CLIPTextModel`, its names beginning with `text_model.` or, as transformers has them
            since 5.6, not.

    Raises:
        ValueError: If a weight has no place in a checkpoint of Stable Diffusion 1.x or 2.x.
    """
    text = {name.removeprefix("text_model."): tensor for name, tensor in text_encoder.items()}
    text.pop("embeddings.position_ids", None)  # counts 0, 1, 2, …; every reader has it
    if TEXT_FEATURES_LAYER not in text:
        raise ValueError("these are not the weights of a CLIP text encoder")
    found = {UNET + theirs: unet[ours] for ours, theirs in unet_names(unet).items()}
    found |= {VAE + theirs: _as_kernel(theirs, vae[ours]) for ours, theirs in vae_names(vae).items()}
    if text[TEXT_FEATURES_LAYER].shape[1] == OPEN_CLIP_FEATURES:
        found |= {OPEN_CLIP_TEXT + name: tensor for name, tensor in _open_clip(text).items()}
    else:
        found |= {TEXT + name: tensor for name, tensor in text.items()}
    return found


class Piece(NamedTuple):
    """Where a weight lies in a checkpoint.

    Attributes:
        key: Its key.
        third: 0, 1 or 2, if it is that third of the rows there: queries, keys, values.
    """

    key: str
    third: int | None = None


def pieces_of(part: str, names: Iterable[str], keys: Collection[str]) -> dict[str, Piece]:
    """Where the weights of a diffusers model lie in a file; those that lie nowhere are left out.

    Args:
        part: `unet`, `vae`, `text_encoder` or `controlnet`.
        names: Names of the model's weights in diffusers.
        keys: Keys of the file, with the prefixes of a checkpoint or, of a part alone, without; a text encoder's with
            `text_model.` or without. A file of a part may also have diffusers' own names.
    """
    listed = list(names)
    plain = {name: name.removeprefix("text_model.") for name in listed}
    if part == "text_encoder":
        original = {name: [prefix + plain[name] for prefix in TEXT_PREFIXES] for name in listed}
        if any(key.startswith(OPEN_CLIP_TEXT) for key in keys):
            original = {name: [OPEN_CLIP_TEXT + theirs] for name, theirs in open_clip_names(listed).items()}
    else:
        prefix, named = PARTS[part]
        original = {name: [prefix + theirs, theirs] for name, theirs in named(listed).items()}
    found = dict[str, Piece]()
    for name in listed:
        for key in [*original[name], name, plain[name]]:
            front, _, number = key.rpartition(".")
            if key in keys:
                found[name] = Piece(key)
            elif ".attn.in_proj_" in key and front in keys:
                found[name] = Piece(front, int(number))
            if name in found:
                break
    return found


def single_file_metadata(
    *, title: str, resolution: int, family: Family, licence: str, trigger_phrase: str
) -> dict[str, str]:
    """Stability's modelspec 1.0.1 for a checkpoint; all values are strings, and none is a path.

    Args:
        title: What to call it.
        resolution: Side of its pictures in pixels.
        family: Which Stable Diffusion it is.
        licence: Licence of the weights.
        trigger_phrase: The words that call the subject up.
    """
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": family.architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": title,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.prediction_type": family.prediction,
        "modelspec.trigger_phrase": trigger_phrase,
        "modelspec.license": licence,
    }


def _as_kernel(name: str, tensor: Tensor) -> Tensor:
    """The weights of the autoencoder's attention are kernels there: shape `(out, in, 1, 1)`."""
    attention = ".mid.attn_1." in name and name.endswith(".weight") and ".norm." not in name
    return tensor[:, :, None, None] if attention and tensor.ndim == 2 else tensor


def _open_clip(text: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's names, with queries, keys and values joined."""
    found, joined = dict[str, Tensor](), dict[str, dict[int, Tensor]]()
    for ours, theirs in open_clip_names(text).items():
        front, _, number = theirs.rpartition(".")
        if number.isdigit() and ".attn.in_proj_" in front:
            joined.setdefault(front, {})[int(number)] = text[ours]
        else:
            found[theirs] = text[ours]
    return found | {name: torch.cat([parts[place] for place in range(3)]) for name, parts in joined.items()}
