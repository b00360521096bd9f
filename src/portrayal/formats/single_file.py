"""Single-file checkpoints: a whole Stable Diffusion in one safetensors file, as its authors' code names the weights.

ComfyUI, AUTOMATIC1111 and Forge read them, and diffusers' `from_single_file`. Of Stable Diffusion 1.5 there are 1,130
tensors: 686 of the UNet, 248 of the autoencoder, 196 of the text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from portrayal.formats.ldm import OPEN_CLIP_FEATURES, Family, open_clip_names, unet_names, vae_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT, OPEN_CLIP_TEXT = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
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
