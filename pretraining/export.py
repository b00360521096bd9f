"""Write the models as a folder laid out like Stable Diffusion 1.5's, in fp16 safetensors.

``python -m pretraining.export --random DIR`` writes the whole folder with random weights, for development.
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers import __version__ as diffusers_version
from safetensors.torch import save_file
from transformers import CLIPModel, CLIPTokenizer, PreTrainedModel, ResNetModel, VitPoseForPoseEstimation

from pretraining.architecture import (
    IDENTITY_SIZE,
    PICTURE_SIZE,
    build_clip,
    build_controlnet,
    build_identity,
    build_scheduler,
    build_unet,
    build_vae,
)
from pretraining.dataset import CONTROLS
from pretraining.tokenizer import RARE_WORDS, learn_tokenizer, save_tokenizer, vocabulary_of

MAX_SHARD = "15MB"
MAX_TOTAL_BYTES = 45_000_000
NAME_NORM = 1.0
"""Length of a rare word's embedding, about that of the words captions hold."""


@dataclass
class Pocket:
    """The embedded base's parts, in memory."""

    tokenizer: CLIPTokenizer
    vae: AutoencoderKL
    clip: CLIPModel
    text_encoder: torch.nn.Module
    """CLIP's text half, trained on with the UNet."""
    identity: ResNetModel
    pose: VitPoseForPoseEstimation
    unet: UNet2DConditionModel
    controlnets: dict[str, ControlNetModel]
    """By kind of control image."""


def export(pocket: Pocket, folder: Path) -> dict[str, float]:
    """Write every part; returns the megabytes of weights of each folder, and the ``total`` of all files.

    Raises:
        ValueError: If a weight is not finite in fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(pocket.tokenizer, folder / "tokenizer")
    build_scheduler().save_pretrained(folder / "scheduler")
    _save_diffusers(pocket.vae, folder / "vae")
    _save_diffusers(pocket.unet, folder / "unet")
    for kind, controlnet in pocket.controlnets.items():
        _save_diffusers(controlnet, folder / f"controlnet_{kind}")
    _save_transformers(pocket.clip, _half(pocket.clip), folder / "clip")
    _save_preprocessor(folder / "clip", "CLIPImageProcessor")
    _save_text_encoder(pocket.clip, lift_names(pocket.text_encoder, pocket.tokenizer), folder / "text_encoder")
    _save_transformers(pocket.identity, _half(pocket.identity), folder / "identity")
    _save_preprocessor(folder / "identity", "CLIPImageProcessor", IDENTITY_SIZE)
    _save_transformers(pocket.pose, _half(pocket.pose), folder / "pose")
    _write_json(folder / "model_index.json", _model_index())
    return megabytes(folder)


@torch.no_grad()
def lift_names(text_encoder: torch.nn.Module, tokenizer: CLIPTokenizer) -> torch.nn.Module:
    """A copy in which the names for new subjects weigh as much as words.

    No caption holds them, so training leaves them a fifth as long as a word, and a subject called by one would hardly
    differ from its class. Their directions are random, and always the same.
    """
    lifted, generator = deepcopy(text_encoder).cpu(), torch.Generator().manual_seed(0)
    embeddings: torch.Tensor = lifted.get_input_embeddings().weight  # type: ignore[operator]
    for word in RARE_WORDS:
        direction = torch.randn(embeddings.shape[1], generator=generator)
        embeddings[tokenizer.get_vocab()[f"{word}</w>"]] = NAME_NORM * direction / direction.norm()
    return lifted


def megabytes(folder: Path) -> dict[str, float]:
    """Weights on disk per subfolder, in MB, and the ``total`` of all files, configs and tokenizer included."""
    sizes = {
        part.name: sum(file.stat().st_size for file in part.glob("*.safetensors")) / 1e6
        for part in sorted(folder.iterdir())
        if part.is_dir() and any(part.glob("*.safetensors"))
    }
    return {**sizes, "total": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6}


def export_random(folder: Path, seed: int = 0) -> dict[str, float]:
    """Write the folder with random weights: the right shapes and files before any training."""
    from pretraining.data import sample_captions
    from pretraining.pose import build_pose_reader

    torch.manual_seed(seed)
    tokenizer = learn_tokenizer(sample_captions(np.random.default_rng(seed), people=300))
    unet = build_unet()
    clip = build_clip(vocabulary_of(tokenizer))
    controlnets = {kind: build_controlnet(unet) for kind in CONTROLS}
    pocket = Pocket(
        tokenizer, build_vae(), clip, clip.text_model, build_identity(), build_pose_reader(), unet, controlnets
    )
    sizes = export(pocket, folder)
    card = "# pocket, with random weights\nFor development: right shapes and files, nothing learned.\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return sizes


def _half(model: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    state = model.state_dict()
    weights = {prefix + name: _half_tensor(name, tensor) for name, tensor in state.items()}
    return {name: tensor for name, tensor in weights.items() if not name.endswith("position_ids")}


def _half_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.detach().to("cpu", torch.float16 if tensor.is_floating_point() else tensor.dtype).contiguous()
    if not torch.isfinite(half.float()).all():
        raise ValueError(f"{name} is not finite in fp16: training diverged, so nothing is exported")
    return half.clone()


def _save_diffusers(model: Any, folder: Path) -> None:
    """Save an fp16 copy, sharded; the model itself keeps its dtype.

    A deep copy, because ``from_config`` forgets settings registered after building, such as ``scaling_factor``.
    """
    copy = deepcopy(model).to("cpu", torch.float16, memory_format=torch.contiguous_format)
    copy.load_state_dict(_half(model))
    copy.save_pretrained(folder, max_shard_size=MAX_SHARD)


def _save_transformers(model: PreTrainedModel, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write config and weights by hand, so that the names do not depend on transformers' version.

    The config says float32, so that loading without a dtype gives float32 from the fp16 file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    _write_json(folder / "config.json", _float32_parts(config))


def _float32_parts(config: dict[str, Any]) -> dict[str, Any]:
    """Give nested configs the same dtype and drop what names a version."""
    config = {key: value for key, value in config.items() if key not in ("transformers_version", "_name_or_path")}
    for key in ("text_config", "vision_config"):
        if key in config:
            config[key] = dict(config[key], dtype="float32")
    return config


def _save_text_encoder(clip: CLIPModel, text_encoder: torch.nn.Module, folder: Path) -> None:
    """Save the text encoder under SD 1.5's names, ``text_model.…``, which every transformers version reads."""
    from transformers import CLIPTextModel

    model = CLIPTextModel(clip.config.text_config)
    weights = _half(text_encoder, prefix="text_model.")
    model.load_state_dict(_named_like(model, weights))
    _save_transformers(model, weights, folder)


def _named_like(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop ``text_model.`` where this transformers version builds the model without it (since 5.6)."""
    if any(name.startswith("text_model.") for name in model.state_dict()):
        return weights
    return {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}


def _save_preprocessor(folder: Path, kind: str, size: int = PICTURE_SIZE) -> None:
    """Pictures are resized and cropped to ``size`` and scaled to [-1, 1]."""
    half = [0.5, 0.5, 0.5]
    settings = {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": half,
        "image_std": half,
        "do_convert_rgb": True,
    }
    _write_json(folder / "preprocessor_config.json", settings)


def _model_index() -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers_version,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write the folder with random weights, and say what it weighs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=Path, required=True, metavar="DIR", help="folder to write")
    arguments = parser.parse_args()
    for part, size in export_random(arguments.random).items():
        print(f"{part:18} {size:6.2f} MB")


if __name__ == "__main__":
    main()
