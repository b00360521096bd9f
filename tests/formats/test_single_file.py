"""Single-file checkpoints mean the same to diffusers, of Stable Diffusion 1.x's and 2.x's shapes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from portrayal.formats.ldm import Family
from portrayal.formats.single_file import pieces_of, single_file_metadata, to_single_file
from portrayal.pocket import WEIGHTS


def write_small(folder: Path, *, second: bool) -> list[Any]:
    """A pipeline's folder with the structure of a Stable Diffusion, but few channels."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    features = 1024 if second else 768
    unet = UNet2DConditionModel(
        sample_size=8,
        cross_attention_dim=features,
        attention_head_dim=[1, 2, 2, 2] if second else 8,
        block_out_channels=(32, 64, 64, 64),
        use_linear_projection=second,
    )
    halves = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(block_out_channels=(32, 64), layers_per_block=2, latent_channels=4, **halves)
    sizes = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 16, "projection_dim": 32}
    text_encoder = CLIPTextModel(CLIPTextConfig(hidden_size=features, vocab_size=49408, **sizes))
    for name, model in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        model.save_pretrained(folder / name)
    for name in ("tokenizer", "scheduler"):
        shutil.copytree(WEIGHTS / name, folder / name)
    shutil.copy(WEIGHTS / "model_index.json", folder)
    return [unet, vae, text_encoder]


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("prefixed", [False, True])
def test_diffusers_reads_the_same_weights_bit_for_bit(tmp_path: Path, second: bool, prefixed: bool) -> None:
    from diffusers import StableDiffusionPipeline

    models = write_small(tmp_path, second=second)
    states = [model.state_dict() for model in models]
    if prefixed:
        states[2] = {f"text_model.{name.removeprefix('text_model.')}": one for name, one in states[2].items()}

    tensors = to_single_file(*states)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "whole.safetensors")

    pipeline = StableDiffusionPipeline.from_single_file(
        str(tmp_path / "whole.safetensors"), config=str(tmp_path), local_files_only=True, safety_checker=None
    )
    for model, ours in zip((pipeline.unet, pipeline.vae, pipeline.text_encoder), models, strict=True):
        theirs = model.state_dict()
        assert theirs.keys() == ours.state_dict().keys()
        assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.state_dict().items())


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="not the names of a UNet"):
        to_single_file({"a": torch.ones(1)}, {}, {"embeddings.token_embedding.weight": torch.ones(2, 768)})
    with pytest.raises(ValueError, match="CLIP text encoder"):
        to_single_file({}, {}, {"a": torch.ones(1)})


@pytest.mark.parametrize(
    ("family", "architecture", "version"),
    [
        (Family(), "stable-diffusion-v1", "sd_v1"),
        (Family(1024), "stable-diffusion-v2-512", "sd_v2"),
        (Family(1024, "v_prediction"), "stable-diffusion-v2-768-v", "sd_v2_v"),
    ],
)
def test_the_header_says_which_stable_diffusion(family: Family, architecture: str, version: str) -> None:
    metadata = single_file_metadata(
        title="ann", resolution=512, family=family, licence="openrail++", trigger_phrase="sks woman"
    )

    assert metadata["modelspec.architecture"] == architecture
    assert family.version == version
    assert all(isinstance(value, str) for value in metadata.values())


def test_every_entry_of_a_checkpoint_s_header_is_what_was_told() -> None:
    assert single_file_metadata(
        title="ann", resolution=640, family=Family(1024, "v_prediction"), licence="openrail++", trigger_phrase="sks"
    ) == {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v2-768-v",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": "ann",
        "modelspec.resolution": "640x640",
        "modelspec.prediction_type": "v",
        "modelspec.trigger_phrase": "sks",
        "modelspec.license": "openrail++",
    }


def test_every_weight_has_a_place_of_its_own_in_the_checkpoint_s_shape() -> None:
    """Of models without memory: names and shapes alone. A VAE's attention is of kernels there."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel(block_out_channels=(32, 64, 64, 64), cross_attention_dim=768),
            "vae": AutoencoderKL(block_out_channels=(32,), layers_per_block=2),
            "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_size=768, num_hidden_layers=2)),
        }
    states = {part: model.state_dict() for part, model in parts.items()}
    tensors = to_single_file(*states.values())
    places = set()
    for part, state in states.items():
        names = [name for name in state if "position_ids" not in name]
        pieces = pieces_of(part, names, tensors.keys())
        assert pieces.keys() == set(names)
        places |= {piece.key for piece in pieces.values()}
        for name, piece in pieces.items():
            attention = part == "vae" and name.endswith(".weight") and ".attentions." in name and "norm" not in name
            assert tensors[piece.key].shape == state[name].shape + (1, 1) * attention, name
    assert places == set(tensors)
    assert len(places) == sum("position_ids" not in name for state in states.values() for name in state)
