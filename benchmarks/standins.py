"""Stand-ins for weights that are not at hand: models of the same classes and shapes with random weights.

Speed and memory do not depend on the values, so Stable Diffusion 1.5 can be timed without its weights.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from portrayal.models.encoders import CLIP, DINO
from portrayal.pocket import WEIGHTS

SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
}
SD15_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
SD15_TEXT: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "projection_dim": 768,
}


def write_sd15(folder: Path, *, seed: int = 0) -> Path:
    """Write a diffusers folder of Stable Diffusion 1.5's shapes, with random weights and `pocket`'s tokenizer.

    A canny ControlNet of the same shapes lies in its `controlnet_canny`. 4.3 GB of fp16.
    """
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        unet = UNet2DConditionModel(**SD15_UNET).half()
        unet.save_pretrained(folder / "unet")
        ControlNetModel.from_unet(unet).half().save_pretrained(folder / "controlnet_canny")
        del unet
        AutoencoderKL(**SD15_VAE).half().save_pretrained(folder / "vae")
        CLIPTextModel(CLIPTextConfig(**SD15_TEXT)).half().save_pretrained(folder / "text_encoder")
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(WEIGHTS / name, folder / name, dirs_exist_ok=True)
    shutil.copy(WEIGHTS / "model_index.json", folder)
    return folder


def write_scorers(folder: Path, *, seed: int = 0) -> Path:
    """Write what judges real photos, DINOv2 and CLIP, with random weights, as the hub keeps them in an `HF_HOME`.

    What an earlier call wrote stays.
    """
    if folder.is_dir():
        return folder
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    commit = "0" * 40
    for hub_id, model in ((DINO, Dinov2Model(Dinov2Config())), (CLIP, CLIPModel(CLIPConfig()))):
        cached = folder / "hub" / f"models--{hub_id.replace('/', '--')}"
        model.save_pretrained(cached / "snapshots" / commit)
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text(commit, encoding="utf-8")
    CLIPImageProcessorPil().save_pretrained(cached / "snapshots" / commit)
    return folder


@contextmanager
def base_here(asked: Path | None = None) -> Iterator[str]:
    """Name of the base to measure: Stable Diffusion 1.5's shapes on a GPU, `pocket` elsewhere.

    Args:
        asked: Folder of the stand-in, written if there is none yet, and kept; nothing means a temporary one.
    """
    if not torch.cuda.is_available():
        yield "pocket"
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked or Path(temporary) / "sd15").resolve()
        if not (folder / "model_index.json").is_file():  # which is written last
            write_sd15(folder)
            torch.cuda.empty_cache()
        yield str(folder)


def describe(folder: Path) -> dict[str, int]:
    """Sizes of the parts in bytes."""
    parts = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return {
        name: sum(file.stat().st_size for file in (folder / name).glob("*.safetensors"))
        for name in parts
        if (folder / name).is_dir()
    }
